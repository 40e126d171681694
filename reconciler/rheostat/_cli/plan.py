"""A plan: one look at the live sources, and what it would lead to, without touching the profiler."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple

from rheostat._cli.table import columns
from rheostat._config.config import Config, Wiring
from rheostat._config.problem import did_you_mean
from rheostat._contract.backend import Remarking
from rheostat._contract.flagsource import FlagSource, KnowsFlags, Reading
from rheostat._contract.text import LONGEST_LINE, printable, shorten
from rheostat._contract.values import Value
from rheostat._control.watch import Seen, Watch
from rheostat._core.case import Case, Facts, Memory
from rheostat._core.knowledge import Knowledge, overlay
from rheostat._core.policy import BUDGET
from rheostat._core.precedence import Verdict, brakes, considered, decide
from rheostat._core.rules import Resolution, Rules, Setting, resolve
from rheostat._host.native import Wake
from rheostat._lifecycle.assembly import built_sources, open_sources
from rheostat._report.journal import Journal
from rheostat._report.sinks import Nowhere

PATIENCE: Final = 5.0
"""Seconds that a source has to answer."""

_MOST_FLAGS: Final = 100_000
"""Of one source: a nearest name is looked for among these."""

_LIKENESS: Final = 0.8
"""Of two names of flags: less would find all that begin alike, as those of one product do."""

_HEAD: Final = ("setting", "flag", "asked", "given", "rule", "reason")
_DECIDERS: Final = ("who decides", "says")


class Plan(NamedTuple):
    """The plan as lines of text; `finding` is True if anything was adjusted or the source did not answer."""

    lines: list[str]
    finding: bool


def plan(config: Config, width: int | None = None) -> Plan:
    """Read the sources once and say, per setting, what was asked, what is given and why.

    The table is cut to `width` columns of a terminal; None: nothing is cut. Raises `ConfigError`.
    """
    wiring = config.wire()
    seen, others = _look(config, wiring)
    facts = Facts(seen.layers, seen.killed, time.monotonic(), time.time(), config.instance)
    reading = overlay([each for each in seen.layers if each.holds(config.policy.hold_last_good, facts.now)])
    silent = [_silence(each) for each in seen.layers if each.reason]
    if reading is None:
        return Plan([*silent, "", "It would stay off."], True)
    verdict = decide(wiring.rules, config.policy, facts, Memory())
    settings = columns(_HEAD, list(_rows(wiring.rules, reading, others)), width)
    deciders = columns(_DECIDERS, list(_said(considered(wiring.rules, config.policy, facts, Memory()))), width)
    finding = bool(verdict.adjustments or seen.killed or silent)
    idle = [shorten(f"{name} has no effect: {why}", LONGEST_LINE) for name, why in wiring.rules.without_effect.items()]
    remarks = [*idle, *_remarks(wiring.backend.cls, verdict), *_too_small_a_budget(wiring.rules, verdict)]
    return Plan([*settings, "", *deciders, "", *silent, _in_words(config, verdict), *remarks], finding)


def _remarks(backend: object, verdict: Verdict) -> list[str]:
    if not verdict.desired.on or not isinstance(backend, Remarking):
        return []
    # Third-party code, and only for what is worth knowing.
    with suppress(BaseException):
        return [shorten(str(each), LONGEST_LINE) for each in backend.remarks(verdict.desired.settings)]
    return []


def _too_small_a_budget(rules: Rules, verdict: Verdict) -> Iterator[str]:
    """A budget that the backend's least rate would use up, or any session of one without a rate, by its guess."""
    share, settings = verdict.tuned.get(BUDGET), verdict.desired.settings
    if not share or rules.estimate is None:
        return
    least: dict[str, Value] = {}
    if rules.rate:
        if not isinstance(settings.get(rules.rate), int | float):
            return
        setting = next(each for each in rules.settings if each.name == rules.rate)
        least[rules.rate] = max((each.min for each in setting.limits if each.min is not None), default=0)
    # Third-party code, and only for what is worth knowing.
    with suppress(Exception):
        cost = 100 * float(rules.estimate({**settings, **least}, 1))
        if cost > float(share):
            what = "".join(f"{name}={value}" for name, value in least.items()) or "a session"
            yield (
                f"The budget of {share:g} % of a core is less than {what} costs ({cost:.2g} %, "
                "by the backend's guess): profiling would pause most of the time."
            )


