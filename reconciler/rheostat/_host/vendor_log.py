"""The records that a vendor's package logs on Rheostat's behalf."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rheostat._host.fork_warnings import works_for_us
from rheostat._host.forks import FORKS


class _Attached:
    """Owns the filters that are on loggers now. None is left in a forked child: what they know is the parent's."""

    def __init__(self) -> None:
        self._logs: list[VendorLog] = []
        self._watches_forks = False

    def add(self, log: "VendorLog") -> None:
        if not self._watches_forks:
            self._watches_forks = True
            FORKS.in_child.append(self._drop_all)
        self._logs.append(log)

    def drop(self, log: "VendorLog") -> None:
        with suppress(ValueError):
            self._logs.remove(log)

    def has_thread(self, thread: threading.Thread) -> bool:
        return any(log.is_ours(thread) for log in list(self._logs))

    def _drop_all(self) -> None:
        logs, self._logs = self._logs, []
        for log in logs:
            for logger in log.loggers:
                logger.removeFilter(log)


_ATTACHED = _Attached()
works_for_us.append(_ATTACHED.has_thread)


class VendorLog(logging.Filter):
    """Keeps a vendor's records out of the host's log where they are about Rheostat's own use of the package.

    Rheostat says such things itself, once a minute; the vendor says them at each try. Records from the host's use of
    the same package pass untouched, and so does everything on a logger that is set to DEBUG.

    `ours` tells whether a thread works for Rheostat; a thread within `speaking()` does.
    """

    def __init__(self, *loggers: str, ours: Callable[[threading.Thread], bool] = lambda _: False) -> None:
        super().__init__()
        self.loggers = [logging.getLogger(each) for each in loggers]
        self._ours = ours
        self._speakers: set[int] = set()
        self.last_warning = ""
        """The text of the last warning or error in a thread that works for Rheostat: it may be said nowhere else.

        One within `speaking()` does not replace it: its call ends in front of who made it.
        """

    def attach(self) -> None:
        _ATTACHED.add(self)
        for logger in self.loggers:
            logger.addFilter(self)

    def detach(self) -> None:
        _ATTACHED.drop(self)
        for logger in self.loggers:
            logger.removeFilter(self)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Records that this thread logs meanwhile are on Rheostat's behalf."""
        me = threading.get_ident()
        self._speakers.add(me)
        try:
            yield
        finally:
            self._speakers.discard(me)

    def is_ours(self, thread: threading.Thread) -> bool:
        try:
            return self._ours(thread)
        except Exception:
            return False

    def filter(self, record: logging.LogRecord) -> bool:
        """It runs within a log call of somebody else's, and must not raise."""
        is_caller = threading.get_ident() in self._speakers
        if not is_caller and not self.is_ours(threading.current_thread()):
            return True
        if not is_caller and record.levelno >= logging.WARNING:
            with suppress(Exception):
                self.last_warning = record.getMessage()
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


VendorLog.__module__ = "rheostat.plugins"
