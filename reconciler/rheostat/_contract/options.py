"""Types of a plug-in's options, besides the plain ones and `Secret`."""

import re
from collections.abc import Mapping
from typing import Final, NewType

Duration = NewType("Duration", float)
"""Seconds. As the type of an option it is written ``500ms``, ``10s``, ``5m``, ``1h``, or as seconds."""

FilePath = NewType("FilePath", str)
"""The path of a file. As the type of an option it is relative to the configuration file; ``~`` is a home folder."""

LONGEST: Final = Duration(365 * 24 * 3600.0)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_WRITTEN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|)", re.ASCII)


def parse_duration(text: str) -> Duration:
    """Read ``500ms``, ``10s``, ``1.5m``, ``1h`` or ``2.5`` (seconds); a year at most. Raises ValueError."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST:
        raise ValueError(text)
    return Duration(seconds)


class InvalidOptions(ValueError):
    """Raised by an ``Options`` class from ``__post_init__``: per field, what was expected of it.

    The place and what was found are added by the decoder: ``InvalidOptions({"port": "1 to 65535"})``.
    """

    def __init__(self, expected: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: expected {what}" for name, what in expected.items()))
        self.expected = expected


InvalidOptions.__module__ = "rheostat.plugins"
