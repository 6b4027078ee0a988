"""Two networks that start differently and teach each other: what methods on this pattern have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import Field
from torch import Tensor

from semiseg.ingredients.class_weights import ClassWeights
from semiseg.ingredients.losses import DICE_CE_DOC, DiceCE, cross_pseudo_loss, dice_ce
from semiseg.ingredients.pseudo_labels import hard_labels
from semiseg.ingredients.ramps import RampOptions
from semiseg.networks.base import Init, Network
from semiseg.networks.modules import ModuleListOf


class CoTrainingOptions(RampOptions):
    """Options of co-training on all patches in the form of xmed-lab/DHC; a method's options may include these."""

    loss: DiceCE = Field("dhc", description=DICE_CE_DOC)
    weight: float = Field(0.1, ge=0, description="weight of the cross loss after the ramp-up")
    init_a: Init = Field("kaiming", description="initialisation of the first network's convolutions")
    init_b: Init = Field("xavier", description="the same of the second network")


def make_pair(options: CoTrainingOptions, build: Callable[..., Network]) -> ModuleListOf[Network]:
    """Networks A and B."""
    return ModuleListOf([build(init=options.init_a), build(init=options.init_b)])


class PairView(NamedTuple):
    """What networks A and B make of a batch: logits, hard labels, and features of each."""

    logits: list[Tensor]
    labels: list[Tensor]
    features: tuple[list[Tensor], list[Tensor]]

    def part(self, samples: slice) -> PairView:
        """The same of some of the samples."""
        logits, labels, of_a, of_b = ([value[samples] for value in each] for each in (*self[:2], *self.features))
        return PairView(logits, labels, (of_a, of_b))


def view_pair(nets: Iterable[Network], images: Sequence[Tensor], taps: tuple[str, ...] = ()) -> PairView:
    """Each network on its own images `[B, channels, *S]`, with the features called `taps`."""
    passes = [net(x, taps=taps) if taps else (net(x), {}) for net, x in zip(nets, images, strict=True)]
    logits = [z for z, _ in passes]
    of_a, of_b = ([found[tap] for tap in taps] for _, found in passes)
    return PairView(logits, [hard_labels(z) for z in logits], (of_a, of_b))


def supervised_pair(
    logits: Sequence[Tensor],
    labels: Tensor,
    form: DiceCE,
    weights: Sequence[Tensor | None] = (None, None),
    *,
    strict: bool = False,
) -> Tensor:
    """Supervised losses of A and B added; the first patches of `logits` `[B, C, *S]` are those with `labels`."""
    n = len(labels)
    a, b = (dice_ce(z[:n], labels, form, w, strict=strict) for z, w in zip(logits, weights, strict=True))
    return a + b


def weighted_terms(
    logits: Sequence[Tensor],
    labels: Tensor,
    form: DiceCE,
    class_weights: Iterable[ClassWeights],
    *,
    strict: bool = False,
) -> dict[str, Tensor]:
    """Supervised and cross loss on all patches; a network's losses have its own weights, updated by this batch."""
    pseudo = [hard_labels(z) for z in logits]
    weights = [w.update(y, labels) for w, y in zip(class_weights, pseudo, strict=True)]
    return {
        "supervised": supervised_pair(logits, labels, form, weights, strict=strict),
        "cross": cross_pseudo_loss(logits, pseudo, weights, strict=strict),
    }


def observed_weights(class_weights: Iterable[ClassWeights]) -> dict[str, Tensor]:
    """The class weights of A and B by name."""
    return {f"class_weight_{name}": w.weight for name, w in zip("ab", class_weights, strict=True)}
