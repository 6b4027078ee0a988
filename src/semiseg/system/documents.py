"""JSON and YAML documents that may come from elsewhere: bounded in size, in depth and in what aliases stand for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from semiseg.errors import InputError

_LONGEST = 64 << 20  # bytes; the splits and logs of a million cases are shorter
_LONGEST_YAML = 1 << 20  # parsed by Python, at about a second per 100 kB
_DEEPEST = 60
_MOST = 100_000
_ODD = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)
"""What PyYAML raises for values that are none, such as `!!int ''`, besides its own errors."""


def read_json(path: Path, meaning: str) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        InputError: there is no such file, or it holds no JSON object; `meaning` says what was expected.
    """
    try:
        content = parse_json(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: expected {meaning}, but it cannot be read ({error.strerror}): add it") from None
    except ValueError as error:
        raise InputError(f"{path}: expected {meaning}, came no valid JSON ({error}): correct it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected {meaning}, came {type(content).__name__} instead of an object: correct it")
    return content


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, without the mark that some editors put at its beginning.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, too long for a document, or no text.
    """
    if path.exists() and not path.is_file():
        raise ValueError("this is no file")
    if path.stat().st_size > _LONGEST:
        raise ValueError(f"{path.stat().st_size} bytes are too many for it")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("its characters are not in UTF-8: save it as UTF-8") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or deeper than any document of this package.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _items(outer)]
    if level:
        raise ValueError("it is nested too deeply")
    return value


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; its tags make plain values only.

    Raises:
        ValueError: it is no YAML, too long or too deep, or its aliases stand for more than any document holds.
    """
    if len(text) > _LONGEST_YAML:
        raise ValueError(f"{len(text)} characters are too many for settings")
    depth = 0
    for bracket in re.findall(r"[\[{}\]]", text):  # PyYAML takes a time that grows with the square of the depth
        depth += 1 if bracket in "[{" else -1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _check_nodes(node)
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, *_ODD) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    finally:
        if loader is not None:
            loader.dispose()


def _items(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _check_nodes(root: yaml.Node | None) -> None:
    """Walk through the tree as it is when every alias is written out, which may be without end."""
    count, waiting = 0, [] if root is None else [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > _MOST or depth > _DEEPEST:
            raise ValueError("it is nested too deeply, or its aliases stand for too much: write them out")
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in node.value]
