"""From a configuration's sources to open ones."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import ClassVar, Final

from .config import Plugin
from .flagsource import FlagSource, Reading, SourceUnavailable
from .identity import Identity
from .log import text_of

_BUILD_AGAIN: Final = 30.0
"""Seconds until a layer that could not be built is tried again."""


def open_sources(
    plugins: Mapping[str, Plugin], identity: Identity, changed: Callable[[], None]
) -> Mapping[str, FlagSource]:
    """Build and open them. What a lone source raises is raised; of several, one that fails is passed over."""
    if len(plugins) > 1:
        return {name: _Layer(plugin, identity, changed) for name, plugin in plugins.items()}
    return {name: _opened(plugin, identity, changed) for name, plugin in plugins.items()}


def _opened(plugin: Plugin, identity: Identity, changed: Callable[[], None]) -> FlagSource:
    source: FlagSource = plugin.build(identity)
    try:
        source.open(changed)
    except BaseException:
        # What opening raised is what has to be told.
        with suppress(BaseException):
            source.close()
        raise
    return source


class _Layer:
    """Builds a source when it is first read, and again until that works, so that the other layers work meanwhile."""

    Options: ClassVar[type] = dict

    def __init__(self, plugin: Plugin, identity: Identity, changed: Callable[[], None]) -> None:
        self._plugin = plugin
        self._identity = identity
        self._changed = changed
        self._source: FlagSource | None = None
        self._failure = ""
        self._retry_at = 0.0

    @property
    def poll_interval(self) -> float | None:
        return None if self._source is None else self._source.poll_interval

    def open(self, changed: Callable[[], None]) -> None:
        """Nothing to do: the source is opened once it is built."""

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if self._source is None:
            self._source = self._build()
        return self._source.read(wanted)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()

    def _build(self) -> FlagSource:
        now = time.monotonic()
        if not self._failure or now >= self._retry_at:
            try:
                return _opened(self._plugin, self._identity, self._changed)
            except BaseException as error:
                self._failure = f"it could not be built: {text_of(error)}"
                self._retry_at = now + _BUILD_AGAIN
        raise SourceUnavailable(self._failure, self._retry_at)
