"""From the ``enabled`` and ``settings`` sections to rules, held against what the backend lets be tuned."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from rheostat._config.decode import INVALID, Decoder
from rheostat._config.document import Entry, Node, Scalar
from rheostat._config.document import Mapping as MappingNode
from rheostat._config.problem import Problem, did_you_mean, shown_key
from rheostat._contract.backend import Parameter
from rheostat._contract.values import Bytes, Percent, Seconds, Unreadable, Value, in_words, read_as
from rheostat._core.rules import ENABLED, Limits, Otherwise, Rules, Setting


class _Clamp(NamedTuple):
    min: Node | None = None
    max: Node | None = None
    choices: tuple[Node, ...] | None = None
    otherwise: Otherwise = "default"


class _Setting(NamedTuple):
    flag: str | None = None
    default: Node | None = None
    clamp: _Clamp = _Clamp()


def compile_rules(
    enabled: Node,
    settings: Node | None,
    parameters: Mapping[str, Parameter] | None,
    backend: str,
    decoder: Decoder,
    *,
    known: bool = True,
    without_effect: Collection[str] = (),
) -> Rules | None:
    """The rules, or None with the problems noted. `known` is False if the backend's class could not be found.

    Settings `without_effect` are no part of the rules; what is wrong with them as they stand is noted all the same.
    """
    compiler = _Compiler(decoder, backend)
    switch = compiler.setting(ENABLED, ENABLED, enabled, Parameter(bool, False))
    tuned = compiler.settings(settings, parameters, known, without_effect)
    if switch is None or None in tuned:
        return None
    rules = Rules(enabled=switch, settings=tuple(each for each in tuned if each is not None))
    return rules if parameters is None or compiler.flags_agree(rules, settings) else None


def compile_tunable(decoder: Decoder, path: str, node: Node, parameter: Parameter) -> Setting | object:
    """A setting of the policy, whose place in the file is its name there; or `INVALID`, with the problem noted."""
    name = path.removeprefix("policy.")
    setting = _Compiler(decoder, "").setting(name, path, node, parameter)
    return INVALID if setting is None else setting


def with_tunables(rules: Rules, tunables: tuple[Setting, ...], policy: Node | None, decoder: Decoder) -> Rules | None:
    """The rules with the policy's settings, or None if a flag would have to be read as two types."""
    first = {each.flag: each for each in rules.all if each.flag is not None}
    for each in tunables:
        other = each if each.flag is None else first.setdefault(each.flag, each)
        if other.kind is not each.kind and policy is not None:
            found = f"flag {each.flag!r} for {each.name}, already used for {other.name}"
            expected = f"another flag, because {other.name} reads it as {in_words(other.kind)}"
            decoder.fail(policy, f"policy.{each.name}.flag", expected, found)
            return None
    return rules._replace(tunables=tunables)


