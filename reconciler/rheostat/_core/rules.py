"""From raw flag values to desired state: pure functions over frozen data."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from rheostat._contract.flagsource import Reading
from rheostat._contract.text import printable
from rheostat._contract.values import Bytes, Percent, Seconds, Unreadable, Value, in_words, read_as
from rheostat._core.desired import OFF, Adjustment, Desired

Otherwise = Literal["default", "hold", "off"]
"""The substitute for a value that cannot be used: the default, the last good value, or no profiling at all."""

ENABLED: Final = "enabled"
"""The name under which the switch itself appears among the settings in adjustments."""


class Limits(NamedTuple):
    """Bounds a value must keep; `owner` names who declared them, for messages."""

    owner: str
    min: int | float | None = None
    max: int | float | None = None
    choices: tuple[Value, ...] | None = None

    def refuses(self, value: Value) -> str | None:
        """The rule that an otherwise readable value breaks beyond mending, in words."""
        if self.choices is None or _among(value, self.choices):
            return None
        return f"choices {', '.join(map(str, self.choices))} ({self.owner})"

    def nearest(self, value: Value) -> tuple[Value, str | None]:
        """The value, moved to the nearest bound if it is outside, and the rule that moved it."""
        if isinstance(value, str | bool):
            return value, None
        if self.min is not None and value < self.min:
            return self.min, f"min {self.min} ({self.owner})"
        if self.max is not None and value > self.max:
            return self.max, f"max {self.max} ({self.owner})"
        return value, None


def _among(value: Value, choices: tuple[Value, ...]) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in choices)


class Setting(NamedTuple):
    """One setting: its flag (None: a constant), type (None: any), default (None: left out), and limits.

    `limits` are applied in order; the backend's hard ones come last, so they hold whatever the others say.
    """

    name: str
    kind: type | None
    default: Value | None
    flag: str | None = None
    limits: tuple[Limits, ...] = ()
    otherwise: Otherwise = "default"


class Rules(NamedTuple):
    """All settings of a configuration; `tunables` are those of the policy."""

    enabled: Setting
    settings: tuple[Setting, ...] = ()
    tunables: tuple[Setting, ...] = ()
    rate: str = ""
    """The setting with which the cost of a session grows, if there is one."""
    estimate: Callable[[Mapping[str, Value], int], float] | None = None
    """The backend's guess at the share of a core that a session takes, by its settings and the process's threads."""
    without_effect: Mapping[str, str] = MappingProxyType({})
    """The configured settings that the backend does not honour, and why."""

    @property
    def all(self) -> tuple[Setting, ...]:
        return (self.enabled, *self.settings)

    @property
    def wanted(self) -> Mapping[str, type]:
        """The flags to read, and the type of each (object: any)."""
        return {each.flag: _plain(each.kind) for each in (*self.all, *self.tunables) if each.flag is not None}


def _plain(kind: type | None) -> type:
    """The type to ask a product for; a span of time, a share and a size may be a text or a number."""
    return object if kind in (None, Seconds, Percent, Bytes) else kind


class Outcome(NamedTuple):
    """The fate of one setting. `off` says that its rule turns profiling off."""

    value: Value | None
    adjustment: Adjustment | None = None
    good: bool = False
    off: bool = False


class Resolution(NamedTuple):
    """The desired state that a reading comes to.

    `held` is the last good value of each setting, for the next time; `asked` a printable rendition of the raw
    value of each flag that was defined, so that a change can be named. `tuned` is the value of each of the policy's.
    """

    desired: Desired
    adjustments: tuple[Adjustment, ...] = ()
    held: Mapping[str, Value] = MappingProxyType({})
    asked: Mapping[str, bool | int | float | str | None] = MappingProxyType({})
    tuned: Mapping[str, Value] = MappingProxyType({})


def resolve(rules: Rules, reading: Reading, held: Mapping[str, Value]) -> Resolution:
    """Turn what a source knows into desired state, each setting by itself: a bad one never touches another."""
    outcomes = {setting.name: resolve_setting(setting, reading, held) for setting in rules.all}
    enabled = outcomes.pop(ENABLED)
    tuned = {setting.name: resolve_setting(setting, reading, held) for setting in rules.tunables}
    on = enabled.value is True and not enabled.off and not any(each.off for each in outcomes.values())
    on = on and not any(each.off for each in tuned.values())
    settings = {name: each.value for name, each in outcomes.items() if each.value is not None}
    everything = {ENABLED: enabled, **outcomes, **tuned}
    good = {name: each.value for name, each in everything.items() if each.good and each.value is not None}
    return Resolution(
        desired=Desired(on=True, settings=MappingProxyType(settings)) if on else OFF,
        adjustments=tuple(each.adjustment for each in everything.values() if each.adjustment is not None),
        held=MappingProxyType({**held, **good}),
        asked=MappingProxyType(
            {flag: printable(reading.values[flag]) for flag in rules.wanted if flag in reading.values}
        ),
        tuned=MappingProxyType({name: each.value for name, each in tuned.items() if each.value is not None}),
    )


def resolve_setting(setting: Setting, reading: Reading, held: Mapping[str, Value]) -> Outcome:
    """Resolve one setting by itself."""
    flag = setting.flag
    if flag is None:
        return Outcome(setting.default)
    if flag in reading.errors:
        return _otherwise(setting, held, reading.values.get(flag), f"the source says: {reading.errors[flag]}")
    if flag not in reading.values:
        return Outcome(setting.default)
    raw = reading.values[flag]
    try:
        value = read_as(setting.kind, raw)
    except Unreadable:
        return _otherwise(setting, held, raw, f"not {in_words(setting.kind)}")
    for limits in setting.limits:
        refusal = limits.refuses(value)
        if refusal is not None:
            return _otherwise(setting, held, raw, refusal)
    return _clamped(setting, held, raw, value)


def _clamped(setting: Setting, held: Mapping[str, Value], raw: object, asked: Value) -> Outcome:
    value, rule = asked, None
    for limits in setting.limits:
        value, moved_by = limits.nearest(value)
        rule = moved_by or rule
    if rule is not None:
        refusal = next(filter(None, (limits.refuses(value) for limits in setting.limits)), None)
        if refusal is not None:
            return _otherwise(setting, held, raw, refusal)
    if setting.kind is not str and not isinstance(value, str):
        try:
            as_float = float(value)
        except OverflowError:
            return _otherwise(setting, held, raw, "too large a number")
        value = as_float if setting.kind in (float, Seconds, Percent) else value
    adjustment = None if rule is None else Adjustment(setting.name, printable(raw), value, rule)
    return Outcome(value, adjustment, good=True)


def _otherwise(setting: Setting, held: Mapping[str, Value], raw: object, why: str) -> Outcome:
    asked = printable(raw)
    if setting.otherwise == "off":
        return Outcome(None, Adjustment(setting.name, asked, "off", f"{why}; otherwise off"), off=True)
    holds = setting.otherwise == "hold" and setting.name in held
    value = held[setting.name] if holds else setting.default
    kept = "the last good value" if holds else "the default"
    return Outcome(value, Adjustment(setting.name, asked, value, f"{why}; otherwise {kept}"))
