"""What every registered method must do, in 2D and 3D, for two and for four classes."""

from __future__ import annotations

import inspect
import json
import re
from copy import deepcopy
from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from torch import nn

from semiseg.batches.batch import Batch
from semiseg.ingredients.ema import Teacher
from semiseg.methods.base import Clock, Method, Task, Tiles, entry, registry
from semiseg.networks import build_network
from semiseg.training.execution import ExecutionMode, execute

SIDE = {2: 16, 3: 8}
METHODS = sorted(registry())
LATE = 60
"""A step, of 100, that is after the supervised start of the methods that have one."""
EAGER = {
    "dst-paper": {"threshold": 0.3},
    "psmt": {"ramp_length": None},
    "psmt-official": {"ramp_length": None, "jitter": 0.0, "blur": 0.0},
    "tracoco": {"ramp_length": None},
    "tracoco-paper": {"ramp_length": None},
    "caml": {"memory": 2},
    "caml-official": {"memory": 2},
    "distillmatch": {"weight": 0.1},
    "distillmatch-official": {"weight": 0.1},
}
"""Options with which methods that wait for confident labels do not wait for more steps than there are here, with which
others first learn something of labels, and with which these images keep the brightness that tells their class."""


def make(name: str, dims: int, classes: int, seed: int = 0) -> Method:
    """A method on a tiny U-Net."""
    torch.manual_seed(seed)
    build = partial(
        build_network,
        "unet",
        channels=1,
        classes=classes,
        spatial_dims=dims,
        filters=(4, 8),
        strides=((1,) * dims, (2,) * dims),
        normalisation="batch",
    )
    voxels = tuple(1000 // 4**c for c in range(classes))
    return entry(name).build(EAGER.get(name, {}), Task(classes, 1, dims, voxels), build).train()


def make_batch(dims: int, classes: int, labelled: int = 2, unlabelled: int = 2, seed: int = 1) -> Batch:
    """Images whose brightness tells the class."""
    generator = torch.Generator().manual_seed(seed)
    shape = (labelled + unlabelled, *(SIDE[dims],) * dims)
    classes_of = torch.randint(classes, shape, generator=generator)
    images = (classes_of + 0.1 * torch.randn(shape, generator=generator)).unsqueeze(1)
    return Batch(images, classes_of[:labelled], tuple(f"case{i}" for i in range(shape[0])))


def optimisers(method: Method, lr: float = 0.05) -> dict[str, torch.optim.Optimizer]:
    """SGD, or the Adam of a group's own, which with a rate made for the others could diverge."""
    own = method.optimisers()
    return {
        name: torch.optim.AdamW(group, lr=own[name].lr if lr else 0.0, betas=own[name].betas, weight_decay=0.0)
        if name in own
        else torch.optim.SGD(group, lr=lr, momentum=0.9)
        for name, group in method.groups().items()
    }


def train(
    method: Method, batch: Batch, step: int, optimiser, steps: int = 100, bf16: bool = False, stage: int = -1
) -> list[dict]:
    """One step as the engine makes it, by default of the last stage; the loss terms of every yield."""
    torch.manual_seed(1000 + step)
    losses, found = method.step(batch, Clock(step, steps, step, steps, method.stages()[stage].name)), []
    while True:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = next(losses, None)
            total = None if loss is None else loss.total
        if total is None:
            return found
        optimiser[loss.group].zero_grad()
        total.backward()
        optimiser[loss.group].step()
        found.append({name: term.detach() for name, term in loss.terms.items()} | {"total": total.detach()})


@pytest.mark.parametrize("name", METHODS)
def test_networks_have_names_and_answer_by_themselves(name):
    method, images = make(name, 2, 4).eval(), make_batch(2, 4).images
    networks = method.networks()
    assert {id(net) for net in method.predictors()} <= {id(net) for net in networks.values()}
    for net in networks.values():
        assert net(images).shape == (4, 4, 16, 16)


def every_case(function):
    function = pytest.mark.parametrize("classes", [2, 4])(function)
    function = pytest.mark.parametrize("dims", [2, 3])(function)
    return pytest.mark.parametrize("name", METHODS)(function)


def all_finite(method: Method, found: list[dict]) -> bool:
    values = [term for terms in found for term in terms.values()]
    values += [value for value in method.state_dict().values() if value.is_floating_point()]
    return bool(found) and all(torch.isfinite(value).all() for value in values)


@every_case
@pytest.mark.parametrize("bf16", [False, True])
def test_steps_are_finite_and_reach_every_parameter(name, dims, classes, bf16):
    method = make(name, dims, classes)
    optimiser, reached = optimisers(method), set()
    for step in (0, LATE):
        found = train(method, make_batch(dims, classes), step, optimiser, bf16=bf16)
        assert all_finite(method, found)
        reached |= {key for key, p in method.named_parameters() if p.grad is not None and bool(p.grad.any())}
    trained = {key for key, p in method.named_parameters() if p.requires_grad}
    # The bias of a convolution before a normalisation has a gradient of exactly zero in exact arithmetic.
    assert {key for key in trained - reached if not key.endswith("bias")} == set()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    grouped = [p for group in method.groups().values() for p in group]
    assert {id(p) for p in grouped} == {id(p) for p in method.parameters() if p.requires_grad}
    assert len({id(p) for p in grouped}) == len(grouped)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("dims", "classes"), [(2, 4), (3, 2)])
