"""The page that shows profiles: one file, whose data are within or beside it."""

import json
import os
from collections.abc import Iterable
from typing import Any, Final

from rheostat.receive.archive import Archive
from rheostat.receive.receiver import Profile

_STATIC: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "static")
_INLINED: Final = {
    "/*STYLE*/": ("d3-flamegraph.css", "page.css"),
    "/*SCRIPT*/": ("d3.min.js", "d3-flamegraph.umd.min.js", "page.js"),
}


def data(profiles: Iterable[Profile]) -> dict[str, Any]:
    """Profiles as the page reads them: names and stacks once each, samples by the numbers of their stacks."""
    names: dict[str, int] = {}
    stacks: dict[tuple[int, ...], int] = {}
    shown = []
    for profile in profiles:
        samples = []
        for sample in profile.samples:
            stack = tuple(names.setdefault(name, len(names)) for name in sample.stack)
            samples.append([stacks.setdefault(stack, len(stacks)), *sample.values])
        rate = profile.sample_rate
        shown.append(
            {
                "at": profile.ended_at,
                "seconds": profile.seconds,
                "labels": dict(profile.labels),
                "types": list(profile.sample_types),
                "rate": None if rate is None else round(rate),
                "samples": samples,
            }
        )
    return {"names": list(names), "stacks": [list(each) for each in stacks], "profiles": shown}


def page(profiles: Iterable[Profile] | None = None) -> str:
    """The whole page; with `profiles` it is one that needs nobody to ask, else it asks its server every two seconds."""
    text = _read("page.html")
    for place, files in _INLINED.items():
        text = text.replace(place, "\n".join(map(_read, files)))
    inline = "null" if profiles is None else json.dumps(data(profiles)).replace("<", "\\u003c")
    return text.replace("/*DATA*/", f"window.RHEOSTAT = {inline};")


class ArchivePages:
    """Answers with the page, and with the data that it asks for."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._page = page().encode()

    def __call__(self, path: str) -> tuple[str, bytes] | None:
        if path == "/":
            return "text/html; charset=utf-8", self._page
        if path == "/data":
            return "application/json", json.dumps(data(self._archive.profiles())).encode()
        return None


def _read(name: str) -> str:
    with open(os.path.join(_STATIC, name), encoding="utf-8") as file:
        return file.read()
