"""A backend that profiles nothing and says what it would do: for trying flags and rules out."""

import logging
from collections.abc import Mapping
from typing import ClassVar

from rheostat.plugins import Identity, Parameter, Value, plugin_log

_LOGGER = "rheostat.noop"


class NoopBackend:
    """Takes any option and any setting, so that swapping it in is one word. It never logs option values."""

    Options: ClassVar[type] = dict
    parameters: ClassVar[Mapping[str, Parameter] | None] = None

    def __init__(self, options: Mapping[str, object], identity: Identity) -> None:
        self._application = identity.application
        self._running = False

    def start(self, settings: Mapping[str, Value]) -> None:
        shown = ", ".join(
            f"{name}={value if str(value).isprintable() else repr(value)}" for name, value in settings.items()
        )
        what = shown or "the profiler's defaults"
        plugin_log(_LOGGER, logging.INFO, "would start profiling %s with %s", self._application, what)
        self._running = True

    def stop(self) -> None:
        if self._running:
            plugin_log(_LOGGER, logging.INFO, "would stop profiling %s", self._application)
        self._running = False
