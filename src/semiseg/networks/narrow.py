"""Networks with few filters, for what does not depend on their width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semiseg.networks import network_class

WIDTH = 4
"""Channels of the first stage."""


def narrowed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the network `name` with few filters, in the same proportions."""
    filters = options.get("filters", network_class(name).Options.model_fields["filters"].default)
    if isinstance(filters, int):
        return {**options, "filters": min(filters, WIDTH)}
    return {**options, "filters": [max(width * WIDTH // filters[0], 1) for width in filters]}
