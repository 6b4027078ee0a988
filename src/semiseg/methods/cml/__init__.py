"""CML, with its mixed images and the plain ones of its Figure 6."""

from semiseg.methods.cml.cml import CML

__all__ = ["CML"]
