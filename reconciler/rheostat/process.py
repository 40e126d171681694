"""The one reconciler of this process."""

import os
import time
from collections.abc import Mapping, Sequence

from .config import load_config, locate
from .forking import FORKS
from .log import Journal, LoggerSink, Sink
from .problem import ConfigError
from .reconciler import Reconciler, report_invalid
from .transition import Observer


class AlreadyRunning(RuntimeError):
    """This process is governed by another configuration already; stop that one first."""

    def __init__(self, running: str, asked: str) -> None:
        super().__init__(f"Rheostat already runs in this process with {running}; asked for {asked}: stop it first")


class _Process:
    """Owns the reconciler that is current, across threads and forks."""

    def __init__(self) -> None:
        self.current: Reconciler | None = None
        self.asked: tuple[str, Mapping[str, str]] = ("", {})
        self.watches_forks = False

    def after_fork_in_child(self) -> None:
        if self.current is not None:
            self.current.forked()


_PROCESS = _Process()


def start(
    config: str | os.PathLike[str],
    *,
    tags: Mapping[str, str] | None = None,
    observers: Sequence[Observer] = (),
    strict: bool = False,
) -> Reconciler:
    """Govern the profiler of this process as the YAML file `config` says; returns at once.

    `tags` are added to the configuration's own. Each of `observers` is called, in the control thread, with every
    `Transition`. A second call with the same file and tags gives the same reconciler.

    An invalid file never stops the service: it is logged as one ERROR, and the reconciler that is returned does
    nothing. With `strict` it raises `ConfigError` instead.

    Raises `AlreadyRunning` if another configuration governs this process.

        with rheostat.start("config.yaml", tags={"version": "1.4"}) as profiling:
            serve()
    """
    return govern(config, tags=tags, observers=observers, strict=strict, sink=LoggerSink())


def govern(
    path: str | os.PathLike[str],
    *,
    tags: Mapping[str, str] | None,
    observers: Sequence[Observer],
    strict: bool,
    sink: Sink,
) -> Reconciler:
    """What `start` does, with a choice where records go."""
    tags = _text_only(tags or {})
    asked = (locate(path), tags)
    with FORKS.held_off():
        current = _PROCESS.current
        if current is not None and not current.is_over:
            if _PROCESS.asked == asked:
                return current
            raise AlreadyRunning(_PROCESS.asked[0], asked[0])
        if not _PROCESS.watches_forks:
            _PROCESS.watches_forks = True
            FORKS.watch()
            os.register_at_fork(after_in_child=_PROCESS.after_fork_in_child)
        made = _make(path, tags, observers, strict, sink)
        _PROCESS.current, _PROCESS.asked = made, asked
        return made


def _make(
    path: str | os.PathLike[str],
    tags: Mapping[str, str],
    observers: Sequence[Observer],
    strict: bool,
    sink: Sink,
) -> Reconciler:
    journal = Journal(sink, time.monotonic)
    try:
        config = load_config(path, tags=tags)
    except ConfigError as error:
        if strict:
            raise
        report_invalid(journal, error)
        return Reconciler(None, observers, journal, str(error))
    journal.secrets = config.secrets
    made = Reconciler(config, observers, journal)
    if not config.disabled:
        made.begin(config)
    return made


def _text_only(tags: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"tags: found {key!r}: {type(value).__name__}, expected texts only")
    return dict(tags)
