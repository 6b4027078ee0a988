"""Attention among the positions of a patch, and among the patches of a batch, in the encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from pydantic import Field
from torch import Tensor, nn

from semiseg.networks.base import Network, NetworkOptions
from semiseg.networks.encoder_decoder import divisible
from semiseg.networks.import_weights import import_official


class AttentiveOptions(NetworkOptions):
    """Options of the form, beside those of the architecture that it is made of."""

    attention_heads: int = Field(4, ge=1, description="heads of both attention layers, or a divisor of it that fits")
    attention_dropout: float = Field(0.5, ge=0, lt=1, description="dropout inside both attention layers")


class AttentiveNet(Network):
    """The run's architecture with two attention layers after its encoder's last stage but one.

    First among the positions of one patch, then among the patches of the batch at one position, each a post-norm
    Transformer layer (Vaswani et al., 2017) four times as wide inside. Skip and next stage receive the result. In eval
    mode both are left out, so that no prediction depends on the other patches. Their dropout follows the mode alone.
    With several processes the patches are those of each. Source: CAML (Gao et al., MICCAI 2023).

    Args:
        options: of this form.
        build: makes a V-Net or U-Net; keywords override its options.

    Raises:
        TypeError: `build` makes another network.
    """

    Options = AttentiveOptions

    def __init__(self, options: AttentiveOptions, build: Callable[..., Network]) -> None:
        super().__init__()
        self.net = divisible(build())
        self.taps, self.divisor = self.net.taps, self.net.divisor
        stages = [name for name in self.taps if name.startswith("enc")]
        width = self.taps[stages[-2]].channels
        attention = BatchAttention(width, math.gcd(options.attention_heads, width), options.attention_dropout)
        self.net.encoder[-2] = _Attending(self.net.encoder[-2], attention)

    def forward(
        self, x: Tensor, taps: tuple[str, ...] = (), *, dropout: bool | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        return self.net(x, taps, dropout=dropout)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with this network's names; weights of the plain architecture leave the attention as it is."""
        prefix = f"net.encoder.{len(self.net.encoder) - 2}."
        if any(name.startswith(f"{prefix}attention.") for name in state):
            return dict(state)
        named = {f"net.{name}": value for name, value in import_official(state).items()}
        own = {name: value for name, value in self.state_dict().items() if name.startswith(f"{prefix}attention.")}
        return own | {
            f"{prefix}stage.{name.removeprefix(prefix)}" if name.startswith(prefix) else name: value
            for name, value in named.items()
        }


class BatchAttention(nn.Module):
    """Attention inside every sample of features `[B, Z, *S]`, then among samples; none in eval mode."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.inside, self.among = (
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        rows: Tensor = self.inside(x.flatten(2).transpose(1, 2))
        rows = self.among(rows.transpose(0, 1)).transpose(0, 1)
        return rows.transpose(1, 2).reshape(x.shape)


class _Attending(nn.Module):
    def __init__(self, stage: nn.Module, attention: BatchAttention) -> None:
        super().__init__()
        self.stage, self.attention = stage, attention

    def forward(self, x: Tensor, *active: bool) -> Tensor:
        y: Tensor = self.attention(self.stage(x, *active))
        return y
