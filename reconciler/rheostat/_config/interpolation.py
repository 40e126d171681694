"""``${VAR}`` in a document, taken from the environment after the YAML has been parsed."""

import re
from collections.abc import Mapping as Environment
from collections.abc import MutableSequence
from typing import Final

from rheostat._config.document import Entry, Mapping, Node, Scalar, Sequence
from rheostat._config.problem import Problem, did_you_mean, shown_key

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")
_MOST: Final = 256 * 1024
"""Characters that variables may add to a document: a long one may be named thousands of times."""


def interpolate(root: Mapping, env: Environment[str, str], problems: MutableSequence[Problem]) -> Mapping:
    """The same tree with ``${VAR}``, ``${VAR:-default}`` (if unset or empty) and ``$${`` (a literal ``${``) replaced.

    A variable that is not set and has no default is added to `problems`.
    """
    return _Interpolation(env, problems).mapping(root, "")


class _Interpolation:
    """Owns how much variables have added to the document."""

    def __init__(self, env: Environment[str, str], problems: MutableSequence[Problem]) -> None:
        self._env = env
        self._problems = problems
        self._left = _MOST

    def mapping(self, node: Mapping, path: str) -> Mapping:
        prefix = f"{path}." if path else ""
        entries = {
            key: Entry(entry.place, self._node(entry.node, f"{prefix}{shown_key(key)}"))
            for key, entry in node.entries.items()
        }
        return Mapping(node.place, entries)

    def _node(self, node: Node, path: str) -> Node:
        if isinstance(node, Scalar):
            return self._scalar(node, path)
        if isinstance(node, Sequence):
            return Sequence(node.place, tuple(self._node(each, f"{path}[{i}]") for i, each in enumerate(node.items)))
        return self.mapping(node, path)

    def _scalar(self, node: Scalar, path: str) -> Scalar:
        if "${" not in node.text:
            return node
        text = _REFERENCE.sub(lambda match: self._replaced(match, node, path), node.text)
        return Scalar(node.place, text, node.plain)

    def _replaced(self, match: "re.Match[str]", node: Scalar, path: str) -> str:
        name, default = match["name"], match["default"]
        if match[0] == "$${":
            return "${"
        if name is None:
            is_cut_off = node.plain and "}" not in node.text[match.start() :]
            hint = "' #' begins a comment: put the text in quotes if it has one" if is_cut_off else ""
            return self._fail(node, path, "'${' without a variable", "${NAME}, ${NAME:-default} or $${", hint)
        if default is not None and "${" in default:
            return self._fail(node, path, "'${' without a variable", "no variable within a default")
        if default is None and name not in self._env:
            expected = f"it set in the environment, or a default: ${{{name}:-…}}"
            return self._fail(node, path, f"the unset variable {name}", expected, did_you_mean(name, self._env))
        value = self._env.get(name, "")
        self._left -= len(value)
        if self._left < 0:
            found = f"variables of more than {_MOST // 1024} KiB together"
            return self._fail(node, path, found, "shorter ones, or fewer")
        return value if default is None else value or str(default).removeprefix(":-")

    def _fail(self, node: Scalar, path: str, found: str, expected: str, hint: str = "") -> str:
        self._problems.append(Problem(node.place, path, found, expected, hint))
        return ""
