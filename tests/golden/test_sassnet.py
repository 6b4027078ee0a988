"""SASSNet against its official code: both losses through the method's own `step`, discriminator and distances."""

from __future__ import annotations

import pytest
import torch

from distance_checks import TwoHeads, check_distances, check_schedules
from golden_files import golden
from semiseg.batches.batch import Batch
from semiseg.ingredients.signed_distance import signed_distances
from semiseg.networks.discriminator import Discriminator
from stand_ins import clock, close, labels, leaf, loss_of, make_method, tensor

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module")
def g():
    return golden("sassnet")


def discriminator(g):
    weights = {key.removeprefix("disc/w/"): tensor(g[key]) for key in g if key.startswith("disc/w/")}
    width, channels = weights["conv1.weight"].shape[:2]
    found = Discriminator(weights["conv0.weight"].shape[1], channels, 3, width).double()
    found.load_state_dict(weights)
    return found


class NoDropout(torch.nn.Module):
    """A discriminator that stays in evaluation mode, as in the file."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, maps, images):
        return self.net.eval()(maps, images)


@pytest.mark.parametrize("case", ["sup", "sup_one_empty", "sup_all_empty"])
def test_supervised_terms_of_a_step(g, case):
    logits, distances = leaf(g[f"{case}/seg_logits"]), leaf(g[f"{case}/sdf_pre_tanh"])
    n, target = int(g[f"{case}/labeled_bs"]), labels(g[f"{case}/labels"])
    beta = float(g[f"{case}/beta"])
    method = make_sassnet((len(logits), 2, *logits.shape[2:]), distance_weight=beta)
    method.net = TwoHeads(logits, distances)
    method.discriminator = discriminator(g)
    close(signed_distances(target[:n], 2).squeeze(1), g[f"{case}/gt_dis"], **CLOSE)
    images = torch.ones(len(logits), 1, *logits.shape[2:], dtype=torch.float64)
    loss = loss_of(method, Batch(images, target[:n]), clock(step=int(g[f"{case}/iter_num"])))
    supervised = loss.terms["supervised"] + beta * loss.terms["distance"]
    supervised.backward(retain_graph=True)
    close(loss.terms["supervised"], g[f"{case}/loss_seg_dice"], **CLOSE)
    close(loss.terms["distance"], g[f"{case}/loss_sdf"], **CLOSE)
    close(supervised, g[f"{case}/supervised_loss"], **CLOSE)
    close(loss.weights["adversarial"], g[f"{case}/weight"], **CLOSE)
    close(logits.grad, g[f"{case}/grad_seg_logits"], **CLOSE)
    close(distances.grad, g[f"{case}/grad_sdf_pre_tanh"], **CLOSE)
    logged = torch.nn.functional.binary_cross_entropy_with_logits(logits[:n, 0], target[:n].double())
    close(logged, g[f"{case}/loss_seg_bce_logged"], rtol=1e-5)


def make_sassnet(shape, **options):
    return make_method("sassnet-official", shape, discriminator_width=1, **options)


class Enlarged(TwoHeads):
    """Distances whose voxels are repeated along every axis."""

    def __init__(self, distances, times):
        super().__init__(torch.zeros_like(enlarge(distances, times)), distances)
        self.times = times

    def with_distances(self, images):
        logits, distances = super().with_distances(images)
        return logits, enlarge(distances, self.times)


def enlarge(x, times):
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(times, axis)
    return x


def test_both_losses_of_the_discriminator_in_a_step(g):
    times, distances = int(g["disc/repeat"]), leaf(g["disc/pre_tanh_low"])
    images = enlarge(tensor(g["disc/image_low"]), times)
    n = int(g["disc/disc_target"].sum())
    assert g["disc/disc_target"].tolist() == [1] * n + [0] * (len(images) - n)
    method = make_sassnet((len(images), 2, *images.shape[2:]))
    judge = discriminator(g)
    method.net, method.discriminator = Enlarged(distances, times), NoDropout(judge)
    losses = method.step(Batch(images, torch.zeros(n, *images.shape[2:], dtype=torch.long)), clock())
    adversarial = next(losses).terms["adversarial"]
    adversarial.backward()
    close(adversarial, g["disc/loss_adv"], **CLOSE)
    close(distances.grad, g["disc/grad_pre_tanh_low"], rtol=1e-6, atol=1e-12)
    judge.zero_grad()
    second = next(losses)
    second.total.backward()
    assert second.group == "discriminator"
    close(second.total, g["disc/D_loss"], **CLOSE)
    close(judge.classifier.weight.grad, g["disc/grad_classifier_weight"], **CLOSE)
    assert next(losses, None) is None
    maps = enlarge(torch.tanh(distances.detach()), times)
    close(judge(maps, images), g["disc/disc_out"], **CLOSE)
    close(judge(maps[n:], images[n:]), g["disc/gen_out"], **CLOSE)


def test_size(g):
    assert sum(p.numel() for p in Discriminator(1, 1, 3, 64).parameters()) == int(g["disc/n_params_full_width"])


def test_distances(g):
    check_distances(g)


def test_schedules(g):
    check_schedules(g, make_sassnet((2, 2, 8, 8)).config)
