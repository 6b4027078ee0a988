"""Reading back the files that an evaluation left."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semiseg.errors import InputError
from semiseg.evaluation.scores import Row, Scores
from semiseg.metrics.base import columns
from semiseg.metrics.mask_scores import MaskScores


def load_scores(folder: Path) -> Scores:
    """The scores of `scores.csv` and `scores.json` in `folder`, rows in the order of the file.

    A metric that the files of an earlier version do not have is nan.

    Raises:
        InputError: a file is missing or is not what `evaluate` writes.
    """
    table, about = folder / "scores.csv", folder / "scores.json"
    try:
        facts: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
        content = table.read_bytes()
        if hashlib.sha256(content).hexdigest() != facts["table_sha256"]:
            raise ValueError("the table is not the one that scores.json belongs to")
        rows = tuple(_row(line) for line in csv.DictReader(io.StringIO(content.decode())))
        labels = {int(values["label"]): name for name, values in facts["classes"].items()}
        names = ("background", *(labels[label] for label in range(1, len(labels) + 1)))
        rule, largest = facts["empty_rule"]["name"], bool(facts["largest_component"])
        provenance = {"stamps": facts.get("stamps", []), **facts["provenance"]}
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}: run semiseg evaluate {folder}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: scores.csv and scores.json are not as evaluate writes them ({type(error).__name__}: {error}): "
            f"run semiseg evaluate {folder} again"
        ) from None
    return Scores(rows, names, rule, largest, provenance)


def _row(line: Mapping[str, str]) -> Row:
    voxels = int(line["prediction_voxels"]), int(line["truth_voxels"])
    values = {metric: float(line.get(metric, math.nan)) for metric in columns()}
    return Row(line["case"], int(line["label"]), MaskScores(values, *voxels))
