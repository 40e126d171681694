"""``${VAR}`` in a document, taken from the environment after the YAML has been parsed."""

import re
from collections.abc import Mapping as Environment
from collections.abc import MutableSequence

from .document import Entry, Mapping, Node, Scalar, Sequence
from .problem import Problem, did_you_mean

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")


def interpolate(root: Mapping, env: Environment[str, str], problems: MutableSequence[Problem]) -> Mapping:
    """The same tree with ``${VAR}``, ``${VAR:-default}`` (if unset or empty) and ``$${`` (a literal ``${``) replaced.

    A variable that is not set and has no default is added to `problems`.
    """
    return _mapping(root, env, problems, "")


def _node(node: Node, env: Environment[str, str], problems: MutableSequence[Problem], path: str) -> Node:
    if isinstance(node, Scalar):
        return _scalar(node, env, problems, path)
    if isinstance(node, Sequence):
        items = (_node(each, env, problems, f"{path}[{i}]") for i, each in enumerate(node.items))
        return Sequence(node.place, tuple(items))
    return _mapping(node, env, problems, path)


def _mapping(node: Mapping, env: Environment[str, str], problems: MutableSequence[Problem], path: str) -> Mapping:
    prefix = f"{path}." if path else ""
    entries = {
        key: Entry(entry.place, _node(entry.node, env, problems, f"{prefix}{key}"))
        for key, entry in node.entries.items()
    }
    return Mapping(node.place, entries)


def _scalar(node: Scalar, env: Environment[str, str], problems: MutableSequence[Problem], path: str) -> Scalar:
    if "${" not in node.text:
        return node

    def replace(match: "re.Match[str]") -> str:
        name, default = match["name"], match["default"]
        if match[0] == "$${":
            return "${"
        if name is None:
            problems.append(Problem(node.place, path, "'${' without a variable", "${NAME}, ${NAME:-default} or $${"))
            return ""
        if default is not None and "${" in default:
            expected = "no variable within a default"
            problems.append(Problem(node.place, path, "'${' without a variable", expected))
            return ""
        if default is not None:
            return env.get(name) or str(default).removeprefix(":-")
        if name not in env:
            expected = f"it set in the environment, or a default: ${{{name}:-…}}"
            problems.append(Problem(node.place, path, f"the unset variable {name}", expected, did_you_mean(name, env)))
            return ""
        return env[name]

    return Scalar(node.place, _REFERENCE.sub(replace, node.text), node.plain)
