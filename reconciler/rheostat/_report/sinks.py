"""Where records go: to the application's logging or, under the launcher, to stderr."""

import logging
import os
import posix
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Literal, Protocol

from rheostat._host.execution import current
from rheostat._host.forks import FORKS

LOGGER: Final = logging.getLogger("rheostat")

Format = Literal["text", "json"]
Fields = Mapping[str, Any]


class Sink(Protocol):
    """Where records go."""

    def write(self, level: int, event: str, message: str, fields: Fields) -> None: ...


class LoggerSink:
    """The host's logging: logger ``rheostat``, the fields in ``extra`` as ``rheostat_*``."""

    def write(self, level: int, event: str, message: str, fields: Fields) -> None:
        extra = {f"rheostat_{name}": value for name, value in {"event": event, **fields}.items()}
        current().tell(lambda: self._log(level, message, extra))

    def _log(self, level: int, message: str, extra: Fields) -> None:
        # A host's handler or filter may raise anything; a log line is not worth the thread that it is called in.
        with suppress(BaseException):
            if LOGGER.isEnabledFor(level):
                # A handler writes under locks of streams, which the interpreter does not renew in a forked child.
                with FORKS.delaying_forks():
                    LOGGER.log(level, message, extra=extra)


class StderrSink:
    """One line for each record straight to stderr, whatever the host does to logging."""

    def __init__(self, format: Format) -> None:
        self._format = format

    def write(self, level: int, event: str, message: str, fields: Fields) -> None:
        seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
        now = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z"
        name = logging.getLevelName(level)
        if self._format == "json":
            import json  # A millisecond that only the launcher's processes pay.

            head = {"time": now, "level": name, "event": event, "pid": os.getpid(), "message": message}
            line = json.dumps({**head, **fields}, default=str)
        else:
            flat = message.replace("\n", "\n  ")
            line = f"{now} {name} rheostat[{os.getpid()}]: {flat}"
        # Without it, descriptor 2 may be any file that the service has opened since.
        if sys.__stderr__ is not None:
            # sys.stderr may be replaced, or locked by a thread of the host: the descriptor itself is not. Nor is this
            # the function that eventlet puts in the place of that of `os`.
            posix.write(sys.__stderr__.fileno(), f"{line}\n".encode(errors="backslashreplace"))


class Nowhere:
    """Keeps nothing: for looking at a source once, where what goes wrong is part of the answer."""

    def write(self, level: int, event: str, message: str, fields: Fields) -> None:
        """Nothing."""
