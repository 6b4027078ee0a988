"""Every ingredient gives finite values and gradients where networks are far off: logits and features of +-10 000.

The table holds every public function and module of `semiseg.ingredients`, and of the parts that lie beside a method; a
new one has to be added, or exempted with a reason.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

import semiseg.ingredients
import semiseg.methods
from semiseg.batches.places import Place
from semiseg.ingredients import (
    adaptive_thresholds,
    adversarial,
    class_contrast,
    class_performance,
    class_sampling,
    class_sums,
    class_weights,
    co_training,
    confidence,
    consistency,
    dices,
    discrepancy,
    discrimination,
    ensemble,
    features,
    levels,
    losses,
    masked,
    mixing,
    prior,
    prototypes,
    pseudo_labels,
    pyramid,
    reduce,
    regions,
    sample_losses,
    score_histogram,
    sharpening,
    signed_distance,
    strong_views,
    sure_labels,
    volume_memory,
)
from semiseg.ingredients.class_memory import ClassMemory
from semiseg.methods.admt import teaching
from semiseg.methods.admt import views as admt_views
from semiseg.methods.asenet.method import three_way
from semiseg.methods.base import Method
from semiseg.methods.caml import correlation
from semiseg.methods.caml.memory import ImageMemory
from semiseg.methods.crest import labeller
from semiseg.methods.distillmatch import views as distillmatch_views
from semiseg.methods.distillmatch.method import sure_dice
from semiseg.methods.ducisc import ablations, thresholds, totals
from semiseg.methods.eic.autoencoder import noisy_one_hot
from semiseg.methods.fussnet import aleatoric
from semiseg.methods.fussnet import losses as branch_losses
from semiseg.methods.lefed import feedback
from semiseg.methods.micd import masking
from semiseg.methods.mlrpl import reliability
from semiseg.methods.simcvd import contrast
from semiseg.methods.tracoco import crops
from semiseg.methods.tracoco.pseudo import confident_loss

EXTREME, CLASSES, WIDTH = 1e4, 3, 4
COUNTS = (900.0, 100.0, 0.0)
"""Voxels per class of the labelled scans; one class has none."""


class Given:
    """Tensors of one situation; those made by `logits` and `features` are watched for their gradients."""

    def __init__(self, sides: tuple[int, ...], samples: int, labels: str, keep: str, half: bool, scale: float) -> None:
        torch.manual_seed(0)
        self.sides, self.samples, self.scale = sides, samples, scale
        self.dtype = torch.bfloat16 if half else torch.float32
        self._labels, self._keep = labels, keep
        self.watched: list[Tensor] = []

    def logits(self, channels: int = CLASSES) -> Tensor:
        sign = torch.randint(2, (self.samples, channels, *self.sides)) * 2 - 1
        self.watched.append((self.scale * sign).to(self.dtype).requires_grad_())
        return self.watched[-1]

    def features(self) -> Tensor:
        return self.logits(WIDTH)

    def several(self, count: int = 2) -> list[Tensor]:
        return [self.logits() for _ in range(count)]

    def rows(self) -> tuple[Tensor, Tensor]:
        """Feature vectors `[M, WIDTH]` and their labels."""
        return class_contrast.rows_of(self.features()), self.labels().flatten()

    def labels(self) -> Tensor:
        drawn = torch.randint(CLASSES, (self.samples, *self.sides))
        return drawn if self._labels == "all" else torch.zeros_like(drawn)

    def probabilities(self) -> Tensor:
        """Saturated, of a network that is not trained here."""
        return class_sums.probabilities(self.logits()).detach()

    def keep(self) -> Tensor:
        drawn = torch.rand(self.samples, *self.sides) < 0.5
        return {"some": drawn, "none": torch.zeros_like(drawn), "all": torch.ones_like(drawn)}[self._keep]

    def view(self) -> levels.View:
        return levels.View(self.images(), self.several(), [self.features(), self.features()], self.masks())

    def masks(self) -> list[Tensor]:
        return levels.one_hots([self.labels(), self.labels()], CLASSES)

    def images(self) -> Tensor:
        return torch.randn(self.samples, 1, *self.sides)

    def net(self) -> nn.Module:
        torch.manual_seed(1)
        net = nn.Conv3d(1, CLASSES, 1)
        with torch.no_grad():
            net.weight.mul_(self.scale)
        self.watched += net.parameters()
        return net

    def memory(self) -> tuple[ClassMemory, class_contrast.Selectors]:
        memory, selectors = ClassMemory(CLASSES, 4, WIDTH), class_contrast.Selectors(CLASSES, WIDTH)
        for label in (1, 2):
            memory.replace(label, self.scale * torch.ones(2, WIDTH))
        with torch.no_grad():
            selectors.last_bias.fill_(-self.scale)  # scores that underflow
        self.watched += selectors.parameters()
        return memory, selectors


def _weighed(g: Given) -> list[Tensor]:
    out = []
    for kind in ("diff", "dist", "crest", "simis", "cld", "none"):
        weights = class_weights.make_weights(kind, COUNTS, 50, 0.99, strict=False)
        out += [weights.update(g.labels(), g.labels()[:1]) for _ in range(3)]
        out.append(weights.update(torch.arange(CLASSES).view(-1, 1, 1, 1), torch.zeros(0, 1, 1, 1)))  # equally frequent
    return out


def _forms(call: Callable[[Any], Tensor]) -> list[Tensor]:
    return [call(form) for form in losses.FORMS]


def _all_dices(g: Given) -> list[Tensor]:
    return [
        found
        for pair in dices.DICES.values()
        for found in (
            losses.soft_dice(g.logits(), g.labels(), pair.supervised),
            consistency.probability_dice(g.logits(), g.probabilities(), pair.between, pooled=pair.pooled),
        )
    ]


def _thresholds(g: Given) -> list[Tensor]:
    out = []
    for exact in (False, True):
        bank = adaptive_thresholds.AdaptiveThresholds(CLASSES, 2 * max(g.samples, 1), exact=exact)
        out += [bank.update(g.probabilities(), step) for step in range(5)]
        bank.take(score_histogram.label_histogram(g.probabilities()[:, 0], g.labels(), CLASSES))
        out.append(bank.value)
    return out


def _volume_memory(g: Given) -> list[Tensor]:
    memory = volume_memory.VolumeMemory(CLASSES, 0.6)
    cases, places = ["case"] * g.samples, [Place.whole(g.sides)] * g.samples
    if not g.samples:
        return []
    memory.update(cases, places, g.probabilities())
    return list(memory.read(cases, places, g.sides))


def _self_aware(g: Given) -> Tensor:
    found = thresholds.SelfAwareThresholds(CLASSES, 2, 0.99, (0.3, 0.95))
    found.update(0, g.logits(), g.labels())
    return found.value


def _selected(g: Given) -> list[Tensor]:
    def teach(images: Tensor) -> levels.Levels:
        return levels.Levels(g.several()[: len(images) + 2], [])

    out = []
    for selection in ("self_aware", "all", "probability", "entropy"):
        chosen = ablations.make_selection(ablations.AblationOptions(selection=selection), CLASSES, 2, 0)
        chosen.follow(g.several(), [g.labels(), g.labels()])
        out += [*chosen.keep(teach, g.images(), [g.probabilities(), g.probabilities()], 0.5)]
        out += [*chosen.observations().values()]
    return out


def _mean_of_passes(g: Given) -> list[Tensor]:
    net = g.net()
    return confidence.monte_carlo_mean(lambda images: [class_sums.probabilities(net(images))], g.images(), 4)


def _remembered(g: Given) -> list[Tensor]:
    memory, selectors = g.memory()
    class_contrast.remember(memory, selectors, *g.rows(), selected="lowest")
    return [memory.vectors, memory.mean_direction(1), memory.of(1)]


def _drawn(g: Given) -> list[Tensor]:
    memory, masks = ImageMemory(2, CLASSES, 1, WIDTH), levels.one_hot(g.labels(), CLASSES).bool().flatten(2)
    at, valid = memory.choose(masks)
    rows = g.features().flatten(2).transpose(1, 2).take_along_dim(at.flatten(1).unsqueeze(2), 1)
    memory.replace([str(row) for row in range(len(rows))], rows.view(*at.shape, WIDTH), valid, masks.sum(2))
    return [memory.draw()]


def _correlated(g: Given) -> Tensor:
    memory = torch.randn(5, WIDTH)
    found = [correlation.correlations(g.rows()[0], memory, 0.1) for _ in range(2)]
    return correlation.correlation_loss(*found)


def _prior(g: Given) -> list[Tensor]:
    out = []
    for kind in ("class", "position"):
        found = prior.PredictionPrior(CLASSES, len(g.sides), kind, 0.99)
        found.update(g.logits())
        out += [found.value, found.bias()]
        found.value = 0 * found.value  # of a class that was never predicted, for long
        out.append(found.bias())
    return out


def _performance(g: Given) -> Tensor:
    found = class_performance.ClassPerformance(CLASSES)
    found.update(g.logits(), g.labels(), 0, 2)
    return found.update(g.logits(), g.labels(), 1, 2)


def _measured(g: Given) -> Tensor:
    found = class_sampling.ClassConfidence(CLASSES, 2, 0.999)
    found.update(g.logits(), g.labels(), 0)
    return class_sampling.sampling_rates(found.update(g.logits(), g.labels(), 1), 0.5)


def _prototypes(g: Given) -> list[Tensor]:
    out = []
    for absent in ("level", "class"):
        for reduction in ("mean", "sum"):
            a, b = (prototypes.level_prototypes(g.view()) for _ in range(2))
            pairings = ("batch", "image") if g.samples else ("batch",)
            out += [prototypes.prototype_loss(a, b, pairing, absent, reduction) for pairing in pairings]
    return out


def _mixed(g: Given) -> list[Tensor]:
    if not g.samples:
        return []
    found = [mixer()(g.images(), g.labels(), g.images(), g.probabilities()) for mixer in ablations.MIXERS.values()]
    return [value for mixture in found for value in mixture]


def _hidden(g: Given) -> list[Tensor]:
    return [masking.Masking(masking.MaskingOptions(mask_ratio=1.0), len(g.sides)).hide(g.images())]


def _pseudo_labelled(g: Given) -> list[Tensor]:
    found = labeller.PseudoLabeller([g.net()], torch.ones(CLASSES))  # type: ignore[list-item]
    found.follow([g.net()], [(g.images(), g.keep())])  # type: ignore[list-item]
    return [*found(g.images()), found.threshold]


def _taken(g: Given) -> Tensor:
    bank = adaptive_thresholds.AdaptiveThresholds(CLASSES, 4)
    adaptive_thresholds.take_pool([bank], [lambda images: g.net()(images)], [(g.images(), g.keep())])
    return bank.value


def _normalised(g: Given) -> Tensor:
    terms = {"far": losses.cross_entropy(g.logits(), g.labels()), "tiny": 0 * g.logits().float().sum() + 1e-40}
    weights = totals.self_normalised(terms, {"far": 1.0, "tiny": 1.0})
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def _histograms(g: Given) -> list[Tensor]:
    found = score_histogram.channel_histogram(g.probabilities())
    return [found, score_histogram.score_at(found, torch.zeros(CLASSES, dtype=torch.long))]


def _decoders(g: Given) -> list[Tensor]:
    return [features.decoder_consistency([g.features(), g.features()], [g.features(), g.features()])]


WEIGHT = torch.tensor([0.0, 0.0, 5.0])
"""Class weights that leave nothing where the rare class is absent."""

Ingredient = Callable[[Given], Any]


def _usable(g: Given) -> list[Tensor]:
    a, b = (prototypes.level_prototypes(g.view()) for _ in range(2))
    usable = prototypes.UsableLevels(len(a))
    loss, found = prototypes.aligned_levels(a, b, "batch", "level", "mean")
    usable.count(found)
    return [loss, usable.share]


def _aligned(g: Given) -> list[Tensor]:
    out = []
    for kind in ("prototype", "feature"):
        found = ablations.make_alignment(ablations.AblationOptions(alignment=kind), 2, "ulb")
        other = g.view()
        taught = levels.Levels([], [f.detach() for f in other.features])
        out += [found(g.view(), other, lambda images, taught=taught: taught)]
        out += [*found.observations().values()]
    return out


def _aleatoric(g: Given) -> list[Tensor]:
    torch.manual_seed(1)
    head = aleatoric.AleatoricHead(WIDTH, CLASSES, len(g.sides), 2)
    g.watched += head.parameters()
    features, labels = g.features(), g.labels()
    return [*head.distribution(features, labels), *([head(features, labels, 2)] if g.samples else [])]


class _Judge(nn.Module):
    """A verdict that is as extreme as the maps."""

    def forward(self, maps: Tensor, images: Tensor) -> Tensor:
        return maps.flatten(2).mean(2)[:, :2]


def _verdicts(g: Given, loss: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> list[Tensor]:
    return [loss(_Judge(), g.logits(), g.images())] if g.samples else []


def _sampled(g: Given) -> list[Tensor]:
    if not g.samples:
        return []
    mean, diagonal, factor = g.logits(), g.logits().float().abs() + aleatoric.LEAST, g.logits(2 * CLASSES)
    common, single = torch.randn(2, g.samples, 2), torch.randn(2, *mean.shape)
    columns = factor.view(g.samples, 2, CLASSES, *g.sides)
    return [aleatoric.sampled_cross_entropy(mean.float(), diagonal, columns, g.labels(), common, single)]


def _branches(loss: branch_losses.BranchLoss) -> Ingredient:
    def found(g: Given) -> list[Tensor]:
        return [loss(g.logits(), g.labels(), keep) for keep in (None, g.keep())] if g.samples else []

    return found


def _projected(g: Given) -> Tensor:
    torch.manual_seed(1)
    projection = contrast.SliceProjection(CLASSES)
    g.watched += projection.parameters()
    return projection(g.logits())


def _translated(g: Given) -> list[Tensor]:
    shifts = [torch.full((g.samples, len(g.sides)), shift) for shift in (0, 1, max(g.sides))]
    axes: tuple[crops.Axis, ...] = ("space", "classes")
    return [
        part
        for shift in shifts
        for axis in axes
        for part in crops.translation_losses(g.logits(), g.logits(), shift, axis)
    ]


TABLE: dict[str, Ingredient] = {
    "adaptive_thresholds.AdaptiveThresholds": _thresholds,
    "adaptive_thresholds.above": lambda g: adaptive_thresholds.above(g.probabilities(), torch.zeros(CLASSES)),
    "adaptive_thresholds.take_pool": _taken,
    "adversarial.adversarial_direction": lambda g: adversarial.adversarial_direction(
        g.net(), g.images(), g.probabilities(), g.images(), consistency_distance
    ),
    "adversarial.shifted_log": lambda g: adversarial.shifted_log(class_sums.probabilities(g.logits())),
    "adversarial.unit_noise": lambda g: [adversarial.unit_noise(g.features()), adversarial.unit_noise(0 * g.images())],
    "adversarial.virtual_adversarial_loss": lambda g: adversarial.virtual_adversarial_loss(
        g.net(), g.images(), consistency_distance, 10.0
    ),
    "adversarial.worst_case_loss": lambda g: [
        adversarial.worst_case_loss(g.logits(), g.labels(), labelled, 2.0) for labelled in range(g.samples + 1)
    ],
    "class_contrast.Selectors": lambda g: g.memory()[1](1, g.rows()[0]) if g.samples > 1 else [],
    "class_contrast.contrast_loss": lambda g: class_contrast.contrast_loss(*g.memory(), *g.rows()),
    "class_contrast.remember": _remembered,
    "class_contrast.rows_of": lambda g: class_contrast.rows_of(g.features()),
    "class_memory.ClassMemory": _remembered,
    "caml.memory.ImageMemory": _drawn,
    "caml.correlation.correlations": _correlated,
    "caml.correlation.correlation_loss": _correlated,
    "class_performance.ClassPerformance": _performance,
    "class_performance.class_indicators": lambda g: [
        class_performance.class_indicators(g.logits(), g.labels(), pairs=pairs) for pairs in (True, False)
    ],
    "class_performance.fuzzy_ranks": lambda g: class_performance.fuzzy_ranks(torch.eye(3, CLASSES)),
    "class_sampling.ClassConfidence": _measured,
    "class_sampling.sampled": lambda g: class_sampling.sampled(g.labels(), torch.zeros(CLASSES)),
    "class_sampling.sampling_rates": lambda g: class_sampling.sampling_rates(torch.ones(CLASSES), 2.5),
    "class_sums.class_counts": lambda g: class_sums.class_counts(g.labels(), CLASSES),
    "class_sums.class_sums": lambda g: [
        *class_sums.class_sums(g.logits(), g.labels()),
        *class_sums.class_sums(g.logits(), g.labels(), squared=True),
    ],
    "class_sums.full_precision": lambda g: class_sums.full_precision(g.logits()),
    "class_sums.per_class": lambda g: class_sums.per_class(g.logits()[:, 0].float(), g.labels(), CLASSES),
    "class_sums.probabilities": lambda g: class_sums.probabilities(g.logits()),
    "class_sums.sample_sums": lambda g: list(class_sums.sample_sums(g.logits(), g.labels())) if g.samples else [],
    "class_weights.CountedWeights": _weighed,
    "class_weights.DiffDW": _weighed,
    "class_weights.DistDW": _weighed,
    "class_weights.EqualWeights": _weighed,
    "class_weights.FixedWeights": _weighed,
    "class_weights.crest_weights": _weighed,
    "class_weights.inverse_roots": lambda g: class_weights.inverse_roots(torch.tensor(COUNTS)),
    "class_weights.majority_distance": lambda g: class_weights.majority_distance(torch.zeros(CLASSES)),
    "class_weights.make_both_weights": _weighed,
    "class_weights.make_weights": _weighed,
    "class_weights.reversed_shares": lambda g: class_weights.reversed_shares(torch.zeros(CLASSES)),
    "class_weights.simis_weights": _weighed,
    "co_training.observed_weights": _weighed,
    "co_training.supervised_pair": lambda g: _forms(
        lambda form: co_training.supervised_pair(g.several(), g.labels()[:1], form, (None, WEIGHT))
    ),
    "co_training.weighted_terms": lambda g: list(
        co_training.weighted_terms(
            g.several(),
            g.labels()[:1],
            "dhc",
            [class_weights.make_weights(kind, COUNTS, 50, 0.99, strict=False) for kind in ("diff", "dist")],
        ).values()
    ),
    "ducisc.thresholds.SelfAwareThresholds": _self_aware,
    **dict.fromkeys(
        [
            "ducisc.thresholds.SelfAwareSelection",
            "ducisc.ablations.make_selection",
            "ducisc.ablations.EveryVoxel",
            "ducisc.ablations.ProbableVoxels",
            "ducisc.ablations.LowEntropyVoxels",
        ],
        _selected,
    ),
    "ducisc.ablations.MonteCarloVoxels": _mean_of_passes,
    "confidence.entropy": lambda g: confidence.entropy(class_sums.probabilities(g.logits())),
    "confidence.low_entropy": lambda g: confidence.low_entropy(g.probabilities(), 1.0),
    "confidence.monte_carlo_mean": _mean_of_passes,
    "confidence.probable": lambda g: confidence.probable(g.probabilities(), 0.95),
    "consistency.add_noise": lambda g: consistency.add_noise(g.logits(), torch.ones(()), 0.1),
    "consistency.noisy": lambda g: consistency.noisy(g.images(), 0.1),
    "consistency.probability_dice": _all_dices,
    "consistency.probability_mse": lambda g: [
        consistency.probability_mse(g.logits(), g.logits(), mutual=mutual) for mutual in (True, False)
    ],
    "discrepancy.direction": lambda g: [discrepancy.direction(g.features()), discrepancy.direction(0 * g.features())],
    "discrepancy.cosine_similarity_loss": lambda g: discrepancy.cosine_similarity_loss(g.features(), 0 * g.features()),
    "discrepancy.mutual_similarity_loss": lambda g: discrepancy.mutual_similarity_loss(g.features(), g.features()),
    "ensemble.ensemble_probabilities": lambda g: [
        ensemble.ensemble_probabilities([g.net(), g.net()], g.images(), average)
        for average in ("logits", "probabilities")
    ],
    "features.channel_kl": lambda g: features.channel_kl(g.features(), g.features()),
    "features.decoder_consistency": _decoders,
    "ducisc.ablations.feature_mse": lambda g: ablations.feature_mse([g.features()], [g.features()]),
    "lefed.feedback.feature_difference": lambda g: [
        feedback.feature_difference(g.features(), g.features(), encoding)
        for encoding in ("a_minus_b", "b_minus_a", "absolute", "entropy")
    ],
    "crest.labeller.PseudoLabeller": _pseudo_labelled,
    "levels.one_hot": lambda g: levels.one_hot(g.labels(), CLASSES),
    "levels.one_hots": lambda g: levels.one_hots([g.labels()], CLASSES),
    "levels.resize_linear": lambda g: levels.resize_linear(g.logits(), g.sides) if g.samples else [],
    "levels.resize_nearest": lambda g: levels.resize_nearest(g.logits(), (1,) * len(g.sides)),
    "losses.cross_entropy": lambda g: [
        losses.cross_entropy(g.logits(), g.labels()),
        losses.cross_entropy(g.logits(), g.labels(), WEIGHT),
    ],
    "losses.cross_pseudo_loss": lambda g: losses.cross_pseudo_loss(
        g.several(), [g.labels(), g.labels()], (None, WEIGHT)
    ),
    "losses.dice_ce": lambda g: [
        *_forms(lambda form: losses.dice_ce(g.logits(), g.labels(), form)),
        *_forms(lambda form: losses.dice_ce(g.logits(), g.labels(), form, WEIGHT)),
    ],
    "losses.hard_dice": lambda g: losses.hard_dice(g.labels(), g.labels(), CLASSES),
    "losses.kept_cross_entropy": lambda g: [
        losses.kept_cross_entropy(g.logits(), g.labels(), g.keep(), weight, over)
        for weight in (None, WEIGHT)
        for over in ("all", "kept")
    ],
    "losses.soft_dice": _all_dices,
    "masked.labelled_levels": lambda g: masked.labelled_levels([g.logits()], [g.labels()]) if g.samples else [],
    "masked.dice_ce_parts": lambda g: list(masked.dice_ce_parts(g.logits(), g.labels())) if g.samples else [],
    "masked.dice_of_sums": _all_dices,
    "masked.masked_levels": lambda g: [
        masked.masked_levels(g.view(), [g.keep(), g.keep()], form, reduction)
        for form in ("ce", "kl")
        for reduction in ("mean", "sum")
    ],
    "masked.masked_parts": lambda g: [
        part for form in ("ce", "kl") for part in masked.masked_parts(g.logits(), g.probabilities(), g.keep(), form)
    ],
    "masked.masked_probability_mse": lambda g: masked.masked_probability_mse(g.logits(), g.probabilities(), g.keep()),
    "masked.over_levels": lambda g: masked.over_levels(
        [masked.masked_parts(g.logits(), g.probabilities(), g.keep()), masked.dice_ce_parts(g.logits(), g.labels())]
    ),
    "micd.masking.Masking": _hidden,
    "mixing.paste": lambda g: mixing.paste(g.images(), g.images(), mixing.outside_box([0] * 3, [1] * 3, g.sides)),
    "mixing.paste_partners": lambda g: mixing.paste_partners(g.images(), torch.ones(g.sides, dtype=torch.bool), "all"),
    "mixtures.mixup": _mixed,
    **dict.fromkeys([f"ducisc.ablations.{name}" for name in ("CutMix", "CutOut", "CopyPaste")], _mixed),
    "ducisc.mixing.Mixup": _mixed,
    **dict.fromkeys(
        [
            "ducisc.ablations.FeatureAlignment",
            "ducisc.ablations.make_alignment",
            "ducisc.alignment.PrototypeAlignment",
        ],
        _aligned,
    ),
    "prototypes.UsableLevels": _usable,
    "prototypes.aligned_levels": _usable,
    "prior.PredictionPrior": _prior,
    "prototypes.level_prototypes": _prototypes,
    "prototypes.prototype_loss": _prototypes,
    "prototypes.prototype_sums": lambda g: list(prototypes.prototype_sums(g.features(), g.masks()[0])),
    "prototypes.prototypes": lambda g: list(prototypes.prototypes(g.features(), g.masks()[0])),
    "pseudo_labels.confident_labels": lambda g: list(pseudo_labels.confident_labels(g.logits())),
    "pyramid.rectified_consistency": lambda g: pyramid.rectified_consistency(pyramid.spread(g.several(4))),
    "pyramid.spread": lambda g: [t for part in pyramid.spread(g.several(4)) for t in _tensors(part)],
    "regions.region_dice_ce": lambda g: [
        regions.region_dice_ce(g.logits(), g.labels(), where, form)
        for form in ("sample", "batch")
        for where in (torch.ones(g.sides, dtype=torch.bool), torch.zeros(g.sides, dtype=torch.bool))
    ],
    "sharpening.sharpen": lambda g: sharpening.sharpen(g.probabilities(), 0.1),
    "signed_distance.signed_distances": lambda g: signed_distance.signed_distances(g.labels(), CLASSES),
    "adversarial.most_sensitive": lambda g: adversarial.most_sensitive(
        g.net(), g.images(), adversarial.unit_noise(g.images()), 0.1
    ),
    "sure_labels.weighted_sure_loss": lambda g: [
        sure_labels.weighted_sure_loss(g.logits(), g.logits(), threshold) for threshold in (0.5, 1.0)
    ],
    "strong_views.blurred": lambda g: strong_views.blurred(g.images(), torch.full((len(g.images()),), 0.5), 2),
    "discrimination.deception_loss": lambda g: _verdicts(g, discrimination.deception_loss),
    "discrimination.discrimination_loss": lambda g: _verdicts(
        g, partial(discrimination.discrimination_loss, labelled=1)
    ),
    "strong_views.jittered": lambda g: strong_views.jittered(
        g.images(), *(torch.full((len(g.images()),), factor) for factor in (0.5, 1.5)), torch.ones(len(g.images())) > 0
    ),
    "reduce.batch_cat": lambda g: reduce.batch_cat(g.logits()),
    "reduce.batch_sum": lambda g: reduce.batch_sum(g.logits()),
    "sample_losses.sample_dice": lambda g: [
        sample_losses.sample_dice_ce(g.logits(), g.labels(), form) for form in ("sample", *losses.FORMS)
    ],
    "sample_losses.sample_dice_ce": lambda g: sample_losses.sample_dice_ce(g.logits(), g.labels()),
    "score_histogram.channel_histogram": _histograms,
    "score_histogram.label_histogram": _histograms,
    "score_histogram.score_at": _histograms,
    "ducisc.totals.self_normalised": _normalised,
    "volume_memory.VolumeMemory": _volume_memory,
    "admt.teaching.entropy_bits": lambda g: teaching.entropy_bits(class_sums.probabilities(g.logits())),
    "admt.teaching.fuse": lambda g: teaching.fuse(g.logits(), g.logits()),
    "admt.teaching.heard": lambda g: teaching.heard(teaching.fuse(g.logits(), g.logits()), g.logits()),
    "admt.views.jitter": lambda g: admt_views.jitter((g.scale * g.images()).to(g.dtype)),
    "admt.views.within_range": lambda g: [
        admt_views.within_range((g.scale * g.images()).to(g.dtype), *g.images().new_full((2, g.samples, 1, 1, 1, 1), f))
        for f in (0.5, 1.5)
    ],
    "asenet.method.three_way": lambda g: (
        three_way(*(class_sums.probabilities(z) for z in g.several(3))) if g.samples else []
    ),
    "distillmatch.method.sure_dice": lambda g: sure_dice(g.logits(), g.labels(), g.keep()),
    "distillmatch.views.bias_field": lambda g: distillmatch_views.bias_field(g.images().to(g.dtype)),
    "distillmatch.views.with_gamma": lambda g: distillmatch_views.with_gamma((g.scale * g.images()).to(g.dtype)),
    "eic.autoencoder.noisy_one_hot": lambda g: noisy_one_hot(
        g.labels(), CLASSES, torch.rand(g.samples, 1, *g.sides).to(g.dtype)
    ),
    "fussnet.aleatoric.AleatoricHead": _aleatoric,
    "fussnet.aleatoric.sampled_cross_entropy": _sampled,
    **{f"fussnet.losses.{loss.__name__}": _branches(loss) for loss in branch_losses.LOSSES},
    "fussnet.losses.supervised": lambda g: branch_losses.supervised(g.several(4), g.labels()) if g.samples else [],
    "fussnet.losses.certain": lambda g: [
        branch_losses.certain(g.several(4), g.labels(), g.keep(), mask_all=mask_all) for mask_all in (False, True)
    ],
    "fussnet.losses.uncertain": lambda g: branch_losses.uncertain(g.several(4), g.several(4), g.keep()),
    "mlrpl.reliability.reliability": lambda g: reliability.reliability(g.logits(), g.logits(), g.features()),
    "mlrpl.reliability.reliable_cross_entropy": lambda g: reliability.reliable_cross_entropy(
        g.logits(), g.labels(), g.keep(), g.keep().float()
    ),
    "mlrpl.reliability.sample_prototypes": lambda g: reliability.sample_prototypes(g.features(), g.labels(), CLASSES),
    "simcvd.contrast.SliceProjection": _projected,
    "simcvd.contrast.in_cells": lambda g: contrast.in_cells(g.features(), 2),
    "simcvd.contrast.info_nce": lambda g: (
        contrast.info_nce(contrast.patch_vectors(g.features()), contrast.patch_vectors(g.features()), 0.1)
        if g.samples
        else []
    ),
    "simcvd.contrast.patch_vectors": lambda g: contrast.patch_vectors(g.features()),
    "simcvd.contrast.similarity_mse": lambda g: (
        contrast.similarity_mse(_projected(g), _projected(g)) if g.samples else []
    ),
    "tracoco.crops.translation_losses": _translated,
    "tracoco.pseudo.confident_loss": lambda g: [
        confident_loss(g.logits(), g.logits(), 0.5, 0.1, complement) for complement in ("others", "all")
    ],
}

EXEMPT: dict[str, str] = {
    **dict.fromkeys(
        [
            "class_contrast.mlp",
            "co_training.make_pair",
            "co_training.view_pair",
            "ema.Teacher",
            "ema.make_teacher",
            "ducisc.snapshots.Snapshots",
        ],
        "networks",
    ),
    **dict.fromkeys(["ducisc.ablations.make_ensemble", "levels.run_levels", "levels.level_taps"], "networks"),
    "ducisc.views.sure_in_mixture": "masks",
    "ducisc.mixing.draws": "random numbers",
    "mixtures.draw_beta": "random numbers",
    **dict.fromkeys(
        ["ema.ema_decay", "ema.ema_update", "ema.ema_update_buffers", "ema.frozen_statistics", "ema.recomputed"],
        "weights",
    ),
    **dict.fromkeys(
        ["class_sampling.draw", "mixing.draw_outside_box", "mixtures.draw_beta", "mixtures.draw_column_boxes"],
        "random numbers",
    ),
    **dict.fromkeys([f"micd.masking.{name}" for name in ("block_grid", "block_mask", "draw_block_mask")], "places"),
    **dict.fromkeys(["mixing.box_sides", "mixing.outside_box"], "places"),
    **dict.fromkeys(
        ["mixtures.box_mask", "mixtures.centre_box", "mixtures.column_box", "mixtures.corner_box"], "places"
    ),
    **dict.fromkeys(["components.keep_largest", "pseudo_labels.hard_labels", "levels.coarse"], "whole numbers"),
    **dict.fromkeys(["pseudo_labels.threshold_labels", "score_histogram.no_scores", "reduce.processes"], "counts"),
    **dict.fromkeys(
        ["ensemble.of_pair", "mixing.halves", "mixing.in_turn", "mixing.partners", "features.stage_weights"],
        "no arithmetic on tensors",
    ),
    **dict.fromkeys(["fusion.fusable", "fusion.fused", "fusion.is_fused"], "no arithmetic on tensors"),
    **{f"ramps.{name}": "numbers of the clock" for name in ("sigmoid_ramp", "linear_ramp", "cosine_rampdown")},
    **{f"ramps.{name}": "numbers of the clock" for name in ("polynomial_decay", "reversal_ramp", "lagged", "ramp_up")},
    "confidence.relative_entropy_limit": "numbers of the clock",
    "modes.evaluating": "networks",
    "admt.teaching.mixed": "places",
    "caml.correlation.surest": "places",
    "class_contrast.usable_rows": "places",
    "signed_distance.squared_distances": "documented infinity where nothing is there",
    "strong_views.box_sides": "places",
    "strong_views.draw_boxes": "places",
    "strong_views.mixed_views": "places",
    **dict.fromkeys(["cml.cutmix.CutMix", "cml.cutmix.view_of", "cml.ablations.PlainImages"], "networks"),
    "cml.cutmix.PseudoLabels": "whole numbers",
    "components.filtered_classes": "no arithmetic on tensors",
    "class_weights.ClassWeights": "abstract",
    "class_weights.rarity": "documented NaN for equal counts; DistDW keeps its weights then",
    "prototypes.matching_score": "documented NaN without a pair; it is a measure, no loss",
    "prototypes.matching_per_class": "documented NaN without a pair; it is a measure, no loss",
    **dict.fromkeys(["asenet.discriminator.DynamicDiscriminator", "eic.autoencoder.AutoEncoder"], "networks"),
    "fussnet.labeller.Labeller": "networks",
    "fussnet.labeller.agreement": "whole numbers",
    **dict.fromkeys(["admt.alternation.Alternation", "admt.alternation.teacher_decay"], "numbers of the clock"),
    **dict.fromkeys(
        ["admt.views.draw_boxes", "distillmatch.views.draw_boxes", "tracoco.crops.draw_crops"], "random numbers"
    ),
    **dict.fromkeys(["tracoco.crops.crop_sides", "tracoco.crops.overlap"], "places"),
    "tracoco.crops.cut": "no arithmetic on tensors",
}

SITUATIONS: dict[str, tuple[tuple[int, ...], int, str, str]] = {
    "usual": ((4, 4, 4), 2, "all", "some"),
    "absent classes, nothing kept": ((4, 4, 4), 2, "background", "none"),
    "one sample of one voxel": ((1, 1, 1), 1, "all", "all"),
    "no sample": ((4, 4, 4), 0, "all", "all"),
}


def consistency_distance(logits: Tensor, target: Tensor) -> Tensor:
    return consistency.probability_dice(logits, target, dices.DICES["dhc"].between)


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Iterable):
        for each in found:
            yield from _tensors(each)


def _public() -> Iterator[str]:
    for prefix, path in _modules():
        found = importlib.import_module(path)
        for name, value in vars(found).items():
            own = not name.startswith("_") and getattr(value, "__module__", None) == found.__name__
            if own and (inspect.isfunction(value) or (inspect.isclass(value) and not _is_record(value))):
                yield f"{prefix}.{name}"


def _modules() -> Iterator[tuple[str, str]]:
    """Short and full names of the ingredients, and of the parts of methods that have a folder."""
    for module in pkgutil.iter_modules(semiseg.ingredients.__path__):
        yield module.name, f"semiseg.ingredients.{module.name}"
    for package in pkgutil.iter_modules(semiseg.methods.__path__):
        if package.ispkg:
            folder = importlib.import_module(f"semiseg.methods.{package.name}")
            for module in pkgutil.iter_modules(folder.__path__):
                yield f"{package.name}.{module.name}", f"{folder.__name__}.{module.name}"


def _is_record(cls: type) -> bool:
    """Options, named tuples, protocols and constants compute nothing; methods have tests of their own."""
    return issubclass(cls, BaseModel | tuple | Method) or is_dataclass(cls) or getattr(cls, "_is_protocol", False)


def test_the_table_is_complete() -> None:
    assert set(_public()) == set(TABLE) | set(EXEMPT)
    assert not set(TABLE) & set(EXEMPT)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", TABLE)
def test_values_and_gradients_are_finite(name: str, situation: str) -> None:
    for scale in (EXTREME, 0.0):
        for half in (False, True):
            given = Given(*SITUATIONS[situation], half=half, scale=scale)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                found = list(_tensors(TABLE[name](given)))
            assert all(value.isfinite().all() for value in found), (scale, given.dtype)
            trained = [value.float().sum() for value in found if value.requires_grad]
            if trained:
                torch.stack(trained).sum().backward()
            gradients = [leaf.grad for leaf in given.watched if leaf.grad is not None]
            assert all(gradient.isfinite().all() for gradient in gradients), (scale, given.dtype)