def silent_sources(config: Config) -> list[str]:
    """Those that do not answer now, and why. Raises `ConfigError`."""
    return [_silence(each) for each in _look(config, config.wire()).seen.layers if each.reason]


def _silence(layer: Knowledge) -> str:
    name = f" {layer.layer}" if layer.layer else ""
    return f"the flag source{name} does not answer: {layer.reason}"


class _Look(NamedTuple):
    """The sources' answers, and the flags that they know beside those that are wanted, if one of these is missing."""

    seen: Seen
    others: Collection[str] = ()


def _look(config: Config, wiring: Wiring) -> _Look:
    """The sources' answers, once they come or their time is up. Their constructors, too, are third-party code."""
    bell = Wake()
    sources: Mapping[str, FlagSource] = {}
    journal = Journal(Nowhere(), time.monotonic, config.secrets)
    try:
        sources = open_sources(wiring.sources, config.identity(), bell.ring, time.monotonic)
        seen = _wait(Watch(sources, wiring.rules.wanted, config.policy.kill_switch, journal), bell)
        return _Look(seen, _other_flags(built_sources(sources), seen, wiring.rules.wanted))
    except BaseException as error:
        return _Look(Seen((Knowledge(reason=journal.describe(error)),), killed=False))
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


def _other_flags(sources: Mapping[str, FlagSource], seen: Seen, wanted: Collection[str]) -> set[str]:
    """Those that are known beside the wanted ones, if one of these is not defined."""
    readings = {each.layer: each.reading for each in seen.layers if each.reading is not None}
    known: set[str] = set()
    if all(any(flag in each.values for each in readings.values()) for flag in wanted):
        return known
    for source in (sources[layer] for layer in readings):
        # Third-party code, and only for a hint.
        with suppress(BaseException):
            if isinstance(source, KnowsFlags):
                known.update(each for each in islice(source.known_flags(), _MOST_FLAGS) if type(each) is str)
    return known.difference(wanted)


def _rows(rules: Rules, reading: Reading, others: Collection[str]) -> Iterator[tuple[str, ...]]:
    # What the flags alone come to, though something stronger may turn it off.
    resolution = resolve(rules, reading, {})
    adjustments = {each.setting: each for each in resolution.adjustments}
    for setting in (*rules.all, *(each for each in rules.tunables if each.flag is not None)):
        adjusted = adjustments.get(setting.name)
        given = adjusted.given if adjusted is not None else _given(setting, reading, resolution)
        yield (
            setting.name,
            setting.flag or "(constant)",
            _asked(setting, reading),
            "(left out)" if given is None else _text(given),
            adjusted.rule if adjusted is not None else "",
            _reason(setting.flag or "", reading, others),
        )


def _given(setting: Setting, reading: Reading, resolution: Resolution) -> object:
    return resolution.held.get(setting.name, setting.default)


def _asked(setting: Setting, reading: Reading) -> str:
    if setting.flag is None:
        return ""
    return _text(reading.values[setting.flag]) if setting.flag in reading.values else "(not defined)"


def _reason(flag: str, reading: Reading, others: Collection[str]) -> str:
    """The source's, and the nearest of the other flags to one that is not defined."""
    is_defined = flag in reading.values or flag in reading.errors
    hint = "" if is_defined or not flag else did_you_mean(flag, others, _LIKENESS)
    return "; ".join(filter(None, (reading.reasons.get(flag, ""), hint)))


def _text(value: object) -> str:
    shown = printable(value)
    return str(shown).lower() if isinstance(shown, bool) or shown is None else str(shown)


def _said(case: Case) -> Iterator[tuple[str, ...]]:
    """The brakes that the configuration has, the strongest first, and last the flags."""
    for brake, word in ((brake, word) for brake, word in brakes(case) if brake.is_used(case)):
        yield brake.name, "passes" if word is None else f"off: {word}"
    yield "flags", "on" if case.flags.desired.on else "off"


def _in_words(config: Config, verdict: Verdict) -> str:
    if config.disabled:
        return "It would do nothing: disabled is true."
    desired = verdict.desired
    if not desired.on:
        return f"It would stay off: {verdict.decided_by}." if verdict.decided_by is not None else "It would stay off."
    settings = " ".join(f"{shorten(name)}={_text(value)}" for name, value in desired.settings.items())
    kind = config.sections.backend.kind if config.sections.backend is not None else ""
    return f"It would run {kind}: {settings or 'its defaults'}"