class _Compiler:
    def __init__(self, decoder: Decoder, backend: str) -> None:
        self.decoder = decoder
        self.backend = backend

    def settings(
        self,
        node: Node | None,
        parameters: Mapping[str, Parameter] | None,
        known: bool,
        without_effect: Collection[str],
    ) -> list[Setting | None]:
        if node is None or (isinstance(node, Scalar) and node.value() is None):
            return []
        if not isinstance(node, MappingNode):
            self.decoder.fail(node, "settings", "a mapping")
            return [None]
        for name in without_effect:
            if name in node.entries:
                self.setting(name, f"settings.{shown_key(name)}", node.entries[name].node, None)
        named = {name: entry for name, entry in node.entries.items() if name not in without_effect}
        return [self._named(name, entry, parameters, known) for name, entry in named.items()]

    def _named(
        self, name: str, entry: Entry, parameters: Mapping[str, Parameter] | None, known: bool
    ) -> Setting | None:
        path = f"settings.{shown_key(name)}"
        if name == ENABLED:
            problem = Problem(entry.place, path, "a reserved name", f"the switch under the top-level key {ENABLED!r}")
            self.decoder.problems.append(problem)
            return None
        if parameters is None:
            return self.setting(name, path, entry.node, None) if known else None
        if name not in parameters:
            expected = f"one that {self.backend} has: {', '.join(parameters)}"
            hint = did_you_mean(name, parameters)
            self.decoder.problems.append(Problem(entry.place, path, "an unknown setting", expected, hint))
            return None
        return self.setting(name, path, entry.node, parameters[name])

    def setting(self, name: str, path: str, node: Node, parameter: Parameter | None) -> Setting | None:
        """One setting; a bare scalar is short for a constant."""
        is_constant = not isinstance(node, MappingNode)
        section = _Setting(default=node) if is_constant else self.decoder.section(_Setting, node, path)
        where = path if is_constant else f"{path}.default"
        if section is INVALID:
            return None
        if section.flag is not None and not section.flag.strip():
            self.decoder.fail(node, f"{path}.flag", "the name of a flag", "an empty name")
            return None
        kind = parameter.type if parameter is not None else _kind_of(section)
        before = len(self.decoder.problems)
        limits = self._limits(section.clamp, kind, path, parameter, node)
        default = self._value(kind, section.default, where) if section.default is not None else None
        if len(self.decoder.problems) > before:
            return None
        setting = Setting(
            name=name,
            kind=kind,
            default=self._fallback(default, parameter),
            flag=section.flag,
            limits=limits,
            otherwise=section.clamp.otherwise,
        )
        return setting if self._default_fits(setting, section.default or node, where) else None

    def _fallback(self, default: Value | None, parameter: Parameter | None) -> Value | None:
        return parameter.default if default is None and parameter is not None else default

    def _limits(
        self, clamp: _Clamp, kind: type | None, path: str, parameter: Parameter | None, node: Node
    ) -> tuple[Limits, ...]:
        ours = Limits(
            owner="clamp",
            min=self._bound(kind, clamp.min, f"{path}.clamp.min"),
            max=self._bound(kind, clamp.max, f"{path}.clamp.max"),
            choices=self._choices(kind, clamp.choices, f"{path}.clamp.choices", node),
        )
        if ours.min is not None and ours.max is not None and ours.min > ours.max:
            assert clamp.min is not None
            self.decoder.fail(clamp.min, f"{path}.clamp.min", f"at most max ({ours.max})")
        if parameter is None:
            return (ours,)
        owner = f"hard limit of {self.backend}" if self.backend else "hard limit"
        hard = Limits(owner=owner, min=parameter.min, max=parameter.max, choices=parameter.choices)
        self._only_narrows(clamp, ours, hard, path)
        return (ours, hard)

    def _only_narrows(self, clamp: _Clamp, ours: Limits, hard: Limits, path: str) -> None:
        for name, node, bound in (("min", clamp.min, ours.min), ("max", clamp.max, ours.max)):
            if node is not None and bound is not None:
                _, broken = hard.nearest(bound)
                if broken is not None:
                    self.decoder.fail(node, f"{path}.clamp.{name}", f"a bound within {broken}")
        for node, choice in zip(clamp.choices or (), ours.choices or (), strict=False):
            broken = hard.refuses(choice) or hard.nearest(choice)[1]
            if broken is not None:
                self.decoder.fail(node, f"{path}.clamp.choices", f"choices within {broken}")

    def _bound(self, kind: type | None, node: Node | None, path: str) -> int | float | None:
        if node is None:
            return None
        if kind not in (int, float, Bytes, Percent, Seconds, None):
            self.decoder.fail(node, path, "no bound, because this setting is not a number", "a bound")
            return None
        value = self._value(kind or float, node, path)
        return value if isinstance(value, int | float) else None

    def _choices(
        self, kind: type | None, nodes: tuple[Node, ...] | None, path: str, around: Node
    ) -> tuple[Value, ...] | None:
        if nodes is None:
            return None
        if not nodes:
            self.decoder.fail(around, path, "at least one choice", "none")
        values = [self._value(kind, node, f"{path}[{i}]") for i, node in enumerate(nodes)]
        return tuple(each for each in values if each is not None)

    def _value(self, kind: type | None, node: Node, path: str) -> Value | None:
        raw: Any = node.text if kind is str and isinstance(node, Scalar) else node.value()
        try:
            return read_as(kind, raw)
        except Unreadable:
            self.decoder.fail(node, path, in_words(kind))
            return None

    def _default_fits(self, setting: Setting, node: Node, path: str) -> bool:
        default = setting.default
        if default is None:
            return True
        for limits in setting.limits:
            broken = limits.refuses(default) or limits.nearest(default)[1]
            if broken is not None:
                self.decoder.fail(node, path, f"a default within {broken}", repr(default))
                return False
        return True

    def flags_agree(self, rules: Rules, node: Node | None) -> bool:
        """One flag cannot be read as two types."""
        first: dict[str, Setting] = {}
        before = len(self.decoder.problems)
        for setting in rules.all:
            other = first.setdefault(setting.flag, setting) if setting.flag is not None else setting
            if other.kind is not setting.kind and isinstance(node, MappingNode):
                found = f"flag {setting.flag!r} for {setting.name}, already used for {other.name}"
                expected = f"another flag, because {other.name} reads it as {in_words(other.kind)}"
                self.decoder.fail(node.entries[setting.name].node, f"settings.{setting.name}.flag", expected, found)
        return len(self.decoder.problems) == before


def _kind_of(section: _Setting) -> type | None:
    """The type of a setting whose backend takes anything: that of its default, a number where it has bounds."""
    node = section.default
    value = node.value() if isinstance(node, Scalar) else None
    if isinstance(value, str) and (section.clamp.min is not None or section.clamp.max is not None):
        for kind in (int, float):
            with suppress(Unreadable):
                return type(read_as(kind, value))
    return None if value is None else type(value)
