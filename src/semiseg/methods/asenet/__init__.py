"""ASE-Net and its discriminators."""

from semiseg.methods.asenet.method import ASENet

__all__ = ["ASENet"]
