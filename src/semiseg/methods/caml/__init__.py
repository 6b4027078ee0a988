"""CAML, its memory of labelled features, and how alike others are to it."""

from semiseg.methods.caml.method import CAML

__all__ = ["CAML"]
