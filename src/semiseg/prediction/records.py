"""What a folder of predictions was made by, scan by scan, so that the same command again does what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from semiseg.errors import InputError
from semiseg.scans.formats import all_files
from semiseg.system.documents import parse_json, read_text
from semiseg.system.files import refuse_links, sha256, write_json

FOLDER = ".predicted"


@dataclass(frozen=True)
class Records:
    """One small file per case, beside the predictions.

    Attributes:
        output: folder of the predictions.
        made_by: digest of the model and of how it predicts.
    """

    output: Path
    made_by: str

    def check(self) -> None:
        """Refuse to write where a link leads elsewhere.

        Raises:
            InputError: names it.
        """
        refuse_links(self.output, FOLDER, remedy="remove the link")

    def made(self, files: Iterable[Path]) -> str:
        """Digest of the model and the content of a scan's files.

        Raises:
            InputError: a file cannot be read.
        """
        content = [sha256(part) for path in files for part in all_files(path)]
        return hashlib.sha256("\n".join([self.made_by, *content]).encode()).hexdigest()

    def hold(self, case: str, target: Path, files: Iterable[Path]) -> bool:
        """Whether `target` is as this model wrote it of these files."""
        try:
            record = parse_json(read_text(self._of(case)))
            return bool(record == {"made": self.made(files), "label": sha256(target)})
        except (OSError, ValueError, InputError):
            return False

    def add(self, case: str, target: Path, made: str) -> None:
        """Note that `target` has been written.

        Raises:
            InputError: the folder cannot be written.
        """
        write_json(self._of(case), {"made": made, "label": sha256(target)})

    def remove(self, case: str) -> None:
        """Forget a case."""
        self._of(case).unlink(missing_ok=True)

    def _of(self, case: str) -> Path:
        return self.output / FOLDER / f"{case}.json"
