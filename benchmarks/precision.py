"""Does bf16 training reach the Dice of fp32? The same runs in both, over seeds, scored on the test cases.

    python benchmarks/precision.py DATA --split FILE [--output DIR] [--steps 200] [--seeds 3] [--json FILE]

Supervised training with the default network and optimiser; scans are prepared once. The mean foreground Dice of bf16
must lie within the spread of fp32 over seeds: no further from its mean than two standard deviations of the difference.
About 10 minutes on two cores for hippocampus MRI; finished runs in DIR are not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean, stdev

import torch

import semiseg
from semiseg.runs.device import choose_device
from semiseg.runs.precision import resolve_precision

FORMATS = ("fp32", "bf16")


def main() -> None:
    """Train, predict and score all runs; print Dice by format and seed, and whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", type=Path, required=True, help="JSON file with the roles of the cases")
    parser.add_argument("--output", type=Path, default=Path("precision"), help="folder of runs and prepared scans")
    parser.add_argument("--method", default="supervised")
    parser.add_argument("--patch", nargs=3, type=int, default=(32, 48, 32))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="default: all")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    accelerator = choose_device("auto").type.replace("cuda", "gpu")
    if resolve_precision("bf16", accelerator) != "bf16":
        parser.error("this machine computes fp32 where bf16 is asked for: take one with bf16 convolutions")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    scores = {kind: [dice(arguments, kind, seed) for seed in range(arguments.seeds)] for kind in FORMATS}
    fp32, bf16 = (scores[kind] for kind in FORMATS)
    gap = mean(bf16) - mean(fp32)
    spread = ((stdev(fp32) ** 2 + stdev(bf16) ** 2) / arguments.seeds) ** 0.5
    print(f"| format | {' | '.join(f'seed {seed}' for seed in range(arguments.seeds))} | mean | deviation |")
    print(f"|---|{'---|' * (arguments.seeds + 2)}")
    for kind, found in scores.items():
        print(f"| {kind} | {' | '.join(f'{each:.4f}' for each in found)} | {mean(found):.4f} | {stdev(found):.4f} |")
    agrees = abs(gap) <= 2 * spread
    print(
        f"\nbf16 - fp32: {gap:+.4f}, {'within' if agrees else 'beyond'} two deviations of the difference ({spread:.4f})"
    )
    if arguments.json:
        values = {"dice": scores, "gap": gap, "spread": spread, "agrees": agrees, "command": sys.argv[1:]}
        arguments.json.write_text(json.dumps(values, indent=2) + "\n")
    sys.exit(not agrees)


def dice(arguments: argparse.Namespace, precision: str, seed: int) -> float:
    """Mean foreground Dice of a run on the test cases."""
    folder = arguments.output / f"{precision}_seed{seed}"
    run = semiseg.train(
        arguments.data,
        folder,
        method=arguments.method,
        split=arguments.split,
        prepared=arguments.output / "prepared",
        batch={"patch": list(arguments.patch)},
        steps=arguments.steps,
        seed=seed,
        precision=precision,
        accelerator="cpu" if not torch.cuda.is_available() else "gpu",
    )
    semiseg.predict(run.path)
    found = semiseg.evaluate(run.path).mean("dice")
    print(f"{precision}, seed {seed}: Dice {found:.4f}", flush=True)
    return found


if __name__ == "__main__":
    main()
