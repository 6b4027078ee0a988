"""LeFeD, with what it feeds back to the encoder."""

from semiseg.methods.lefed.lefed import LeFeD

__all__ = ["LeFeD"]
