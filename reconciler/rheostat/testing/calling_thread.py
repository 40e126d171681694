"""Calling a plug-in from a thread, as Rheostat does, so that a call that hangs fails its check and nothing else."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Final, TypeVar

T = TypeVar("T")

SOURCES_THREAD: Final = "rheostat"
BACKENDS_THREAD: Final = "rheostat-call"


class CallingThread:
    """Makes one call after the other, all in one daemon thread."""

    def __init__(self, name: str = SOURCES_THREAD) -> None:
        self._orders: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T], what: str, within: float) -> T:
        """Give and raise what the function does; AssertionError if that takes more than `within` seconds."""
        outcome: Future[T] = Future()
        self._orders.put((function, outcome))
        assert wait([outcome], within).done, (
            f"{what} has not returned for {within:g} s; expected it to return promptly, whatever the product does: "
            "let a thread of your own wait, and bound its waits"
        )
        return outcome.result()

    def end(self, within: float) -> None:
        """Let the thread end, unless a call hangs in it."""
        self._orders.put(None)
        self._thread.join(within)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            function, outcome = order
            try:
                outcome.set_result(function())
            # Whoever made the call has to hear of it, whatever it is.
            except BaseException as error:
                outcome.set_exception(error)


def call_apart(function: Callable[[], T], what: str, within: float) -> T:
    """One call in a thread of its own."""
    thread = CallingThread(BACKENDS_THREAD)
    try:
        return thread.call(function, what, within)
    finally:
        thread.end(within=0.0)
