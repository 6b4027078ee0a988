"""Equal parts of the cases, for processes or machines that share one task."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from semiseg.errors import InputError


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1.

    Raises:
        InputError: there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(
                f"shard {self.index}/{self.count}: expected i/n with i from 1 to n, such as 2/8: "
                f"use 1/{max(self.count, 1)} to {max(self.count, 1)}/{max(self.count, 1)}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that `2/8` names.

        Raises:
            InputError: the text names none.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None:
            raise InputError(f"shard {text!r}: expected i/n with i from 1 to n, such as 2/8: correct it")
        return cls(int(found[1]), int(found[2]))

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.index}_of_{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, cases: Iterable[str]) -> list[str]:
        """Its cases: every `count`th in alphabetical order; all shards together have each case once."""
        return sorted(cases)[self.index - 1 :: self.count]
