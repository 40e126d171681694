"""From a configuration to a control loop with open flag sources and a backend."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final, NamedTuple

from rheostat._config.config import Config, Plugin
from rheostat._contract.flagsource import FlagSource, Reading, SourceUnavailable
from rheostat._contract.identity import Identity
from rheostat._contract.text import text_of
from rheostat._control.loop import Loop
from rheostat._core.state import State
from rheostat._core.transition import Observer
from rheostat._host.calls import Calls
from rheostat._host.meter import Metering
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder
from rheostat._lifecycle.relayed_source import RelayedSource
from rheostat._report.journal import Journal
from rheostat._report.status import Snapshot

_BUILD_AGAIN: Final = 30.0
"""Seconds until a layer that could not be built is tried again."""


class Surroundings(NamedTuple):
    """The means that a loop is stepped with: time, chance, threads for its calls, and a bell.

    `clock` gives monotonic seconds, `wall` those of the wall clock, `random` numbers in [0, 1). `calls` makes the
    backend's calls, `looks` the looks at its server, if there are to be any. `wake` asks for a step.
    `meter` measures what sessions use, `folder` is where word is left for other processes,
    by the `scribe`; `published` is told each new snapshot of what is to be known.
    """

    clock: Callable[[], float]
    random: Callable[[], float]
    calls: Calls
    wake: Callable[[], None]
    looks: Calls | None = None
    wall: Callable[[], float] = time.time
    meter: Metering | None = None
    folder: StateFolder | None = None
    scribe: Scribe | None = None
    published: Callable[[Snapshot], object] = bool


class Assembly(NamedTuple):
    """A loop, and the plug-ins that it was made with."""

    loop: Loop
    backend: Any
    sources: Mapping[str, FlagSource]
    """By layer; the name of a lone one is empty."""


def assemble(
    config: Config,
    identity: Identity,
    journal: Journal,
    surroundings: Surroundings,
    observers: Sequence[Observer] = (),
    inherited: State | None = None,
) -> Assembly:
    """Build the plug-ins, open the sources and put the loop together.

    `inherited` is the parent's state if this is the child of a fork. Raises `ConfigError`, and what the backend or a
    lone source raises when it is built.
    """
    wiring = config.wire()
    backend = wiring.backend.build(identity)
    sources = open_sources(wiring.sources, identity, surroundings.wake, surroundings.clock)
    loop = Loop(
        rules=wiring.rules,
        policy=config.policy,
        identity=identity,
        sources=sources,
        backend=backend,
        journal=journal,
        observers=observers,
        inherited=inherited,
        **surroundings._asdict(),
    )
    return Assembly(loop, backend, sources)


def open_sources(
    plugins: Mapping[str, Plugin], identity: Identity, changed: Callable[[], None], clock: Callable[[], float]
) -> Mapping[str, FlagSource]:
    """Build and open them; `clock` gives monotonic seconds.

    What a lone source raises is raised; of several, one that fails is passed over.
    """
    if len(plugins) > 1:
        return {name: _RebuiltSource(plugin, identity, changed, clock) for name, plugin in plugins.items()}
    return {name: _opened(plugin, identity, changed) for name, plugin in plugins.items()}


def built_sources(opened: Mapping[str, FlagSource]) -> Mapping[str, FlagSource]:
    """The sources that `open_sources` has opened, as the plug-ins made them, without layers that cannot be built."""
    own = {name: _unwrapped(source) for name, source in opened.items()}
    return {name: source for name, source in own.items() if source is not None}


def _unwrapped(source: FlagSource | None) -> FlagSource | None:
    return _unwrapped(source.source) if isinstance(source, _RebuiltSource | RelayedSource) else source


def _opened(plugin: Plugin, identity: Identity, changed: Callable[[], None]) -> FlagSource:
    def build() -> FlagSource:
        made: FlagSource = plugin.build(identity)
        return made

    source = build()
    if not getattr(source, "is_thread_free", False):
        source = RelayedSource(source, build)
    try:
        source.open(changed)
    except BaseException:
        # What opening raised is what has to be told.
        with suppress(BaseException):
            source.close()
        raise
    return source


class _RebuiltSource:
    """Builds a source, and tries again until that works, so that the other layers work meanwhile."""

    Options: ClassVar[type] = dict

    def __init__(
        self, plugin: Plugin, identity: Identity, changed: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._plugin = plugin
        self._identity = identity
        self._changed = changed
        self._clock = clock
        self._failure = ""
        self._retry_at = -math.inf
        self.source = self._built()
        """None while it cannot be built."""

    @property
    def poll_interval(self) -> float | None:
        return _BUILD_AGAIN if self.source is None else self.source.poll_interval

    def open(self, changed: Callable[[], None]) -> None:
        """Nothing to do: the source is opened when it is built."""

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if self.source is None:
            self.source = self._built()
        if self.source is None:
            raise SourceUnavailable(self._failure, self._retry_at)
        return self.source.read(wanted)

    def close(self) -> None:
        if self.source is not None:
            self.source.close()

    def _built(self) -> FlagSource | None:
        now = self._clock()
        if now >= self._retry_at:
            try:
                return _opened(self._plugin, self._identity, self._changed)
            except BaseException as error:
                self._failure = f"it could not be built: {text_of(error)}"
                self._retry_at = now + _BUILD_AGAIN
        return None
