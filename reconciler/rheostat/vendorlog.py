"""What a vendor's package logs on Rheostat's behalf."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class VendorLog(logging.Filter):
    """Keeps a vendor's records out of the host's log where they are about Rheostat's own use of the package.

    Rheostat says such things itself, once a minute; the vendor says them at each try. Records from the host's use of
    the same package pass untouched, and so does everything on a logger that is set to DEBUG.

    `ours` tells whether a thread works for Rheostat; a thread within `speaking()` does.
    """

    def __init__(self, *loggers: str, ours: Callable[[threading.Thread], bool] = lambda _: False) -> None:
        super().__init__()
        self._loggers = [logging.getLogger(each) for each in loggers]
        self._ours = ours
        self._speakers: set[int] = set()
        self.last_warning = ""
        """The text of the last warning or error that was kept out."""

    def attach(self) -> None:
        for logger in self._loggers:
            logger.addFilter(self)

    def detach(self) -> None:
        for logger in self._loggers:
            logger.removeFilter(self)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """What is logged in this thread meanwhile is on Rheostat's behalf."""
        me = threading.get_ident()
        self._speakers.add(me)
        try:
            yield
        finally:
            self._speakers.discard(me)

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            if threading.get_ident() not in self._speakers and not self._ours(threading.current_thread()):
                return True
            if record.levelno >= logging.WARNING:
                self.last_warning = record.getMessage()
        except Exception:
            # It runs within a log call of somebody else's.
            return True
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
