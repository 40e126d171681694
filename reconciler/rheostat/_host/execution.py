"""Running beside the application, whatever its threads are."""

import threading
from collections.abc import Callable

from rheostat._host import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Result = TypeVar("_Result")


class Execution:
    """The ways to run something, in a process whose threads are of one kind."""

    is_native = True
    """The application's threads are what Rheostat's own are."""

    def start(self, body: Callable[[], None], name: str) -> Callable[[float], None] | None:
        """Run it in a native thread; gives what waits for the thread's end, `seconds` at most, if that can be.

        Raises RuntimeError if there is no thread to be had.
        """
        raise NotImplementedError

    def spawn(self, body: Callable[[], None], name: str) -> None:
        """Run it in a thread as the application has them, for what starts threads itself or waits for sockets.

        Raises RuntimeError if there is no thread to be had.
        """
        raise NotImplementedError

    def tell(self, call: Callable[[], None]) -> None:
        """Call what is the application's: a handler of its log, an observer. `call` raises nothing."""
        raise NotImplementedError

    def apart(self, function: "Callable[[], _Result]") -> "_Result":
        """Call what takes long, without holding up threads of the application's that share the caller's."""
        raise NotImplementedError

    def wait(self, gate: native.Gate, seconds: float) -> bool:
        """In a thread of the application's, until the gate opens, `seconds` at most; tells whether it is open."""
        raise NotImplementedError

    def flush(self) -> None:
        """In a thread of the application's: call whatever has been told and not been called yet."""
        raise NotImplementedError


class _Handle:
    """Of a thread that CPython has taken care of by itself in the child of a fork."""

    def _set_done(self, *_: object, **__: object) -> None:
        return


_HANDLE = _Handle()


class Threads(Execution):
    """Daemon threads that the application can see by their names; everything is called where it is asked for."""

    def start(self, body: Callable[[], None], name: str) -> Callable[[float], None] | None:
        caller = native.get_native_id()

        def run() -> None:
            body()
            # They have turned green meanwhile, and would report the end of a native one as an error. Green itself, if
            # that was before it ran, it shares the caller's.
            if native.green_threads() and native.get_native_id() != caller:
                native.block_forever()

        thread = threading.Thread(target=run, name=name, daemon=True)
        # On CPython 3.13 gevent's hook of a fork takes the handle of each thread for one of its own, and this for it.
        thread._DummyThread__ghandle = _HANDLE  # type: ignore[attr-defined]
        thread.start()
        return thread.join

    def spawn(self, body: Callable[[], None], name: str) -> None:
        self.start(body, name)

    def tell(self, call: Callable[[], None]) -> None:
        call()

    def apart(self, function: "Callable[[], _Result]") -> "_Result":
        return function()

    def wait(self, gate: native.Gate, seconds: float) -> bool:
        return gate.wait(seconds)

    def flush(self) -> None:
        """Nothing: it has been called."""


THREADS = Threads()


def call_within(function: "Callable[[], _Result]", seconds: float, name: str) -> "_Result":
    """The result of a call in a native thread of that name, which goes on alone if it takes longer.

    Raises what the call does, and TimeoutError.
    """
    returned: list[tuple[_Result | None, BaseException | None]] = []

    def call() -> None:
        try:
            returned.append((function(), None))
        except BaseException as error:
            returned.append((None, error))

    if not start_native(call, name)(seconds) or not returned:
        raise TimeoutError(f"no answer within {seconds:g} s")
    result, error = returned.pop()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def start_native(body: Callable[[], None], name: str) -> Callable[[float], bool]:
    """Run it in a native daemon thread, also where gevent or eventlet has put green ones in the place of threads.

    Gives what waits for its end, so many seconds at most, and tells whether it has ended. `body` raises nothing, and
    waits for no green thread: its sockets are those of `_socket`, its files those of `open`.

    Raises RuntimeError if there is no thread to be had.
    """
    ended = native.Gate()

    def run() -> None:
        try:
            body()
        finally:
            ended.open()

    current().start(run, name)
    return ended.wait


def current() -> Execution:
    """That of this process now: the application may put green threads in the place of native ones at any time."""
    library = native.green_threads()
    if library:
        from rheostat._host.green import beside

        return beside(library)
    return THREADS
