"""Which prediction belongs to which reference label file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from semiseg.conversion.names import Named
from semiseg.conversion.pairing import by_pattern, match_labels
from semiseg.errors import InputError, raise_all
from semiseg.runs.folder import INFERENCE
from semiseg.scans.formats import ENDINGS, ending_of, relatives
from semiseg.scans.found import stem_of

Files = Path | Mapping[str, Path]


@dataclass(frozen=True)
class Pair:
    """The two files of a case, which is named after its label file."""

    case: str
    prediction: Path
    label: Path

    @property
    def renamed(self) -> bool:
        """Whether the two were matched by parts of their names."""
        return stem_of(self.prediction) != self.case


def label_files(source: Files) -> dict[str, Path]:
    """Label files by case id, in order; those of a folder, or one file.

    Raises:
        InputError: the folder does not exist or has no label files, or two files have the same case id.
    """
    if isinstance(source, Mapping):
        return dict(sorted(source.items()))
    if source.is_file():
        return {stem_of(source): source}
    if not source.is_dir():
        raise InputError(f"{source}: expected a folder of label files or one label file, and there is none")
    found: dict[str, Path] = {}
    problems = []
    for path, ending in _readable(source):
        case = path.name[: -len(ending)]
        if case in found:
            problems.append(f"{path}: a second file for case {case}, beside {found[case].name}: remove one of them")
        found[case] = path
    raise_all(problems)
    if not found:
        raise InputError(f"{source}: expected label files that end in {', '.join(ENDINGS)}, and there are none")
    return found


def _readable(folder: Path) -> list[tuple[Path, str]]:
    """Files that can be read and their endings; beside NIfTI files, others (such as pictures) are no labels."""
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found = [(path, ending) for path in files if (ending := ending_of(path))]
    return [pair for pair in found if pair[1] in relatives(".nii.gz")] or found


def refuse_swapped(predictions: Path, labels: Path) -> None:
    """Refuse predictions of a model where reference labels are expected.

    Raises:
        InputError: the file that `predict` leaves beside its predictions lies among the reference labels alone.
    """
    if (labels / INFERENCE).is_file() and not (predictions / INFERENCE).is_file():
        raise InputError(
            f"{labels}: expected reference labels, came predictions of a model (it holds {INFERENCE}): are the two "
            f"folders swapped? semiseg evaluate {labels} {predictions}"
        )


def pair_up(
    predictions: Files, labels: Files, *, cases: Collection[str] | None = None, pattern: str | None = None
) -> tuple[list[Pair], int]:
    """The two files of each case, and the number of predictions without a label file.

    Equal names belong together, and two single files do. What is left is matched by parts of its names as
    `semiseg init` matches labels to images, or by the first group of the regular expression `pattern`.

    Raises:
        InputError: a folder is not usable, or a case that is asked for lacks one of the two; all problems are named.
    """
    ours, theirs = label_files(predictions), label_files(labels)
    if _is_file(predictions) and _is_file(labels):
        ours = dict(zip(theirs, ours.values(), strict=True))
    elif pattern is not None or theirs.keys() - ours.keys():
        ours = _renamed(ours, theirs, pattern)
    wanted = list(theirs) if cases is None else sorted(set(cases))
    problems = [
        f"case {case}: no label file: remove it from the cases or add it" for case in wanted if case not in theirs
    ]
    problems += [
        f"case {case}: no prediction for {theirs[case]}: {_remedy(ours, theirs)}"
        for case in wanted
        if case in theirs and case not in ours
    ]
    raise_all(problems)
    if not wanted:
        raise InputError("expected at least one case to score, came none")
    return [Pair(case, ours[case], theirs[case]) for case in wanted], len(ours.keys() - theirs.keys())


def _is_file(source: Files) -> bool:
    return isinstance(source, Path) and source.is_file()


def _renamed(ours: Mapping[str, Path], theirs: Mapping[str, Path], pattern: str | None) -> dict[str, Path]:
    """Predictions under the names of the label files that belong to them, as far as that is certain."""
    free = [Named(path, (case,)) for case, path in ours.items() if pattern or case not in theirs]
    open_labels = [Named(path, (case,)) for case, path in theirs.items() if pattern or case not in ours]
    if pattern is not None:
        cases = {item.path: item.parts[0] for item in by_pattern(free, pattern)}
        sought = {item.path: item.parts[0] for item in by_pattern(open_labels, pattern)}
        raise_all(
            f"--pattern {pattern!r}: expected one file of case {case}, came {', '.join(str(path) for path in paths)}: "
            "make its group tell them apart"
            for found in (cases, sought)
            for case in sorted(set(found.values()))
            if len(paths := [path for path, other in found.items() if other == case]) > 1
        )
    else:
        found, _ = match_labels([item.parts for item in free], open_labels)
        cases = {item.path: item.parts[0] for item in free}
        sought = {label: case for (case,), label in found.items()}
    by_case = {case: path for path, case in cases.items()}
    names = {path: case for case, path in theirs.items()}
    renamed = {names[label]: by_case[case] for label, case in sought.items() if case in by_case}
    taken = set(renamed.values())
    return {case: path for case, path in ours.items() if path not in taken} | renamed


def _remedy(ours: Mapping[str, Path], theirs: Mapping[str, Path]) -> str:
    others = [path.name for case, path in ours.items() if case not in theirs]
    there = f" ({', '.join(others[:3])} belong to no label file)" if others else ""
    return (
        f"predict it, name the cases to score with --cases, or tell where the case is in the names with --pattern, as "
        f"in --pattern '(case\\d+)'{there}"
    )
