"""Flags written as a flat YAML (or JSON) mapping: flag to scalar."""

from collections.abc import Mapping, Sequence

from rheostat._config.document import Entry, Node, Scalar, parse_yaml
from rheostat._config.document import Mapping as MappingNode
from rheostat._config.problem import ConfigError
from rheostat._contract.flagsource import Reading, SourceUnavailable


def parse_flags(data: bytes, name: str, wanted: Mapping[str, type] | None, path: Sequence[str] = ()) -> Reading:
    """Read the wanted flags (None: all) out of a flat mapping; `name` stands for the file in errors.

    `path` are the keys that lead to that mapping from the document's own.

    A plain scalar is what YAML says it is, except where a text is wanted: there ``off`` is a text too. A list or a
    mapping is an error of that flag alone; anything wrong with the document raises `SourceUnavailable`.

    >>> parse_flags(b"profiling_enabled: on", "flags.yaml", {"profiling_enabled": bool}).values
    {'profiling_enabled': True}
    """
    entries = _entries(data, name, path)
    kinds = dict.fromkeys(entries, object) if wanted is None else wanted
    found = {flag: entries[flag].node for flag in kinds if flag in entries}
    return Reading(
        values={flag: _value(node, kinds[flag]) for flag, node in found.items()},
        reasons={flag: f"line {node.place.line}" for flag, node in found.items()},
        errors={
            flag: f"{node.place}: found {node.describe()}, expected a plain value"
            for flag, node in found.items()
            if not isinstance(node, Scalar)
        },
    )


def flag_names(data: bytes, name: str) -> list[str]:
    """All flags that such a document defines. Raises `SourceUnavailable`."""
    return list(_entries(data, name, ()))


def _entries(data: bytes, name: str, path: Sequence[str]) -> Mapping[str, Entry]:
    try:
        tree = parse_yaml(data, name)
    except ConfigError as error:
        raise SourceUnavailable(str(error)) from None
    for number, key in enumerate(path):
        where = ".".join(path[: number + 1])
        entry = tree.entries.get(key)
        if entry is None:
            raise SourceUnavailable(f"{name}: found nothing at {where}, expected a mapping of flags")
        if not isinstance(entry.node, MappingNode):
            found = f"{entry.place}: {where}: found {entry.node.describe()}"
            raise SourceUnavailable(f"{found}, expected a mapping of flags")
        tree = entry.node
    return tree.entries


def _value(node: Node, kind: type) -> object:
    value = node.value()
    if kind is str and isinstance(node, Scalar) and value is not None:
        return node.text
    return value
