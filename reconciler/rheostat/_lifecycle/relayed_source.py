"""A flag source whose threads and sockets are the application's green ones."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import ClassVar, Final

from rheostat._contract.flagsource import FlagSource, NotReady, Reading, SourceUnavailable
from rheostat._contract.text import text_of
from rheostat._host import native
from rheostat._host.execution import Execution, current

_PATIENCE: Final = 10.0
"""Seconds that the application's loop may be too busy to ask."""
_FIRST_ANSWER: Final = 0.05
"""Seconds that a read waits, so that what is known is that of now where the loop is at rest."""
_CLOSING: Final = 0.3


class RelayedSource:
    """Asks a source in the threads that the application has, and gives what it said last.

    The control thread is native whatever these are; a client that starts threads and waits for sockets is not, once
    green ones have been put in their place. Where they are native, it is asked in the caller's.
    """

    Options: ClassVar[type] = dict

    def __init__(self, source: FlagSource, build: Callable[[], FlagSource]) -> None:
        self.source = source
        """As the plug-in made it."""
        self._build = build
        self._changed: Callable[[], None] = lambda: None
        self._execution: Execution = current()
        self._is_open = False
        self._asked_at: float | None = None
        self._answered = native.Gate()
        self._is_awaited = False
        self._poll_interval: float | None = None
        self._outcome: Reading | BaseException = NotReady("the application's event loop has not asked it yet")

    @property
    def poll_interval(self) -> float | None:
        if self._execution.is_native:
            return self.source.poll_interval
        return self._poll_interval if self._asked_at is None else _PATIENCE

    def open(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        if self._execution.is_native:
            self.source.open(changed)

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if current() is not self._execution:
            self._begin_anew()
        if self._execution.is_native:
            return self.source.read(wanted)
        self._ask(wanted)
        self._is_awaited = True
        self._answered.wait(_FIRST_ANSWER)
        self._is_awaited = False
        if self._asked_at is not None and time.monotonic() - self._asked_at > _PATIENCE:
            # It is asked again, lest the question was lost; until that is answered nothing is known.
            self._asked_at = None
            self._outcome = SourceUnavailable(f"the application's event loop has not asked it for {_PATIENCE:g} s")
        if isinstance(self._outcome, Reading):
            return self._outcome
        if isinstance(self._outcome, SourceUnavailable):
            # The same exception raised again and again would make its traceback grow.
            raise type(self._outcome)(self._outcome.reason, self._outcome.retry_at)
        raise SourceUnavailable(text_of(self._outcome))

    def close(self) -> None:
        if self._execution.is_native:
            self.source.close()
            return
        ended = native.Gate()

        def close() -> None:
            with suppress(BaseException):
                self.source.close()
            ended.open()

        self._execution.spawn(close, "rheostat-close")
        ended.wait(_CLOSING)

    def _ask(self, wanted: Mapping[str, type]) -> None:
        """Unless it is being asked."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._answered = native.Gate()
            self._execution.spawn(lambda: self._answer(wanted), "rheostat-read")

    def _answer(self, wanted: Mapping[str, type]) -> None:
        """In a green thread, which may wait."""
        before = self._outcome
        try:
            if not self._is_open:
                self.source.open(self._changed)
                self._is_open = True
            self._outcome = self.source.read(wanted)
            self._poll_interval = self.source.poll_interval
        except BaseException as error:
            self._outcome = error
        self._asked_at = None
        self._answered.open()
        if not (self._is_awaited or _is_same(self._outcome, before)):
            self._changed()

    def _begin_anew(self) -> None:
        """The threads that the source has begun to use are no longer those of the application."""
        with suppress(BaseException):
            self.source.close()
        # If it cannot be built, the next look tries again.
        self.source = self._build()
        self._execution, self._is_open, self._asked_at = current(), False, None


def _is_same(one: Reading | BaseException, other: Reading | BaseException) -> bool:
    if isinstance(one, BaseException) and isinstance(other, BaseException):
        return text_of(one) == text_of(other)
    return one is other
