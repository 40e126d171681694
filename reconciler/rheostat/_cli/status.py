"""The command ``rheostat status``: which processes profile, at what, and why not."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rheostat._cli.processes import Governed
from rheostat._cli.table import columns
from rheostat._contract.text import LONGEST_LINE, shorten

HEAD: Final = (
    "pid", "application", "command", "state", "since", "settings", "decided by", "left", "budget", "source", "health",
    "error",
)  # fmt: skip

Show = Callable[[Sequence[str], Sequence[Sequence[str]]], None]


def rows(found: Sequence[Governed], now: float) -> list[tuple[str, ...]]:
    """A row for each; `now` is in seconds of the wall clock."""
    return [tuple(_cells(each, now)) for each in found]


def is_troubled(each: Governed, now: float) -> bool:
    """Something is stuck, or has failed and is not overcome."""
    statuses = (each.value("health.status"), each.value("delivery.status"))
    return bool(_stuck(each, now)) or "failed" in statuses or bool(each.text("error"))


def as_json(found: Sequence[Governed], now: float) -> str:
    return json.dumps([{**each.said, "troubled": is_troubled(each, now)} for each in found], indent=2)


def explanation(each: Governed, now: float) -> list[str]:
    """Who decides in this process, and what becomes of each setting."""
    brakes = [_brake(said) for said in _list(each.value("brakes"))]
    flags = ("flags", "on" if each.value("flags") is True else "off")
    lines = [
        f"{each.text('command')} (pid {each.process.pid}) is {each.text('state')}{_ago(each, 'since', now, ' for ')}",
        *([f"The last change: {each.text('cause')}"] if each.text("cause") else []),
        "",
        *columns(("who decides", "says"), [*brakes, flags]),
        "",
    ]
    adjustments = [each for each in _list(each.value("adjustments")) if isinstance(each, Mapping)]
    lines += columns(("setting", "runs with"), [(_text(k), _text(v)) for k, v in _mapping(each.value("settings"))])
    if adjustments:
        asked = [tuple(_text(one.get(key)) for key in ("setting", "asked", "given", "rule")) for one in adjustments]
        lines += ["", *columns(("adjusted", "asked", "given", "rule"), asked)]
    notes = {
        "It waits for": _waiting(each, now),
        "The source says": each.text("source.reason"),
        "The profiler": _stuck(each, now),
        "The last failure": each.text("error"),
    }
    return [*lines, "", *(f"{title}: {text}" for title, text in notes.items() if text)]


def show(watch: bool, found: Callable[[], list[Governed]], where: str) -> bool:
    """Print the table, once or every second until interrupted; whether anything was in trouble the last time."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    try:
        while True:
            processes, now = found(), time.time()
            text = _rendered(processes, now, where, is_terminal=is_terminal)
            # Home, and clear to the end: a terminal that scrolls back shows no copies.
            print(f"\x1b[H\x1b[J{text}" if watch and is_terminal else text, flush=True)
            if not watch:
                break
            time.sleep(1.0)
    except KeyboardInterrupt:
        print()
    return any(is_troubled(each, now) for each in processes)


def _rendered(found: list[Governed], now: float, where: str, *, is_terminal: bool) -> str:
    if not found:
        return f"No governed process {where}."
    table = rows(found, now)
    # Columns that say nothing anywhere are left out.
    used = [i for i, name in enumerate(HEAD) if name in ("pid", "state") or any(row[i] for row in table)]
    head, shown = [HEAD[i] for i in used], [[row[i] for i in used] for row in table]
    if is_terminal:
        try:
            from rheostat._cli.coloured import coloured
        except ImportError:
            from shutil import get_terminal_size

            return "\n".join(columns(head, shown, get_terminal_size().columns))
        return coloured(head, shown, [is_troubled(each, now) for each in found])
    return "\n".join(columns(head, shown))


def _cells(each: Governed, now: float) -> Iterator[str]:
    yield str(each.process.pid)
    yield each.text("application")
    yield _short_command(each.text("command"))
    stuck = _stuck(each, now)
    yield each.text("state") + (f", {stuck}" if stuck else "")
    yield _ago(each, "since", now)
    yield _settings(each)
    yield _decider(each, now)
    yield _left(each, now)
    yield _budget(each)
    yield _source(each, now)
    yield " ".join(_health(each))
    yield each.text("error")


def _settings(each: Governed) -> str:
    """What runs, and what was asked for where that is something else."""
    changed = {
        str(one.get("setting")): one
        for one in _list(each.value("adjustments"))
        if isinstance(one, Mapping) and "rule" in one
    }
    parts = []
    for name, value in _mapping(each.value("settings")):
        one = changed.get(name)
        asked = f" (asked {_text(one.get('asked'))}, {_text(one.get('rule'))})" if one is not None else ""
        parts.append(f"{_text(name)}={_text(value)}{asked}")
    return " ".join(parts)


def _decider(each: Governed, now: float) -> str:
    """The strongest brake that keeps it off, else the flags."""
    word = next(
        (_brake(one) for one in _list(each.value("brakes")) if _mapping(one) and one.get("word") is not None), None
    )
    if word is not None:
        return f"{word[0]}: {word[1].removeprefix('off: ')}"
    waiting = _waiting(each, now)
    return f"flags; waits for {waiting}" if waiting else "flags"


def _brake(said: Any) -> tuple[str, str]:
    fields = dict(_mapping(said))
    word = fields.get("word")
    return _text(fields.get("name")), "passes" if word is None else f"off: {_text(word)}"


def _waiting(each: Governed, now: float) -> str:
    until = each.moment("waiting.until")
    return f"{each.text('waiting.for')}, {until - now:.0f} s more" if until is not None and until > now else ""


def _stuck(each: Governed, now: float) -> str:
    deadline, since = each.moment("operation.deadline"), each.moment("operation.since")
    if deadline is None or since is None or now < deadline:
        return ""
    return f"{each.text('operation.name')} stuck for {_seconds(now - since)}"


def _left(each: Governed, now: float) -> str:
    ends_at = each.moment("session_ends_at")
    return "" if ends_at is None else _seconds(max(0.0, ends_at - now))


def _budget(each: Governed) -> str:
    cost, share = each.moment("budget.cost"), each.moment("budget.share")
    return "" if cost is None or share is None else f"{100 * cost:.2g} of {100 * share:.2g} %"


def _source(each: Governed, now: float) -> str:
    if each.value("source.available") is True:
        return "fresh"
    return f"{each.text('source.reason')}{_ago(each, 'source.stale_since', now, ', stale for ')}"


def _health(each: Governed) -> Iterator[str]:
    for name in ("health", "delivery"):
        status, detail = each.text(f"{name}.status"), each.text(f"{name}.detail")
        if status not in ("", "unknown"):
            yield f"{name} {status}" + (f": {detail}" if status == "failed" and detail else "")


def _ago(each: Governed, path: str, now: float, prefix: str = "") -> str:
    moment = each.moment(path)
    return "" if moment is None else f"{prefix}{_seconds(max(0.0, now - moment))}"


def _seconds(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "m")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _short_command(command: str) -> str:
    words = command.split()
    # The interpreter's path says little.
    return " ".join([words[0].rpartition("/")[2], *words[1:]]) if words else ""


def _mapping(found: Any) -> list[tuple[str, Any]]:
    return list(found.items()) if isinstance(found, Mapping) else []


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _text(value: Any) -> str:
    shown = str(value).lower() if isinstance(value, bool) or value is None else str(value)
    return shorten(shown, LONGEST_LINE)
