"""DuCiSC, with what it selects, mixes and aligns, and the competitors of its ablations."""

from semiseg.methods.ducisc.ducisc import DuCiSC

__all__ = ["DuCiSC"]
