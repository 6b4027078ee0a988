"""MICD, with the blocks that it hides."""

from semiseg.methods.micd.micd import MICD

__all__ = ["MICD"]
