"""What Rheostat would do now: one look at the live source, without touching the profiler."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from .config import Config, Wiring
from .flagsource import FlagSource, Reading
from .lease import Intent, Knowledge, decide, overlay
from .log import Journal, Nowhere
from .rules import Resolution, Rules, Setting, resolve
from .sources import open_sources
from .values import printable
from .wake import Wake
from .watch import Seen, Watch

PATIENCE: Final = 5.0
"""Seconds that a source has to answer."""

_HEAD: Final = ("setting", "flag", "asked", "given", "rule", "reason")


class Plan(NamedTuple):
    """The plan as lines of text; `finding` is True if anything was adjusted or the source did not answer."""

    lines: list[str]
    finding: bool


def plan(config: Config) -> Plan:
    """Read the sources once and say, per setting, what was asked, what is given and why. Raises `ConfigError`."""
    wiring = config.wire()
    seen = _look(config, wiring)
    now, lease = time.monotonic(), config.policy.hold_last_good
    reading = overlay([each for each in seen.layers if each.holds(lease, now)])
    silent = [_silence(each) for each in seen.layers if each.reason]
    if reading is None:
        return Plan([*silent, "", "It would stay off."], True)
    intent = decide(wiring.rules, seen.layers, killed=seen.killed, lease=lease, now=now, held={})
    table = [_HEAD, *_rows(wiring.rules, reading)]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    finding = bool(intent.resolution.adjustments or seen.killed or silent)
    return Plan([*lines, "", *silent, _verdict(config, intent)], finding)


def silent_sources(config: Config) -> list[str]:
    """Those that do not answer now, and why. Raises `ConfigError`."""
    return [_silence(each) for each in _look(config, config.wire()).layers if each.reason]


def _silence(layer: Knowledge) -> str:
    name = f" {layer.layer}" if layer.layer else ""
    return f"the flag source{name} does not answer: {layer.reason}"


def _look(config: Config, wiring: Wiring) -> Seen:
    """What the sources say, once they do or their time is up. Their constructors, too, are strangers' code."""
    bell = Wake()
    sources: Mapping[str, FlagSource] = {}
    journal = Journal(Nowhere(), time.monotonic, config.secrets)
    try:
        sources = open_sources(wiring.sources, config.identity(), bell.ring, time.monotonic)
        return _wait(Watch(sources, wiring.rules.wanted, config.policy.kill_switch, journal), bell)
    except BaseException as error:
        return Seen((Knowledge(reason=journal.describe(error)),), killed=False)
    finally:
        for source in sources.values():
            with suppress(BaseException):
                source.close()


def _wait(watch: Watch, bell: Wake) -> Seen:
    until = time.monotonic() + PATIENCE
    while True:
        now = time.monotonic()
        seen = watch.look(now)
        if now >= until or not watch.may_answer_soon(PATIENCE / 10):
            return seen
        bell.wait(min(watch.interval(), until - now))


def _rows(rules: Rules, reading: Reading) -> Iterator[tuple[str, ...]]:
    # What the flags alone come to, though something stronger may turn it off.
    resolution = resolve(rules, reading, {})
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
            reading.reasons.get(setting.flag or "", ""),
        )


def _given(setting: Setting, reading: Reading, resolution: Resolution) -> object:
    return resolution.held.get(setting.name, setting.default)


def _asked(setting: Setting, reading: Reading) -> str:
    if setting.flag is None:
        return ""
    return _text(printable(reading.values[setting.flag])) if setting.flag in reading.values else "(not defined)"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _verdict(config: Config, intent: Intent) -> str:
    if config.disabled:
        return "It would do nothing: disabled is true."
    desired = intent.resolution.desired
    if not desired.on:
        return f"It would stay off: {intent.forced_by}." if intent.forced_by is not None else "It would stay off."
    settings = " ".join(f"{name}={_text(value)}" for name, value in desired.settings.items())
    kind = config.sections.backend.kind if config.sections.backend is not None else ""
    return f"It would run {kind}: {settings or 'its defaults'}"