def test_layouts_learn_the_same(name, dims, classes):
    """In float32, to 1e-3 of a loss term after an update; what rounding decides (a label, a component) may differ."""
    found = []
    for layout in ("contiguous", "channels_last"):
        method, mode = make(name, dims, classes), ExecutionMode(layout)
        execute(method, mode, dims)
        optimiser, batch = optimisers(method, lr=0.01), make_batch(dims, classes)
        batch = replace(batch, images=batch.images.to(memory_format=mode.memory_format(dims)))
        found.append([train(method, batch, step, optimiser) for step in (0, LATE)])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@every_case
def test_every_stage_steps(name, dims, classes):
    method = make(name, dims, classes)
    optimiser, stages = optimisers(method), method.stages()
    for number in range(len(stages)):
        assert all_finite(method, train(method, make_batch(dims, classes), number, optimiser, stage=number))
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert len({stage.name for stage in stages}) == len(stages)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in METHODS if entry(name).cls.refresh is not Method.refresh])
def test_steps_after_a_refresh_are_finite(name, dims, classes):
    method, batch = make(name, dims, classes), make_batch(dims, classes)
    optimiser = optimisers(method)
    tiles = Tiles(batch.unlabelled, torch.ones_like(batch.unlabelled[:, 0], dtype=torch.bool))
    for number, stage in enumerate(method.stages()):
        with torch.no_grad():
            method.eval().refresh([tiles, tiles], Clock(number, 100, number, 100, stage.name))
        assert all_finite(method.train(), train(method, batch, number, optimiser, stage=number))


@every_case
def test_teachers_follow_without_gradient(name, dims, classes):
    method = make(name, dims, classes)
    teachers = [module for module in method.modules() if isinstance(module, Teacher)]
    before = [nn.utils.parameters_to_vector(teacher.parameters()).clone() for teacher in teachers]
    for step in (3, 4):  # in two epochs, since some teachers take turns
        train(method, make_batch(dims, classes), step, optimisers(method))
    for old, teacher in zip(before, teachers, strict=True):
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
        assert not torch.equal(old, nn.utils.parameters_to_vector(teacher.parameters()))


@every_case
def test_batch_without_foreground(name, dims, classes):
    method, batch = make(name, dims, classes), make_batch(dims, classes)
    empty = Batch(batch.images, torch.zeros_like(batch.labels), batch.cases)
    assert all_finite(method, train(method, empty, LATE, optimisers(method)))


@every_case
def test_constant_images_and_a_class_of_one_voxel(name, dims, classes):
    method, batch = make(name, dims, classes), make_batch(dims, classes)
    labels = torch.zeros_like(batch.labels)
    labels[(0,) * labels.ndim] = classes - 1
    flat = Batch(torch.zeros_like(batch.images), labels, batch.cases)
    assert all_finite(method, train(method, flat, LATE, optimisers(method)))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bf16", [False, True])
def test_logits_that_are_far_off(name, bf16):
    """A network that says +-10 000: every term and every gradient is finite, with and without a labelled foreground."""
    batch = make_batch(3, 4)
    for labels in (batch.labels, torch.zeros_like(batch.labels)):
        method = make(name, 3, 4)
        with torch.no_grad():
            heads = [p for key, p in method.named_parameters() if re.search(r"head\w*\.(\w+\.)*weight$", key)]
            assert heads
            for weight in heads:
                weight.mul_(2e4)
            assert method.eval().predictors()[0](batch.images).abs().max() > 1e4
        found = train(method.train(), Batch(batch.images, labels, batch.cases), LATE, optimisers(method, 0), bf16=bf16)
        assert all_finite(method, found)
        assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


@every_case
@pytest.mark.parametrize(("labelled", "unlabelled"), [(1, 1), (2, 0)])
def test_small_batches(name, dims, classes, labelled, unlabelled):
    method, batch = make(name, dims, classes), make_batch(dims, classes, labelled, unlabelled)
    assert all_finite(method, train(method, batch, LATE, optimisers(method)))


