"""From a document's nodes to frozen dataclasses, field by field, with every error and its place."""

import inspect
import os
import types
from collections.abc import Callable, Mapping, MutableSequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from rheostat._config.document import Mapping as MappingNode
from rheostat._config.document import Node, Scalar, read_bytes
from rheostat._config.document import Sequence as SequenceNode
from rheostat._config.problem import ConfigError, Problem, did_you_mean, shown_key
from rheostat._contract.backend import Parameter
from rheostat._contract.options import Duration, FilePath, InvalidOptions, parse_duration
from rheostat._contract.secret import Secret, Url
from rheostat._contract.values import Unreadable, in_words, read_as

FILE_TWIN: Final = "_file"
_LARGEST_SECRET: Final = 64 * 1024

_PLAIN: Final = (bool, int, float, str)


class _Invalid:
    """Stands for a value whose problem has been noted."""


INVALID: Final = _Invalid()


class Decoder:
    """Reads nodes as the types that dataclass fields declare, and collects all problems.

    Known types: bool, int, float, str, `Duration`, `FilePath` (relative to `base`), `Secret` and `Url` (with a
    ``…_file`` twin), Literal, Mapping, tuple[X, ...], dataclasses, unions with None, object (plain values), the
    document's own nodes, any class with a ``from_text(text)`` that raises ValueError with what was expected, and
    ``Annotated[Setting, Parameter(...)]``, which `compile_setting` reads.
    `secrets` gathers the texts that must never be printed.
    """

    def __init__(self, base: str, problems: MutableSequence[Problem], secrets: MutableSequence[str]) -> None:
        self.base = base
        self.problems = problems
        self.secrets = secrets
        self.compile_setting: Callable[[str, Node, Parameter], Any] = lambda path, node, parameter: INVALID

    def read(self, annotation: Any, node: Node, path: str) -> Any:
        """The node as a value of the annotated type, or `INVALID` with the problem noted."""
        origin = get_origin(annotation)
        if annotation == Node:
            return node
        if annotation is object:
            return node.value()
        if origin is Annotated:
            return self.compile_setting(path, node, *get_args(annotation)[1:])
        if origin in (Union, types.UnionType):
            return self._optional(annotation, node, path)
        if origin is Literal:
            return self._literal(get_args(annotation), node, path)
        if origin is tuple:
            return self._items(get_args(annotation)[0], node, path)
        if origin is not None and issubclass(origin, Mapping):
            return self._mapping(get_args(annotation)[1], node, path)
        if isinstance(annotation, type) and (is_dataclass(annotation) or hasattr(annotation, "_fields")):
            # Some sections have a short form.
            if hasattr(annotation, "from_text") and isinstance(node, Scalar) and not node.is_null:
                return self._from_text(annotation, node, path)
            return self.section(annotation, node, path)
        return self._scalar(annotation, node, path)

    def section(self, cls: type, node: Node, path: str, *, beside: tuple[str, ...] = ()) -> Any:
        """A mapping as an instance of the dataclass, or `INVALID`. Unknown keys are errors.

        `beside` are the keys that the file has there too, and that were read already.
        """
        if not isinstance(node, MappingNode):
            return self.fail(node, path, "a mapping")
        hints = hints_of(cls)
        known = fields_of(cls)
        twins = {name + FILE_TWIN: name for name in known if is_secret(hints[name])}
        self._refuse_unknown(node, path, [*beside, *known, *twins])
        given: dict[str, Any] = {}
        for key, entry in node.entries.items():
            if key in known and (known[key] or not _is_empty_section(hints[key], entry.node)):
                given[key] = self.read(hints[key], entry.node, _join(path, key))
        for twin, name in twins.items():
            if twin in node.entries:
                given[name] = self._from_file(hints[name], node, twin, name, path)
        missing = [name for name, required in known.items() if required and name not in given]
        for name in missing:
            self.problems.append(Problem(node.place, _join(path, name), "no such key", "this key, it is required"))
        valid = {name: value for name, value in given.items() if value is not INVALID}
        if missing:
            return INVALID
        if len(valid) == len(given):
            return self._build(cls, valid, node, path)
        self._check_the_rest(cls, valid, node, path)
        return INVALID

    def fail(self, node: Node, path: str, expected: str, found: str | None = None, hint: str = "") -> _Invalid:
        self.problems.append(Problem(node.place, path, found or node.describe(), expected, hint))
        return INVALID

    def _refuse_unknown(self, node: MappingNode, path: str, known: list[str]) -> None:
        for key, entry in node.entries.items():
            if key not in known:
                hint = "a colon needs a space after it" if ":" in key else did_you_mean(key, known)
                expected = f"one of {', '.join(sorted(known))}" if known else "no keys"
                self.problems.append(Problem(entry.place, _join(path, key), "an unknown key", expected, hint))

    def _build(self, cls: type, given: dict[str, Any], node: MappingNode, path: str) -> Any:
        try:
            made = cls(**given)
            # A named tuple cannot check itself while it is made, as a dataclass does.
            if hasattr(made, "check") and not is_dataclass(cls):
                made.check()
        except InvalidOptions as error:
            for name, expected in error.expected.items():
                self._blame(cls, name, expected, given, node, path)
            return INVALID
        except ValueError as error:
            return self.fail(node, path, f"options that {cls.__qualname__} accepts: {error}", found="others")
        return made

    def _check_the_rest(self, cls: type, valid: dict[str, Any], node: MappingNode, path: str) -> None:
        """The errors of the valid fields among each other, though others are invalid: all errors at once."""
        try:
            cls(**valid)
        except InvalidOptions as error:
            for name, expected in error.expected.items():
                if name in valid:
                    self._blame(cls, name, expected, valid, node, path)
        except (TypeError, ValueError):
            return

    def _blame(
        self, cls: type, name: str, expected: str, given: Mapping[str, Any], node: MappingNode, path: str
    ) -> None:
        name_there = name if name in node.entries else name + FILE_TWIN
        entry = node.entries.get(name_there)
        where = _join(path, name_there)
        if entry is None:
            self.problems.append(Problem(node.place, _join(path, name), "no such key", expected))
        elif _holds_secret(hints_of(cls).get(name)):
            shown = (str(given[name]) or "an empty text") if isinstance(given.get(name), Url) else "a secret value"
            self.problems.append(Problem(entry.node.place, where, shown, expected))
        else:
            self.problems.append(Problem(entry.node.place, where, entry.node.describe(), expected))

    def _optional(self, annotation: Any, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and node.is_null:
            return None
        inner = tuple(each for each in get_args(annotation) if each is not type(None))
        return self.read(inner[0] if len(inner) == 1 else Union[inner], node, path)  # noqa: UP007  # made at run time

    def _literal(self, choices: tuple[Any, ...], node: Node, path: str) -> Any:
        text = node.text if isinstance(node, Scalar) else None
        for choice in choices:
            if str(choice) == text:
                return choice
        hint = did_you_mean(text or "", map(str, choices))
        return self.fail(node, path, f"one of {', '.join(map(str, choices))}", hint=hint)

    def _items(self, item: Any, node: Node, path: str) -> Any:
        if not isinstance(node, SequenceNode):
            return self.fail(node, path, "a list")
        values = [self.read(item, each, f"{path}[{i}]") for i, each in enumerate(node.items)]
        return INVALID if INVALID in values else tuple(values)

    def _mapping(self, item: Any, node: Node, path: str) -> Any:
        if not isinstance(node, MappingNode):
            found = "something else" if is_secret(item) else None
            return self.fail(node, path, "a mapping", found)
        values = {
            key.removesuffix(FILE_TWIN) if is_secret(item) else key: self._mapped(item, node, key, path)
            for key in node.entries
        }
        return INVALID if INVALID in values.values() else types.MappingProxyType(values)

    def _mapped(self, item: Any, node: MappingNode, key: str, path: str) -> Any:
        if is_secret(item) and key.endswith(FILE_TWIN):
            return self._from_file(item, node, key, key.removesuffix(FILE_TWIN), path)
        return self.read(item, node.entries[key].node, _join(path, key))

    def _scalar(self, kind: Any, node: Node, path: str) -> Any:
        if kind is Secret or kind is Url:
            return self._secret(kind, node, path)
        if not isinstance(node, Scalar):
            return self.fail(node, path, _expected(kind))
        if kind is Duration:
            return self._duration(node, path)
        if node.is_null:
            return self.fail(node, path, _expected(kind))
        if kind is FilePath:
            if not node.text or "\0" in node.text:
                return self.fail(node, path, "the path of a file")
            return os.path.join(self.base, os.path.expanduser(node.text))
        if hasattr(kind, "from_text"):
            return self._from_text(kind, node, path)
        if kind is str:
            return node.text
        return self._plain(kind, node, path)

    def _from_text(self, kind: Any, node: Scalar, path: str) -> Any:
        try:
            return kind.from_text(node.text)
        except ValueError as error:
            return self.fail(node, path, str(error))

    def _plain(self, kind: Any, node: Scalar, path: str) -> Any:
        if kind not in _PLAIN:
            raise TypeError(f"{path}: options cannot have the type {kind!r}")
        try:
            return read_as(kind, node.value())
        except Unreadable:
            return self.fail(node, path, in_words(kind))

    def _duration(self, node: Scalar, path: str) -> Any:
        try:
            return parse_duration(node.text)
        except ValueError:
            return self.fail(node, path, "a duration like 500ms, 10s, 5m or 1h, a year at most")

    def _secret(self, kind: type[Secret], node: Node, path: str) -> Any:
        if not isinstance(node, Scalar) or node.is_null:
            found = "nothing" if isinstance(node, Scalar) else node.describe()
            return self.fail(node, path, "a text", found)
        return self._kept(kind, node.text)

    def _kept(self, kind: type[Secret], text: str) -> Secret:
        if issubclass(kind, Url):
            url = kind(text)
            user, _, password = url.credentials.partition(":")
            self._remember(url.credentials, user, password)
            return url
        # A header's value is a scheme and a credential, and a vendor may quote the credential alone.
        self._remember(text, text.partition(" ")[2])
        return kind(text)

    def _remember(self, *texts: str) -> None:
        self.secrets.extend(each for each in texts if each and each not in self.secrets)

    def _from_file(self, annotation: Any, node: MappingNode, twin: str, name: str, path: str) -> Any:
        entry = node.entries[twin]
        where = _join(path, twin)
        if name in node.entries:
            return self.fail(entry.node, where, f"either {name} or {twin}", found="both")
        file = self.read(FilePath, entry.node, where)
        if file is INVALID:
            return INVALID
        try:
            text = read_bytes(file, _LARGEST_SECRET).decode().rstrip("\r\n")
        except (ConfigError, UnicodeDecodeError):
            return self.fail(entry.node, where, "a readable text file")
        return self._kept(_secret_type(annotation), text)


def hints_of(cls: type) -> Mapping[str, Any]:
    """The types of its fields. Taken as they stand where none is written as a text, which is ten times as fast."""
    own = inspect.get_annotations(cls)
    plain = own.keys() >= fields_of(cls).keys() and not any(isinstance(each, str) for each in own.values())
    return own if plain else get_type_hints(cls)


def fields_of(cls: Any) -> dict[str, bool]:
    """The fields of a dataclass or named tuple, and whether each is required."""
    if not is_dataclass(cls):
        return {name: name not in cls._field_defaults for name in cls._fields}
    return {each.name: each.default is MISSING and each.default_factory is MISSING for each in fields(cls) if each.init}


def _is_empty_section(annotation: Any, node: Node) -> bool:
    """A section all of whose keys are commented out is as good as absent."""
    if not isinstance(node, Scalar) or not node.is_null:
        return False
    is_record = isinstance(annotation, type) and (is_dataclass(annotation) or hasattr(annotation, "_fields"))
    origin = get_origin(annotation)
    return is_record or (isinstance(origin, type) and issubclass(origin, Mapping))


def _expected(kind: Any) -> str:
    return in_words(kind) if kind in _PLAIN else "a value"


def _secret_type(annotation: Any) -> type[Secret]:
    candidates = get_args(annotation) or (annotation,)
    return next(each for each in candidates if isinstance(each, type) and issubclass(each, Secret))


def is_secret(annotation: Any) -> bool:
    candidates = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return any(isinstance(each, type) and issubclass(each, Secret) for each in candidates)


def _holds_secret(annotation: Any) -> bool:
    return is_secret(annotation) or any(is_secret(each) for each in get_args(annotation))


def _join(path: str, key: str) -> str:
    return f"{path}.{shown_key(key)}" if path else shown_key(key)
