"""Memory of a step, counted without data: against storages of a real step, and by the laws that it must obey."""

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch.nn import functional

from semiseg.networks import build_network
from semiseg.training.footprint import KEPT, Footprint, footprint

WIDTHS = (4, 8, 16)


def builder(dims, **options):
    return partial(build_network, "unet", channels=1, classes=2, spatial_dims=dims, filters=WIDTHS, **options)


@pytest.mark.parametrize("images", [(2, 1, 32, 48), (2, 1, 16, 24, 16)])
def test_count_is_not_less_than_what_autograd_keeps(images):
    build = builder(len(images) - 2)
    found = footprint(build, images, "fp32")
    network = build()
    assert found.parameters == 4 * sum(p.numel() for p in network.parameters())
    kept: dict[int, int] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = functional.cross_entropy(network(torch.randn(images)), torch.zeros(images[0], *images[2:]).long())
    saved = sum(kept.values())
    del loss
    # Backward begins with all that was kept and adds gradients of a few features, the largest of them full-sized.
    assert 0.8 * saved < found.activations < 2 * saved


def test_twice_the_patches_take_twice_the_activations():
    one, two = (footprint(builder(2), (count, 1, 64, 64), "fp32").activations for count in (4, 8))
    assert two == pytest.approx(2 * one, rel=0.05)


def test_bf16_takes_about_half():
    full, half = (footprint(builder(3), (2, 1, 32, 32, 32), precision).activations for precision in ("fp32", "bf16"))
    assert 0.45 * full < half < 0.65 * full


def test_no_memory_is_touched():
    """A batch of a tebibyte."""
    assert footprint(builder(3), (64, 1, 1024, 1024, 1024), "fp32").activations > 1 << 42


def test_networks_add_up():
    found = Footprint(parameters=10, activations=100)
    assert found.total() == round(KEPT * 130)
    assert found.total(trained=2) == round(KEPT * 260)
    assert found.total(copies=1) == round(KEPT * 140)


OLDER = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""PyTorch does without what came after AVX2."""

COUNT = """
import json
from functools import partial
from semiseg.training.footprint import footprint
from semiseg.networks import build_network
build = partial(build_network, "unet", channels=1, classes=2, spatial_dims=3, filters=(4, 8, 16))
print(json.dumps([footprint(build, (2, 1, 16, 16, 16), precision).activations for precision in ("fp32", "bf16")]))
"""


def test_every_processor_counts_alike():
    """A plan says the same wherever it was made."""
    answer = subprocess.run(
        [sys.executable, "-c", COUNT], env=os.environ | OLDER, capture_output=True, text=True, check=True
    )
    here = [footprint(builder(3), (2, 1, 16, 16, 16), precision).activations for precision in ("fp32", "bf16")]
    assert json.loads(answer.stdout) == here
