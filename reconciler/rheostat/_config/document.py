"""YAML that is safe to read from anywhere: a tree of nodes that know their places.

The parser's events are judged before anything is constructed, because composing can take seconds (merge keys,
aliases) or crash the interpreter (the C composer recurses). Values are typed by who reads them, not by YAML 1.1:
``no`` stays a text where a text is wanted, and ``010``, ``1_000`` or ``12:30`` are never taken for numbers.
"""

import codecs
import os
import posix
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

import yaml
from yaml.reader import Reader
from yaml.resolver import Resolver

from rheostat._config.problem import ConfigError, Place, Problem, shown_key
from rheostat._contract.text import shorten
from rheostat._contract.values import is_whole

DEEPEST: Final = 20
MOST_NODES: Final = 10_000
"""Keys and values of a document: more would take longer than a tenth of a second."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = Resolver()
_STANDARD = "tag:yaml.org,2002:"
_ODD_FLOATS: Final = {
    ".inf": float("inf"),
    "+.inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}
_NOT_PLAIN: Final = r'"(?:[^"\\]|\\.)*(?:"|$)|\'[^\']*(?:\'|$)|(?:^|\s)#.*'
"""Quoted texts, closed or not, and comments. Each character is looked at once, however the line is made."""
_TRUE: Final = frozenset({"yes", "true", "on"})


class Scalar(NamedTuple):
    """A text as written; `plain` if without quotes, so that it may stand for a number, a boolean or nothing."""

    place: Place
    text: str
    plain: bool

    def __repr__(self) -> str:
        """Without the text, which may be a secret."""
        return f"Scalar({self.place})"

    @property
    def is_null(self) -> bool:
        return self.plain and self.value() is None

    def value(self) -> bool | int | float | str | None:
        """The value that the text stands for. Numbers in other notations than decimal stay texts."""
        if not self.plain:
            return self.text
        tag = _RESOLVER.resolve(yaml.ScalarNode, self.text, (True, False)).removeprefix(_STANDARD)
        if tag == "null":
            return None
        if tag == "bool":
            return self.text.lower() in _TRUE
        if tag in ("int", "float"):
            return self._number()
        return self.text

    def _number(self) -> int | float | str:
        text = self.text.lower()
        if text in _ODD_FLOATS:
            return _ODD_FLOATS[text]
        if is_whole(text, len(text)):
            with suppress(ValueError):  # CPython refuses to convert thousands of digits.
                return int(text)
            return self.text
        # Nor would YAML 1.1 stop at decimals: 12:30.5 is 750.5 to it.
        return self.text if "." not in text or "_" in text or ":" in text else float(text)

    def describe(self) -> str:
        return "nothing" if self.is_null else repr(shorten(self.text))


class Sequence(NamedTuple):
    place: Place
    items: "tuple[Node, ...]"

    def value(self) -> object:
        return [item.value() for item in self.items]

    def describe(self) -> str:
        return "a list"


class Entry(NamedTuple):
    """A key, where it stands, and what it holds."""

    place: Place
    node: "Node"


class Mapping(NamedTuple):
    place: Place
    entries: dict[str, Entry]

    def value(self) -> object:
        return {key: entry.node.value() for key, entry in self.entries.items()}

    def describe(self) -> str:
        return "a mapping"


Node = Scalar | Sequence | Mapping


def read_bytes(path: str, largest: int) -> bytes:
    """The content of a regular file of at most `largest` bytes. Raises `ConfigError`, and never waits for a pipe."""
    try:
        data = _regular_bytes(path, largest + 1)
    except OSError as error:
        raise ConfigError([Problem(Place(path), "", error.strerror or str(error), "a readable file")]) from None
    except ValueError as error:
        raise ConfigError([Problem(Place(shorten(path)), "", f"an impossible path ({error})", "a path")]) from None
    size = f"{largest // 1024} KiB"
    if data is None:
        raise ConfigError([Problem(Place(path), "", "a folder or a special file", "a regular file")])
    if len(data) > largest:
        raise ConfigError([Problem(Place(path), "", f"more than {size}", f"at most {size}")])
    return data


def _regular_bytes(path: str, most: int) -> bytes | None:
    """At most so many bytes; None where it is no regular file."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    # Not the function of `os`, which is eventlet's where it has been patched, and wants a hub.
    with open(posix.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(most)


def parse_yaml(data: bytes, file: str) -> Mapping:
    """Read one YAML document that is a mapping; `file` names it in errors.

    Aliases, merge keys, tags, duplicate keys, several documents and depths over 20 are refused.

    Raises `ConfigError`.
    """
    return _Reader(file).read(data)


def _kind_of(root: Node | None) -> str:
    """Without its text: a file that holds a token and nothing else may have been named by mistake."""
    if root is None:
        return "nothing"
    return "a text" if isinstance(root, Scalar) and not root.is_null else root.describe()


def _hint(line: str) -> str:
    """Without quotes the braces of an interpolation are YAML's own in a list or mapping on one line, and so is what
    may stand beside it: a colon with a space, quotes, or a sign at the beginning."""
    return 'put the text with ${…} in quotes: "${…}"' if "${" in re.sub(_NOT_PLAIN, "", line) else ""


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self._nodes = 0

    def read(self, data: bytes) -> Mapping:
        text = self._decode(data)
        try:
            root = self._document(yaml.parse(text, Loader=_LOADER))
        except yaml.YAMLError as error:
            raise ConfigError([self._syntax(error, text)]) from None
        if not isinstance(root, Mapping):
            place = Place(self.file) if root is None else root.place
            raise ConfigError([Problem(place, "", _kind_of(root), "a mapping")])
        return root

    def _decode(self, data: bytes) -> str:
        # The codec "utf-8-sig" is a module of its own, and its import a millisecond.
        data = data.removeprefix(codecs.BOM_UTF8)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            found = f"byte 0x{data[error.start]:02x}, which is not UTF-8"
            raise ConfigError([Problem(self._end_of(data[: error.start].decode()), "", found, "UTF-8 text")]) from None

    def _syntax(self, error: yaml.YAMLError, text: str) -> Problem:
        """The parser's complaint, without its excerpt of the file: that could show a secret."""
        expected = "valid YAML"
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            context = f" {error.context}" if error.context else ""
            mark, lines = error.problem_mark, text.splitlines()
            if error.context_mark is not None and mark.line >= len(lines):
                # Found out only at the end of the file: what was never closed is the better place to look.
                mark = error.context_mark
            found = f"a syntax error{context}: {error.problem}"
            return Problem(self._place(mark), "", found, expected, _hint("".join(lines[mark.line : mark.line + 1])))
        odd = Reader.NON_PRINTABLE.search(text)
        place = Place(self.file) if odd is None else self._end_of(text[: odd.start()])
        return Problem(place, "", "a character that YAML does not allow", expected)

    def _end_of(self, text: str) -> Place:
        return Place(self.file, text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)

    def _place(self, mark: Any) -> Place:
        return Place(self.file, mark.line + 1, mark.column + 1)

    def _refuse(self, event: Any, found: str, expected: str) -> ConfigError:
        return ConfigError([Problem(self._place(event.start_mark), "", found, expected)])

    def _document(self, events: Iterator[Any]) -> Node | None:
        root = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise self._refuse(event, "a second document", "one document")
            if isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 1)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            # Its name, like a tag's, may be the beginning of a password without quotes.
            raise self._refuse(event, "an alias", "the value itself")
        if event.tag is not None and not (isinstance(event, yaml.ScalarEvent) and event.tag == "!"):
            raise self._refuse(event, "a tag", "a plain value")
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise self._refuse(event, f"more than {MOST_NODES} keys and values", "fewer")
        if depth > DEEPEST:
            raise self._refuse(event, f"more than {DEEPEST} levels", f"at most {DEEPEST} levels of nesting")
        place = self._place(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(place, event.value, plain=event.style is None or event.style == "")
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(place, tuple(self._items(events, depth)))
        return Mapping(place, self._entries(events, depth))

    def _items(self, events: Iterator[Any], depth: int) -> Iterator[Node]:
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            yield self._node(event, events, depth + 1)

    def _entries(self, events: Iterator[Any], depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, depth + 1)
            if not isinstance(key, Scalar):
                raise self._refuse(event, f"{key.describe()} as a key", "a text as a key")
            if key.plain and key.text == "<<":
                raise self._refuse(event, "the merge key <<", "the keys themselves")
            if key.text in entries:
                first = entries[key.text].place.line
                raise self._refuse(
                    event, f"the key {shorten(shown_key(key.text))!r} again", f"it once (first on line {first})"
                )
            entries[key.text] = Entry(key.place, self._node(next(events), events, depth + 1))
        return entries
