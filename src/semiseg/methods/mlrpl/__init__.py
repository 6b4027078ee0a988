"""MLRPL and its measure of how reliable pseudo-labels are."""

from semiseg.methods.mlrpl.method import MLRPL

__all__ = ["MLRPL"]
