"""FUSSNet, its four losses and the noise of its logits."""

from semiseg.methods.fussnet.method import FUSSNet

__all__ = ["FUSSNet"]
