"""Sliding windows of the left-atrium papers over a scan: ours beside the papers' loop and MONAI's.

    python benchmarks/windows.py [--quick] [--rounds 3] [--threads N] [--clock wall|cpu] [--json FILE]

The V-Net with 16 filters, windows of 112 x 112 x 80, strides 18, 18, 4. The papers' loop takes one window at a time,
float32, contiguous, and adds scores up in NumPy. MONAI's `sliding_window_inference` (third column where MONAI is
installed) has the same network, batches of four and the same strides. Ours is what `semiseg predict` does: batches of
four, batch normalisations folded, layout and memory as on this device. Every one has a process of its own; runs
alternate, and a ratio is the median over rounds. The scan is a real one where SEMISEG_TEST_DATA names the papers' data,
otherwise noise of the same size.

About 8 minutes on two cores (60 windows, three rounds); with --quick, which cuts the scan to 4 windows, one minute.
Exits with status 1 when probabilities differ by more than 1e-4 in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apart import Apart, all_of, in_turns
from devices import chosen, set_up
from plain.networks import VNet
from semiseg.networks import build_network
from semiseg.networks.folding import fold_batch_norms
from semiseg.prediction.windows import sliding_windows, window_starts
from semiseg.runs.precision import autocast, memory_format, resolve_precision, set_memory_format
from semiseg.system.memory import reuse_freed_memory
from semiseg.training.timing import ratio

Array = np.ndarray[Any, np.dtype[np.float32]]

PATCH, STRIDE = (112, 112, 80), (18, 18, 4)
SHAPE, FEW = (180, 150, 88), (130, 130, 80)
TOLERANCE = 1e-4


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of a CPU; default: all")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu minds a busy machine less")
    parser.add_argument("--device", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--quick", action="store_true", help="four windows")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    device = chosen(parser, arguments.device).type
    makers = {"papers' loop": papers, "ours, fp32": partial(ours, "fp32")}
    if find_spec("monai"):
        makers["MONAI"] = monai
    best = resolve_precision("auto", "cpu" if device == "cpu" else "gpu")
    if best != "fp32":
        makers[f"ours, {best}"] = partial(ours, best)
    image = scan(FEW if arguments.quick else None)
    count = int(np.prod([len(window_starts(*axis)) for axis in zip(image.shape, PATCH, STRIDE, strict=True)]))
    print(f"{' x '.join(map(str, image.shape))} voxels, {count} windows, {describe(device, arguments.threads)}")
    with ExitStack() as stack:
        calls = all_of([Apart(make, image, device, arguments.threads) for make in makers.values()], stack)
        answers = [call(answer=True)[2] for call in calls]
        times = [[pair[arguments.clock == "cpu"] for pair in found] for found in in_turns(calls, arguments.rounds)]
    rows = [
        {
            "name": name,
            "seconds": median(took),
            "ratio": ratio(times[0], took),
            "difference": float(np.abs(answer - answers[0]).max()),
            "other_labels": int(np.count_nonzero(answer.argmax(0) != answers[0].argmax(0))),
        }
        for name, took, answer in zip(makers, times, answers, strict=True)
    ]
    print(f"\n|  | seconds ({arguments.clock}) | times as fast | largest difference | voxels with another label |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['seconds']:.2f} | {row['ratio']:.2f} | {row['difference']:.1e} "
            f"| {row['other_labels']} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"windows": count, "rows": rows, "command": sys.argv[1:]}, indent=2))
    sys.exit(rows[1]["difference"] > TOLERANCE)


def describe(device: str, threads: int) -> str:
    """The machine in words."""
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {threads or torch.get_num_threads()} threads"
    return f"{where}, torch {torch.__version__}"


def scan(shape: tuple[int, ...] | None) -> Array:
    """A left-atrium scan, whole or cut to `shape`, with mean 0 and standard deviation 1."""
    folder = Path(os.environ.get("SEMISEG_TEST_DATA", "")) / "la" / "imagesTr"
    files = sorted(folder.glob("*.nii.gz"))
    if files:
        from semiseg.scans.readers import read_image

        image = read_image(files[:1]).array[0].astype(np.float32)
        image = (image - image.mean()) / image.std()
    else:
        image = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    return np.ascontiguousarray(image[tuple(slice(side) for side in shape or image.shape)])


def papers(image: Array, device: str, threads: int) -> Callable[[], Array]:
    """One window at a time, as the papers' test scripts do."""
    net = plain_network(device, threads)

    def run() -> Array:
        with torch.no_grad():
            return one_at_a_time(lambda window: net(window.to(device)).logits, image)

    return run


