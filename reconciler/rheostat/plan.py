"""What Rheostat would do now: one look at the live source, without touching the profiler."""

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from .config import Config
from .flagsource import FlagSource, Reading, SourceUnavailable
from .lease import IGNORANCE, decide, learn
from .rules import Resolution, Rules, Setting
from .values import printable
from .wake import Wake

PATIENCE: Final = 5.0
"""Seconds that a source has to answer."""

_HEAD: Final = ("setting", "flag", "asked", "given", "rule", "reason")


class Plan(NamedTuple):
    """The plan as lines of text; `finding` is True if anything was adjusted or the source did not answer."""

    lines: list[str]
    finding: bool


def plan(config: Config) -> Plan:
    """Read the source once and say, per setting, what was asked, what is given and why. Raises `ConfigError`."""
    wiring = config.wire()
    source = wiring.source.build(config.identity())
    try:
        reading = _read(source, wiring.rules)
    except SourceUnavailable as error:
        return Plan([f"the flag source does not answer: {error.reason}", "", "It would stay off."], True)
    finally:
        source.close()
    known = learn(reading, wiring.rules.wanted, time.monotonic())
    intent = decide(
        wiring.rules, known, killed=False, lease=config.policy.hold_last_good, now=time.monotonic(), held={}
    )
    resolution = intent.resolution
    table = [_HEAD, *_rows(wiring.rules, reading, resolution)]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return Plan([*lines, "", _verdict(config, resolution)], bool(resolution.adjustments))


def _read(source: FlagSource, rules: Rules) -> Reading:
    bell = Wake()
    until = time.monotonic() + PATIENCE
    last = SourceUnavailable(IGNORANCE.reason)
    source.open(bell.ring)
    while time.monotonic() < until:
        try:
            reading: object = source.read(rules.wanted)
            if isinstance(reading, Reading):
                return reading
            last = SourceUnavailable(f"read() gave {type(reading).__name__} instead of a Reading")
        except SourceUnavailable as error:
            last = error
            if source.poll_interval is not None and source.poll_interval >= PATIENCE / 10:
                raise
        bell.wait(min(source.poll_interval or PATIENCE, until - time.monotonic()))
    raise last


def _rows(rules: Rules, reading: Reading, resolution: Resolution) -> Iterator[tuple[str, ...]]:
    adjustments = {each.setting: each for each in resolution.adjustments}
    for setting in rules.all:
        adjusted = adjustments.get(setting.name)
        given = adjusted.given if adjusted is not None else _given(setting, reading, resolution)
        yield (
            setting.name,
            setting.flag or "(constant)",
            _asked(setting, reading),
            "(left out)" if given is None else _text(given),
            adjusted.rule if adjusted is not None else "",
            reading.errors.get(setting.flag or "", reading.reasons.get(setting.flag or "", "")),
        )


def _given(setting: Setting, reading: Reading, resolution: Resolution) -> object:
    return resolution.held.get(setting.name, setting.default)


def _asked(setting: Setting, reading: Reading) -> str:
    if setting.flag is None:
        return ""
    return _text(printable(reading.values[setting.flag])) if setting.flag in reading.values else "(not defined)"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _verdict(config: Config, resolution: Resolution) -> str:
    if config.disabled:
        return "It would do nothing: disabled is true."
    if not resolution.desired.on:
        return "It would stay off."
    settings = " ".join(f"{name}={_text(value)}" for name, value in resolution.desired.settings.items())
    return f"It would run {config.sections.backend.kind if config.sections.backend else ''}: {settings}".rstrip(": ")
