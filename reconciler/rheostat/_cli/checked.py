"""The findings of `rheostat check`, for people, programs and workflows."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Literal, NamedTuple

from rheostat._config.config import LARGEST
from rheostat._config.document import Mapping, parse_yaml, read_bytes
from rheostat._config.problem import ConfigError, Place, Problem

Format = Literal["text", "json", "github"]

_ENDINGS: Final = (".yaml", ".yml")
_TELLING: Final = ("version", "source", "backend")
"""Keys by which a configuration is told from other YAML."""


class Checked(NamedTuple):
    """A configuration: what is wrong with it, and what else was found where nothing is."""

    path: str
    problems: Sequence[Problem]
    findings: Sequence[str] = ()


def configurations(paths: Sequence[str]) -> list[str]:
    """The files that are named, and the configurations in the folders that are. Raises `ConfigError`."""
    found = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        within = sorted(_within(path))
        if not within:
            expected = f"a configuration: YAML with the keys {', '.join(_TELLING)}"
            raise ConfigError([Problem(Place(path), "", "none", expected)])
        found += within
    return found


def _within(folder: str) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for file in files:
            path = os.path.join(where, file)
            if file.endswith(_ENDINGS) and _is_configuration(path):
                yield path


def _is_configuration(path: str) -> bool:
    # Other YAML may be anything; what is broken says nothing of itself.
    with suppress(ConfigError):
        tree = parse_yaml(read_bytes(path, LARGEST), path)
        return isinstance(tree, Mapping) and all(key in tree.entries for key in _TELLING)
    return False


def show_checked(checked: Sequence[Checked], format: Format) -> None:
    """Problems go to stderr, as ever; programs and workflows get all on stdout."""
    if format == "json":
        print(json.dumps([_document(each) for each in checked], indent=2))
        return
    for each in checked:
        if format == "github":
            print("".join(_annotations(each)), end="")
            continue
        for problem in each.problems:
            print(problem, file=sys.stderr)
        for finding in each.findings:
            print(f"{each.path}: {finding}")
        if not each.problems and not each.findings:
            print(f"{each.path}: fine")


def _document(each: Checked) -> dict[str, object]:
    problems = [
        {
            "file": problem.place.file,
            "line": problem.place.line,
            "column": problem.place.column,
            "path": problem.path,
            "found": problem.found,
            "expected": problem.expected,
            "hint": problem.hint,
            "message": str(problem),
        }
        for problem in each.problems
    ]
    return {"path": each.path, "problems": problems, "findings": list(each.findings)}


def _annotations(each: Checked) -> Iterator[str]:
    for problem in each.problems:
        place = problem.place
        where = f"file={_escaped(os.path.relpath(place.file), ':,')}"
        where += f",line={place.line},col={place.column}" if place.line else ""
        yield f"::error {where}::{_escaped(str(problem._replace(place=Place(os.path.basename(place.file)))))}\n"
    for finding in each.findings:
        yield f"::warning file={_escaped(os.path.relpath(each.path), ':,')}::{_escaped(finding)}\n"


def _escaped(text: str, also: str = "") -> str:
    for each in "%\r\n" + also:
        text = text.replace(each, f"%{ord(each):02X}")
    return text
