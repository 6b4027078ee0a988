"""AD-MT and what serves it alone: who teaches when, how two teachers become one, and its strong view."""

from semiseg.methods.admt.method import ADMT

__all__ = ["ADMT"]
