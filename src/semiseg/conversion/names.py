"""What the names of scans tell: which files are channels of one case, and what the case is called."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.errors import InputError
from semiseg.scans.found import stem_of

LABEL_WORDS = frozenset(
    {"seg", "segs", "segmentation", "segmentations", "label", "labels", "lbl", "mask", "masks", "gt", "groundtruth"}
    | {"manual", "annotation", "annotations"}
)
IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "scan", "scans", "volume", "volumes"})
CHANNEL_WORDS = (
    *("flair", "t1", "t1w", "t1n", "t1ce", "t1c", "t1gd", "t2", "t2w", "t2f", "pd", "dwi", "adc", "swi"),
    *("mr", "mri", "ct", "cta", "pet", "suv"),
)

_NUMBERED = re.compile(r"(?P<head>.*?)[ _.-]?(?<!\d)(?P<channel>\d{4})")
_MOST_CHANNELS = 16
_ODD = re.compile(r"[^A-Za-z0-9._-]+")

Key = tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """A scan and the parts of its path below the folder it was looked for in, the last one without its ending."""

    path: Path
    parts: Key


@dataclass(frozen=True)
class Grouped:
    """Files by case (what names it) and channel; `channels` is empty when names tell of none.

    Attributes:
        cases: path by number of the channel, by case.
        channels: names of the channels in order.
        skipped: files that are no channel that was asked for.
    """

    cases: Mapping[Key, Mapping[int, Path]]
    channels: tuple[str, ...] = ()
    skipped: tuple[Path, ...] = ()


def named(path: Path, root: Path) -> Named:
    """The parts of `path` below `root`; its name alone when it is elsewhere."""
    folders = path.parent.relative_to(root).parts if path.parent.is_relative_to(root) else ()
    return Named(path, (*folders, stem_of(path)))


def tokens(parts: Sequence[str]) -> Counter[str]:
    """Runs of letters and of digits, lower case; words that only say that this is an image or a label are left out."""
    found = [token for part in parts for token in re.findall(r"[a-z]+|\d+", part.lower())]
    told = [token for token in found if token not in LABEL_WORDS and token not in IMAGE_WORDS]
    return Counter(told or found)


def is_label(item: Named) -> bool:
    """Whether the name of a file says that it is a label."""
    return any(token in LABEL_WORDS for token in re.findall(r"[a-z]+", item.parts[-1].lower()))


def group(items: Sequence[Named], channels: Sequence[str], labels: Collection[Named]) -> Grouped:
    """Put the channels of a case together, by a suffix of four digits or a word such as `_t1`.

    Numbers are taken for channels only where that leaves no doubt: every case has channel 0000, there are several cases
    (or as many numbers as `channels`), and no label is named as if the number were part of the case.

    Args:
        items: all image files.
        channels: names asked for; more than one makes suffixes of these names channels.
        labels: all label files.
    """
    if _numbered(items, channels, labels):
        cases: dict[Key, dict[int, Path]] = defaultdict(dict)
        for item in items:
            match = _NUMBERED.fullmatch(item.parts[-1])
            assert match is not None
            cases[_key(item, match["head"])][int(match["channel"])] = item.path
        return Grouped(cases)
    words = channels if len(channels) > 1 else CHANNEL_WORDS
    found = {item: suffix for item in items if (suffix := _suffix(item, words)) is not None}
    if found and (len(found) == len(items) or len(channels) > 1):
        return _by_word(items, found, words, ordered=len(channels) > 1)
    return Grouped({item.parts: {0: item.path} for item in items})


def case_ids(keys: Collection[Key]) -> dict[Key, str]:
    """A short id for each case: what tells the cases apart, in the characters that file names may have.

    Raises:
        InputError: two cases would have one id.
    """
    keys = list(keys)
    shortened = {key: _shorten(key, keys) for key in keys}
    ids = {key: _ODD.sub("_", "_".join(parts)).strip("._-") or "case" for key, parts in shortened.items()}
    held: dict[str, list[str]] = defaultdict(list)
    for key, case in ids.items():
        held[case].append("/".join(key))
    problems = [
        f"case {case!r}: expected one scan of this name, came {', '.join(names)}: rename one, or name the channels "
        "with --channels"
        for case, names in held.items()
        if len(names) > 1
    ]
    if problems:
        raise InputError(*problems)
    return ids


def _numbered(items: Sequence[Named], channels: Sequence[str], labels: Collection[Named]) -> bool:
    numbers: dict[Key, set[int]] = defaultdict(set)
    for item in items:
        match = _NUMBERED.fullmatch(item.parts[-1])
        if match is None:
            return False
        numbers[_key(item, match["head"])].add(int(match["channel"]))
    most = max(max(found) for found in numbers.values())
    if any(0 not in found for found in numbers.values()) or most >= _MOST_CHANNELS:
        return False
    named_so = {tuple(sorted(tokens(item.parts).elements())) for item in items}
    if most and any(tuple(sorted(tokens(label.parts).elements())) in named_so for label in labels):
        return False
    return most == 0 or len(numbers) > 1 or len(channels) == most + 1


def _suffix(item: Named, words: Sequence[str]) -> tuple[str, str] | None:
    """The last part before a channel's name, and that name; the longest name wins."""
    last = item.parts[-1]
    for word in sorted(words, key=len, reverse=True):
        head = last[: len(last) - len(word)]
        if last.lower().endswith(word.lower()) and (not head or not head[-1].isalnum()):
            return head.rstrip(" _.-"), word
    return None


def _by_word(
    items: Sequence[Named], found: Mapping[Named, tuple[str, str]], words: Sequence[str], *, ordered: bool
) -> Grouped:
    used = {word for _, word in found.values()}
    channels = tuple(words) if ordered else tuple(word for word in words if word in used)
    cases: dict[Key, dict[int, Path]] = defaultdict(dict)
    for item, (head, word) in found.items():
        cases[_key(item, head)][channels.index(word)] = item.path
    return Grouped(cases, channels, tuple(item.path for item in items if item not in found))


def _key(item: Named, head: str) -> Key:
    return (*item.parts[:-1], head) if head or not item.parts[:-1] else item.parts[:-1]


def _shorten(key: Key, keys: Sequence[Key]) -> Key:
    """Leave out folders that all cases share, folders that the name repeats, and names that all cases share."""
    last = key[-1]
    if len(key) > 1 and (_idle(last) or (len(keys) > 1 and len({other[-1] for other in keys}) == 1)):
        key = key[:-1]
    kept = [
        part
        for depth, part in enumerate(key[:-1])
        if {other[depth : depth + 1] for other in keys} != {(part,)} and not key[-1].lower().startswith(part.lower())
    ]
    return (*kept, key[-1])


def _idle(part: str) -> bool:
    return all(token in IMAGE_WORDS for token in re.findall(r"[a-z]+|\d+", part.lower()))
