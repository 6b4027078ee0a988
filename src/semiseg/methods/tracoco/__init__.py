"""TraCoCo and what serves it alone: two crops of a patch, and the loss of its pseudo-labels."""

from semiseg.methods.tracoco.method import TraCoCo

__all__ = ["TraCoCo"]
