"""What the machine does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiseg.api.paths import PathLike, as_path
from semiseg.system.files import write_json

if TYPE_CHECKING:
    from semiseg.speed.bench import Bench


def bench(
    data: PathLike | None = None,
    method: str = "mean_teacher",
    *,
    quick: bool = False,
    output: PathLike | None = None,
    assignments: Sequence[str] = (),
    **settings: Any,
) -> Bench:
    """Measure training steps on this machine: data, passes, launches, layouts, and how far the step is from the floor.

    Args:
        data: dataset folder, prepared first where that is not done yet; default: generated scans, with the V-Net and
            batches of the left-atrium papers.
        method: what is trained.
        quick: small patches and few rounds: rough figures in seconds.
        output: JSON file to write.
        assignments: settings as the command line's `--set` takes them, `batch.patch=[96, 96, 96]`.
        settings: fields of `RunConfig`, `precision="fp32"`.

    Raises:
        InputError: settings or data are not usable, or the file cannot be written; all problems are named.
    """
    from semiseg.speed.bench import bench as run

    found = run(as_path(data), method, quick=quick, assignments=assignments, **settings)
    if output is not None:
        write_json(Path(output), found.values())
    return found
