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
        _log(LOGGER, level, message, extra=extra)


def plugin_log(logger: str, level: int, message: str, *args: object) -> None:
    """For a plug-in: a record of its own in the application's logging, from any thread; `args` are put into `message`.

    A handler has locks that are neither for a fork to fall upon nor, under green threads, for a native thread to take.
    """
    _log(logging.getLogger(logger), level, message, *args)


plugin_log.__module__ = "rheostat.plugins"


def _log(logger: logging.Logger, level: int, message: str, *args: object, extra: Fields | None = None) -> None:
    def log() -> None:
        # A handler or filter may raise anything; a log line is not worth the thread that it is called in.
        with suppress(BaseException):
            if logger.isEnabledFor(level):
                # A handler writes under locks of streams, which the interpreter does not renew in a forked child.
                with FORKS.delaying_forks():
                    logger.log(level, message, *args, extra=extra)

    current().tell(log)


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
