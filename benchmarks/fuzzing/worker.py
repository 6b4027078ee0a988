"""A process that damages samples and reads them; what it dies of, hangs at or takes in memory belongs to one input."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import wrap
from fuzzing.corpus import Kind, kinds
from fuzzing.judges import Invalid
from fuzzing.mutate import mutated
from semiseg.errors import InputError

MEMORY = 2 << 30
"""Bytes of resident memory that no input may take."""

_LONGEST = 4000
_FULL = re.compile(r"memory(?! mapped length must be positive)|(?<!address of object past end of )alloc")
"""Words of a library that was refused memory, not those of two that check numbers against what they have."""


def damage(kind: Kind, corpus: Path, folder: Path, seed: int, index: int) -> tuple[Path, str]:
    """Write input `index` of `seed`, a damaged copy of the kind's sample, to `folder`; the damaged file, and how."""
    random = Random(f"{seed} {index}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(corpus / kind.sample, folder)
    target = folder / random.choice(kind.targets)
    others = [(corpus / kind.sample / name).read_bytes() for name in kind.targets]
    how = ""

    def change(data: bytes) -> bytes:
        nonlocal how
        data, how = mutated(random, data, others, kind.ways)
        return data

    target.write_bytes(kind.wrap(random, target.read_bytes(), change))
    if kind.signed:
        wrap.resigned(target)
    return target, how


def verdict(kind: Kind, root: Path, target: Path) -> dict[str, str]:
    """What becomes of an input: `accepted`, `refused` with its message, or `violation` with what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kind.judge(root, target)
    except InputError as error:
        return _refusal(error.problems)
    except Invalid as error:
        return {"verdict": "violation", "message": f"taken as valid: {error}"}
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = next((f for f in reversed(traceback.extract_tb(error.__traceback__)) if "semiseg" in f.filename), place)
        message = f"{type(error).__name__}: {error}"[:300]
        return {
            "verdict": "violation",
            "message": f"{message} at {where.filename}:{where.lineno}, {place.filename}:{place.lineno}",
        }
    return {"verdict": "accepted", "message": ""}


def check_sample(kind: Kind, corpus: Path, folder: Path) -> None:
    """Read the sample as it is, which has to be valid, and loads what is loaded only once."""
    for name in kind.targets:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(corpus / kind.sample, folder)
        found = verdict(kind, folder, folder / name)
        if found["verdict"] != "accepted":
            raise SystemExit(f"{kind.name}: the sample {name} itself is not accepted: {found['message']}")


def _refusal(problems: tuple[str, ...]) -> dict[str, str]:
    for problem in problems:
        if "\n" in problem or not problem.strip() or len(problem) > _LONGEST or not problem.isprintable():
            return {"verdict": "violation", "message": f"no clear message: {problem[:300]!r}"}
        if _FULL.search(problem):
            return {"verdict": "violation", "message": f"memory was asked for before the refusal: {problem[:300]}"}
    if not problems:
        return {"verdict": "violation", "message": "refused without a word"}
    return {"verdict": "refused", "message": problems[0]}


def main(corpus: Path, scratch: Path, seed: int) -> None:
    """Read numbers of inputs, answer each with a line of JSON, until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    with (scratch / "output.txt").open("ab") as noise:
        os.dup2(noise.fileno(), 1)
        os.dup2(noise.fileno(), 2)
    import torch

    torch.set_num_threads(1)
    all_kinds = kinds()
    for kind in all_kinds:
        check_sample(kind, corpus, scratch / "input")
    limit = status("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps({"ready": status("VmRSS")}), file=answers, flush=True)
    for line in sys.stdin:
        index = int(line)
        kind = all_kinds[index % len(all_kinds)]
        target, _ = damage(kind, corpus, scratch / "input", seed, index)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        began = time.perf_counter()
        found: dict[str, Any] = verdict(kind, scratch / "input", target)
        found |= {"seconds": time.perf_counter() - began, "memory": status("VmHWM")}
        print(json.dumps(found), file=answers, flush=True)


def status(name: str) -> int:
    """Bytes of memory of this process by their name in /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024
