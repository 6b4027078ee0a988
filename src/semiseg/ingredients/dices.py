"""Dice losses of SS-Net (ycwu1997/SS-Net, xmed-lab/DHC): of labels, and between two predictions."""

from __future__ import annotations

from typing import Literal, NamedTuple

from semiseg.ingredients.losses import DiceForm

DicePair = Literal["acdc", "la", "dhc"]
DICES_DOC = (
    "Dice of labels and between predictions: `acdc`, 1 - Dice with squares over all classes; `la`, 1 - Dice without "
    "squares, of the foreground and of all classes pooled; `dhc`, minus the Dice without squares over all classes"
)


class Dices(NamedTuple):
    """The Dice of labels, the one between predictions, and whether the latter pools all classes into one ratio."""

    supervised: DiceForm
    between: DiceForm
    pooled: bool


_SQUARED = DiceForm(smooth=1e-10, squared=True, background=True, offset=1.0, scale=1.0)
_NEGATIVE = DiceForm(smooth=1e-8, squared=False, background=True, offset=0.0, scale=1.0, epsilon=1e-8)
_PLAIN = DiceForm(smooth=1e-8, squared=False, background=False, offset=1.0, scale=1.0)
DICES: dict[DicePair, Dices] = {
    "acdc": Dices(_SQUARED, _SQUARED, pooled=False),
    "la": Dices(_PLAIN, DiceForm(smooth=1e-8, squared=False, background=True, offset=1.0, scale=1.0), pooled=True),
    "dhc": Dices(_NEGATIVE, _NEGATIVE, pooled=False),
}