@every_case
def test_saved_state_continues_bit_equal(name, dims, classes):
    first, batch = make(name, dims, classes), make_batch(dims, classes)
    optimiser = optimisers(first)
    for step in (LATE, LATE + 1):
        train(first, batch, step, optimiser)
    second = make(name, dims, classes, seed=9)
    resumed = optimisers(second)
    second.load_state_dict(deepcopy(first.state_dict()))
    second.load_extra_state(json.loads(json.dumps(first.extra_state())))
    for key, saved in optimiser.items():
        resumed[key].load_state_dict(deepcopy(saved.state_dict()))
    one, other = (train(m, batch, LATE + 2, o) for m, o in ((first, optimiser), (second, resumed)))
    assert [t["total"] for t in one] == [t["total"] for t in other]
    assert first.extra_state() == second.extra_state()
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@every_case
def test_predictions_are_probabilities(name, dims, classes):
    method = make(name, dims, classes).eval()
    images = make_batch(dims, classes).images
    before = deepcopy(method.state_dict())
    with torch.no_grad():
        probabilities = method.predict(images)
        assert torch.equal(probabilities, method.predict(images))
    assert probabilities.shape == (len(images), classes, *images.shape[2:])
    torch.testing.assert_close(probabilities.sum(1), torch.ones_like(probabilities[:, 0]))
    assert all(torch.equal(value, method.state_dict()[key]) for key, value in before.items())


@every_case
def test_predicting_networks_are_named(name, dims, classes):
    method = make(name, dims, classes).eval()
    images, networks = make_batch(dims, classes).images, method.predictors()
    assert networks
    taps = tuple(tap for tap in networks[0].taps if tap.startswith("dec"))
    assert taps
    with torch.no_grad():
        found = [network.tapped(images, taps) for network in networks]
        mean = torch.stack([logits for logits, _ in found]).mean(0).softmax(1)
        torch.testing.assert_close(method.predict(images), mean)
    for network, (_, features) in zip(networks, found, strict=True):
        assert {tap: (len(f[0]), images.shape[2] // f.shape[2]) for tap, f in features.items()} == {
            tap: (network.taps[tap].channels, network.taps[tap].stride[0]) for tap in taps
        }


@every_case
def test_supervised_loss_falls(name, dims, classes):
    method, batch = make(name, dims, classes), make_batch(dims, classes)
    optimiser = optimisers(method)
    values = [train(method, batch, step, optimiser, stage=0)[0]["supervised"].item() for step in range(20)]
    assert sum(values[-3:]) / 3 < values[0] - 0.05


@pytest.mark.parametrize("name", METHODS)
def test_options_are_bounded_and_documented(name):
    cls = entry(name).cls
    for option, field in cls.Config.model_fields.items():
        assert field.description, f"{name}.{option} has no description"
        assert not field.is_required(), f"{name}.{option} has no default"
    assert cls.__doc__
    assert entry(name).paper
    assert cls.__mro__[1] is Method, "a method is abstract or final: none inherits from another"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_short_file(name):
    lines = inspect.getsource(inspect.getmodule(entry(name).cls)).splitlines()
    assert len(lines) <= 120, "move what is general into an ingredient, and parts of its own beside it"


@pytest.mark.parametrize("name", METHODS)
def test_observations_are_small_tensors(name):
    method = make(name, 2, 3)
    train(method, make_batch(2, 3), 0, optimisers(method))
    for value in method.observations().values():
        assert value.numel() <= 64
        assert not value.requires_grad


def test_a_batch_holds_no_labels_of_unlabelled_patches():
    assert {field.name for field in fields(Batch)} == {"images", "labels", "cases", "places"}
    batch = make_batch(2, 3, labelled=2, unlabelled=3)
    assert (batch.n, len(batch.labels), len(batch.labelled), len(batch.unlabelled)) == (2, 2, 2, 3)


@pytest.mark.parametrize("name", METHODS)
def test_unlabelled_images_matter_only_where_declared(name):
    batch = make_batch(2, 3)
    changed = Batch(torch.cat([batch.labelled, batch.unlabelled.flip(2) + 1]), batch.labels)
    weights = []
    for each in (batch, changed):
        method = make(name, 2, 3)
        optimiser = optimisers(method)
        for step in (LATE, LATE + 1):
            train(method, each, step, optimiser)
        weights.append(nn.utils.parameters_to_vector([p for p in method.parameters() if p.requires_grad]).detach())
    assert torch.equal(*weights) != entry(name).cls.uses_unlabelled
