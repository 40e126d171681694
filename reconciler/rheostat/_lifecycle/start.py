"""The one reconciler of this process."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rheostat._config.config import Config, load_config, locate
from rheostat._config.problem import ConfigError
from rheostat._core.transition import Observer
from rheostat._host.execution import current
from rheostat._host.forks import FORKS
from rheostat._host.importing import hastened, import_apart
from rheostat._host.uwsgi import on_worker as on_uwsgi_worker
from rheostat._report.event import Listener
from rheostat._report.journal import Journal
from rheostat._report.sinks import LoggerSink

if TYPE_CHECKING:
    from rheostat._lifecycle.reconciler import Reconciler


class AlreadyRunning(RuntimeError):
    """This process is governed already: by another configuration, or by one that has not ended yet."""


AlreadyRunning.__module__ = "rheostat"


class Asked(NamedTuple):
    """The arguments of a call of `start`: the file, and the values that replace its own."""

    path: str
    tags: Mapping[str, str]
    instance: str | None = None

    def __str__(self) -> str:
        instance = f", instance {self.instance!r}" if self.instance else ""
        return f"{self.path}, tags {self.tags}{instance}"


class _Process:
    """Owns the reconciler that is current, across threads and forks."""

    def __init__(self) -> None:
        self._current: Reconciler | None = None
        self._asked = Asked("", {})
        self._watches_forks = False

    @property
    def follows_forks(self) -> bool:
        return self._watches_forks

    def running(self, asked: Asked) -> "Reconciler | None":
        """The current reconciler, if it is what is asked for; raises `AlreadyRunning` if it is another."""
        current = self._current
        if current is None:
            return None
        current.notice_fork()
        if current.is_over:
            return None
        if current.is_closing:
            raise AlreadyRunning(
                f"Rheostat is still stopping the profiler that {self._asked.path} governs: wait for stop()"
            )
        if self._asked == asked:
            return current
        raise AlreadyRunning(
            f"Rheostat already runs in this process with {self._asked}; asked for {asked}: stop it first"
        )

    def begin(self, asked: Asked, config: Config, made: "Reconciler") -> "Reconciler":
        """Make it current and begin, unless another thread has been quicker."""
        with FORKS.delaying_forks():
            from rheostat._host import fork_warnings

            self._warnings = fork_warnings
            running = self.running(asked)
            if running is not None:
                return running
            self._watch_forks()
            self._current, self._asked = made, asked
            if not config.disabled:
                made.begin()
            return made

    def _watch_forks(self) -> None:
        if not self._watches_forks:
            self._watches_forks = True
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
            )
            if "uwsgi" in sys.modules:
                on_uwsgi_worker(self._in_uwsgi_worker)

    def _before_fork(self) -> None:
        is_alone = False
        try:
            FORKS.before()
            if self._current is not None:
                # Nothing is being imported now.
                is_alone = self._current.park()
        # A signal's handler may raise in the midst of it.
        finally:
            if is_alone:
                # Nobody is left to be held off, and what is done before the fork need not be done after it.
                FORKS.release()
            self._warnings.before_fork(is_alone)

    def _after_fork(self) -> None:
        # Each function that is called here, and each object, makes the host copy memory that the child shares.
        try:
            if FORKS.forking:
                FORKS.release()
        finally:
            current = self._current
            if current is not None:
                current.unpark()

    def _after_fork_in_child(self) -> None:
        try:
            FORKS.after_in_child()
        finally:
            current = self._current
            if current is not None:
                current.forked()

    def _in_uwsgi_worker(self) -> None:
        """No hook of CPython's may have been called, and without a master it is no child."""
        current = self._current
        if current is not None:
            current.notice_fork()
            current.begin_if_waiting()


_PROCESS = _Process()


def wait_to_fork() -> None:
    """For a fork that began before Rheostat's own hooks were there to wait for what it does now."""
    if _PROCESS.follows_forks:
        FORKS.before()


def follows_forks() -> bool:
    """Children that are forked from now on are governed without anybody's help."""
    return _PROCESS.follows_forks


def start(
    config: str | os.PathLike[str],
    *,
    tags: Mapping[str, str] | None = None,
    instance: str | None = None,
    observers: Sequence[Observer] = (),
    on_event: Listener | None = None,
    strict: bool = False,
) -> "Reconciler":
    """Govern the profiler of this process as the YAML file `config` says; returns at once.

    `tags` are added to the configuration's own, `instance` takes the place of its own. Each of `observers` is called,
    in the control thread, with every `Transition`; `on_event` is called with every `Event`, also with those that the
    log folds because they repeat themselves.

    A second call with the same file, tags and instance gives the same reconciler, with the observers and the listener
    that it has. So does the first call in a process below ``rheostat run`` that is governed already, if these are what
    the launcher was told; before that (its `start_after`) this call is the one that counts, and the records go to the
    host's logging.

    An invalid file never stops the service: it is logged as one ERROR, and the reconciler that is returned does
    nothing. With `strict` it raises `ConfigError` instead.

    Raises `AlreadyRunning` if another configuration governs this process, or if the last one has not ended yet.

        with rheostat.start("config.yaml", tags={"version": "1.4"}) as profiling:
            serve()
    """
    journal = Journal(LoggerSink(), time.monotonic, listeners=() if on_event is None else (on_event,))
    # Reading the configuration takes milliseconds, and green threads of the application's are not to wait for them.
    return current().apart(
        lambda: govern(config, tags=tags, instance=instance, observers=observers, strict=strict, journal=journal)
    )


def govern(
    path: str | os.PathLike[str],
    *,
    tags: Mapping[str, str] | None,
    instance: str | None,
    observers: Sequence[Observer],
    strict: bool,
    journal: Journal,
    forked: bool = False,
) -> "Reconciler":
    """The work of `start`, with a choice of the journal; `forked` if this process was, before Rheostat was there."""
    if not (instance is None or isinstance(instance, str)):
        raise TypeError(f"instance: found {type(instance).__name__}, expected a text")
    asked = Asked(locate(path), _text_only(tags or {}), instance or None)
    running = _PROCESS.running(asked)
    if running is not None:
        return running
    made: type[Reconciler] = import_apart("rheostat._lifecycle.reconciler").Reconciler
    try:
        with hastened():
            config = load_config(path, tags=asked.tags, instance=asked.instance)
    except ConfigError as error:
        if strict:
            raise
        journal.invalid(error.problems)
        return made(None, (), journal, str(error))
    journal.secrets, journal.who = config.secrets, config.who()
    return _PROCESS.begin(asked, config, made(config, tuple(observers), journal, forked=forked))


def _text_only(tags: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"tags: found {key!r}: {type(value).__name__}, expected texts only")
    return dict(tags)
