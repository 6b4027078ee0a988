"""CReST for segmentation, and in generations as printed."""

from semiseg.methods.crest.crest import CReST
from semiseg.methods.crest.generations import CReSTGenerations

__all__ = ["CReST", "CReSTGenerations"]
