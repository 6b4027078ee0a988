"""Mixed images as two subnets see them, and what each of them learns there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from semiseg.ingredients.components import keep_largest
from semiseg.ingredients.mixing import Pairs, draw_outside_box, partners, paste, paste_partners
from semiseg.ingredients.pseudo_labels import threshold_labels
from semiseg.networks.base import Network

Targets = Literal["heterogeneous", "other"]
Pair = tuple[Tensor, Tensor]
"""One tensor for subnet A and one for B."""


class View(NamedTuple):
    """What the two subnets make of the same images: logits, and the features that their decoders receive."""

    logits: list[Tensor]
    features: list[Tensor]


def view_of(subnets: Sequence[Network], images: Tensor) -> View:
    """Both subnets on `images` `[B, channels, *S]`."""
    passes = [net(images, taps=("bottleneck",)) for net in subnets]
    return View([logits for logits, _ in passes], [taps["bottleneck"] for _, taps in passes])


class PseudoLabels:
    """Hard labels `[B, *S]` by both subnets, of `filtered` classes their largest component alone.

    Components are found on the host while the device goes on; asking for the labels waits for them.
    """

    def __init__(self, logits: Sequence[Tensor], filtered: Collection[int]) -> None:
        self._wait = keep_largest(torch.cat([threshold_labels(z) for z in logits]), filtered)

    def both(self) -> Pair:
        """Those by A and those by B."""
        a, b = self._wait().tensor_split(2)
        return a, b


class CutMix:
    """A box of each image's partner pasted into it, by one box for all of a batch.

    Args:
        ratio: side of the box, as a share of the image's.
        pairs: which images are partners.
        targets: `heterogeneous`: outside of the box a subnet learns the label of the other one, inside its own.
        filtered: foreground classes whose pseudo-labels are reduced to their largest component.
    """

    def __init__(self, ratio: float, pairs: Pairs, targets: Targets, filtered: Collection[int]) -> None:
        self.ratio, self.pairs, self.targets, self.filtered = ratio, pairs, targets, filtered

    def paste(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Mixed images and labels."""
        outside = draw_outside_box(values[0], self.ratio)
        return tuple(paste_partners(value, outside, self.pairs) for value in values)

    def teach(self, subnets: Sequence[Network], images: Tensor) -> tuple[View, Pair]:
        """The view of mixed unlabelled images, and the targets of both subnets there."""
        with torch.no_grad():
            labels = PseudoLabels([net(images) for net in subnets], self.filtered)
        outside = draw_outside_box(images, self.ratio)
        view = view_of(subnets, paste_partners(images, outside, self.pairs))
        (outside_a, inside_a), (outside_b, inside_b) = (partners(found, self.pairs) for found in labels.both())
        if self.targets == "other":
            inside_a, inside_b = inside_b, inside_a
        return view, (paste(outside_b, inside_a, outside), paste(outside_a, inside_b, outside))