def one_at_a_time(logits: Callable[[Tensor], Tensor], image: Array, classes: int = 2) -> Array:
    """Mean probabilities `[C, *S]` over windows with uniform weights; the image is at least as large as the patch."""
    score, seen = np.zeros((classes, *image.shape), np.float32), np.zeros(image.shape, np.float32)
    steps = [-(-(size - side) // step) + 1 for size, side, step in zip(image.shape, PATCH, STRIDE, strict=True)]
    for index in np.ndindex(*steps):
        starts = [min(s * i, n - p) for s, i, n, p in zip(STRIDE, index, image.shape, PATCH, strict=True)]
        box = tuple(slice(start, start + side) for start, side in zip(starts, PATCH, strict=True))
        window = torch.from_numpy(np.ascontiguousarray(image[box]))[None, None]
        score[(slice(None), *box)] += torch.softmax(logits(window), 1)[0].cpu().numpy()
        seen[box] += 1
    return score / seen


def monai(image: Array, device: str, threads: int) -> Callable[[], Array]:
    """MONAI's function with the papers' network."""
    from monai.inferers import sliding_window_inference

    net = plain_network(device, threads)
    volume = torch.from_numpy(image)[None, None].to(device)
    # MONAI truncates side * (1 - overlap) to whole voxels.
    overlap = tuple(1 - (step + 0.5) / side for step, side in zip(STRIDE, PATCH, strict=True))

    def probabilities(windows: Tensor) -> Tensor:
        return torch.softmax(net(windows).logits, 1)

    def run() -> Array:
        with torch.no_grad():
            found = sliding_window_inference(volume, PATCH, 4, probabilities, overlap=overlap, mode="constant")
        return found[0].cpu().numpy()

    return run


def ours(precision: str, image: Array, device: str, threads: int) -> Callable[[], Array]:
    """What `semiseg predict` does with a scan that has been read."""
    _set_up(device, threads, precision)
    if device == "cpu":
        reuse_freed_memory()
    net = build_network("vnet", channels=1, classes=2, spatial_dims=3).eval()
    names = list(net.state_dict())
    net.load_state_dict(dict(zip(names, weights().values(), strict=True)))
    fold_batch_norms(net)
    set_memory_format(net, memory_format(torch.device(device), 3))
    net.to(device)

    def predict(windows: Tensor) -> Tensor:
        with autocast(torch.device(device), precision):
            logits = net(windows)
        return torch.softmax(logits.float(), 1)

    def run() -> Array:
        with torch.inference_mode():
            volume = torch.from_numpy(image)[None].to(device)
            return sliding_windows(predict, volume, PATCH, STRIDE, batch=4).cpu().numpy()

    return run


def plain_network(device: str, threads: int) -> nn.Module:
    """The papers' network, as it comes."""
    _set_up(device, threads, "fp32")
    net = VNet().eval()
    net.load_state_dict(weights())
    return net.to(device)


def weights() -> dict[str, Tensor]:
    """Weights and running statistics as unlike the initial ones as those after a training."""
    torch.manual_seed(0)
    net = VNet()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return net.state_dict()


def _set_up(device: str, threads: int, precision: str) -> None:
    if threads:
        torch.set_num_threads(threads)
    set_up(torch.device(device), precision)


if __name__ == "__main__":
    main()
