"""Backend calls, one at a time, in a thread that may hang without holding up anything else."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from rheostat._host.execution import current

THREAD_NAME: Final = "rheostat-call"


class Returned(NamedTuple):
    """How a call ended: what it gave or raised, and how long it took (seconds)."""

    result: object
    error: BaseException | None
    took: float


class Calls(Protocol):
    """Runs one foreign call. `done` is called exactly once, from any thread, when the call has ended."""

    def call(self, function: Callable[[], object], done: Callable[[Returned], None]) -> None: ...


def run(function: Callable[[], object], clock: Callable[[], float]) -> Returned:
    """Call the function and catch whatever it raises: SystemExit in a thread would go unseen."""
    began = clock()
    try:
        result = function()
    except BaseException as error:
        return Returned(None, error, clock() - began)
    return Returned(result, None, clock() - began)


class ThreadedCalls(NamedTuple):
    """A native thread for each call, so that none is left while nothing is in flight."""

    clock: Callable[[], float]
    after: Callable[[], object]
    """Called in the call's thread once the call has ended, before anybody is told."""
    last: Callable[[], bool]
    """Whether a call would be the last one: the process is ending, and somebody waits for the stop with a bound."""

    def call(self, function: Callable[[], object], done: Callable[[Returned], None]) -> None:
        def body() -> None:
            returned = run(function, self.clock)
            self.after()
            done(returned)

        try:
            current().start(body, THREAD_NAME)
        except RuntimeError:
            # From CPython 3.12 on no thread can be started once atexit handlers run: the control thread is one that
            # already runs. At any other time it must not be held up, and the call has failed.
            if not self.last():
                raise
            body()


class SpawnedCalls(NamedTuple):
    """A thread for each call as the application has them: the call waits for sockets."""

    clock: Callable[[], float]
    name: str
    """Of the thread; begins with ``rheostat``."""

    def call(self, function: Callable[[], object], done: Callable[[Returned], None]) -> None:
        current().spawn(lambda: done(run(function, self.clock)), self.name)
