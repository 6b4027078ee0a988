"""Scores of single cases that shards have left for the call that scores all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from semiseg.metrics.mask_scores import MaskScores
from semiseg.system.files import write_json

_FOLDER = ".score_parts"


@dataclass(frozen=True)
class CaseScores:
    """One case: its grid, and the scores of the classes that occur."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    scores: Mapping[int, MaskScores]
    digests: tuple[str, str]


@dataclass(frozen=True)
class Parts:
    """Files in a hidden folder; one is used only for the very files and rules that it was made from.

    Attributes:
        folder: where scores are written.
        rules: what besides the two label files decides scores.
    """

    folder: Path
    rules: str

    def save(self, case: str, found: CaseScores) -> None:
        """Keep the scores of a case."""
        scores = {str(label): asdict(each) for label, each in found.scores.items()}
        write_json(self._file(case), {"rules": self.rules, **asdict(found), "scores": scores})

    def load(self, case: str, digests: tuple[str, str]) -> CaseScores | None:
        """The scores of a case whose files have `digests`; None when there are none, or of other files or rules."""
        try:
            values = json.loads(self._file(case).read_text(encoding="utf-8"))
            if (values["rules"], tuple(values["digests"])) != (self.rules, digests):
                return None
            scores = {int(label): MaskScores(**each) for label, each in values["scores"].items()}
            return CaseScores(tuple(values["shape"]), tuple(values["spacing"]), scores, digests)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def remove(self) -> None:
        """Forget all cases."""
        shutil.rmtree(self.folder / _FOLDER, ignore_errors=True)

    def _file(self, case: str) -> Path:
        return self.folder / _FOLDER / f"{case}.json"
