"""Native threads of our own beside the application's green ones, which a hub runs in its main thread."""

import gc
import os
import posix
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from rheostat._host import native
from rheostat._host.execution import Execution
from rheostat._host.forks import FORKS

_MOST: Final = 1000
"""Calls that wait for the hub; of more, the oldest are dropped."""
_LOOK_AGAIN: Final = 0.005
"""Seconds between looks of a green thread that waits for one of ours."""
_FIND_AGAIN: Final = 0.01
_FIND_SELDOM: Final = 0.1
"""Seconds between looks for the hub: at first, and where there is none for long."""
_LOOKS: Final = 20
"""Looks after which another way is tried."""

_Result = TypeVar("_Result")


class Hub(Protocol):
    """The loop of one library's green threads, as far as a native thread may touch it."""

    hub_class: type[Any]

    def is_main(self, hub: Any) -> bool:
        """Whether it is the main thread's."""

    def call_soon(self, hub: Any, function: Callable[[], None]) -> None:
        """Have `function` called in the hub. From any thread."""

    def spawn(self, function: Callable[[], None]) -> None:
        """A green thread; in the hub's native thread."""

    def may_block(self) -> bool:
        """The caller is a green thread, and not the hub itself."""


class _Gevent:
    def __init__(self) -> None:
        self._gevent = sys.modules["gevent"]
        self.hub_class: type[Any] = sys.modules["gevent.hub"].Hub

    def is_main(self, hub: Any) -> bool:
        return bool(hub.main_hub)

    def call_soon(self, hub: Any, function: Callable[[], None]) -> None:
        hub.loop.run_callback_threadsafe(function)

    def spawn(self, function: Callable[[], None]) -> None:
        self._gevent.spawn(function)

    def may_block(self) -> bool:
        return self._gevent.getcurrent() is not self._gevent.get_hub()


class _Eventlet:
    """Its hub takes no calls from other threads: it listens to a pipe."""

    def __init__(self) -> None:
        self._eventlet = sys.modules["eventlet"]
        self._hubs = sys.modules["eventlet.hubs"]
        self.hub_class: type[Any] = sys.modules["eventlet.hubs.hub"].BaseHub
        self._pid = os.getpid()
        self._writer = -1

    def is_main(self, hub: Any) -> bool:
        return bool(hub.running)

    def call_soon(self, hub: Any, function: Callable[[], None]) -> None:
        if self._writer < 0:
            reader, writer = os.pipe()
            for each in (reader, writer):
                os.set_blocking(each, False)

            def hear(_: object) -> None:
                # A forked child shares the pipe, and may even hear of it.
                if os.getpid() == self._pid:
                    with suppress(BlockingIOError):
                        posix.read(reader, 4096)
                    function()

            hub.add(hub.READ, reader, hear, lambda *_: None, lambda: None)
            self._writer = writer
        # A full pipe is heard as well.
        with suppress(BlockingIOError):
            posix.write(self._writer, b"\0")

    def spawn(self, function: Callable[[], None]) -> None:
        self._eventlet.spawn_n(function)

    def may_block(self) -> bool:
        return self._eventlet.getcurrent() is not self._hubs.get_hub().greenlet


class Green(Execution):
    """Whatever is the application's runs in its hub; what is ours never waits for it, nor the hub for us."""

    is_native = False

    def __init__(self, library: Hub) -> None:
        self._library = library
        self._told: deque[Callable[[], None]] = deque(maxlen=_MOST)
        self._hub: Any = None
        self._is_looking = self._is_called = self._is_calling = False

    def start(self, body: Callable[[], None], name: str) -> Callable[[float], None] | None:
        # It has no name: whatever gives it one makes it a thread that they know, and whose end they report as an error.
        native.start_new_thread(body, ())
        return None

    def spawn(self, body: Callable[[], None], name: str) -> None:
        if native.is_main_thread():
            self._library.spawn(body)
        else:
            self._hand_over(lambda: self._library.spawn(body))

    def tell(self, call: Callable[[], None]) -> None:
        if native.is_main_thread():
            call()
        else:
            self._hand_over(call)

    def apart(self, function: Callable[[], _Result]) -> _Result:
        if not (native.is_main_thread() and self._library.may_block()):
            return function()
        ended = native.Gate()
        outcome: list[Callable[[], _Result]] = []

        def body() -> None:
            try:
                result = function()
                outcome.append(lambda: result)
            except BaseException as error:
                outcome.append(_raising(error))
            ended.open()

        try:
            native.start_new_thread(body, ())
        except RuntimeError:
            return function()
        while not ended.is_open:
            # The application's own, which lets other green threads run.
            time.sleep(_LOOK_AGAIN)
        return outcome[0]()

    def wait(self, gate: native.Gate, seconds: float) -> bool:
        if not native.is_main_thread():
            return gate.wait(seconds)
        until = time.monotonic() + seconds
        while not gate.is_open and self._library.may_block() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_AGAIN))
        return gate.is_open

    def flush(self) -> None:
        while self._told and native.is_main_thread():
            self._told.popleft()()

    def _hand_over(self, call: Callable[[], None]) -> None:
        self._told.append(call)
        if not self._is_called:
            self._is_called = True
            if self._hub is None and not self._finds_hub():
                self._look_for_hub()
            else:
                self._call_hub()

    def _look_for_hub(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            try:
                native.start_new_thread(self._keep_looking, ())
            # The kernel has no thread for us, or the process is at its end: the next call tries again, or the exit.
            except RuntimeError:
                self._is_looking = self._is_called = False

    def _keep_looking(self) -> None:
        looks = 0
        while not (self._finds_hub() or (looks % _LOOKS == _LOOKS - 1 and self._finds_busy_hub())):
            looks += 1
            native.sleep(_FIND_AGAIN if looks < _LOOKS else _FIND_SELDOM)
        self._is_looking = False
        self._call_hub()

    def _call_hub(self) -> None:
        try:
            self._library.call_soon(self._hub, self._hear)
        # The application has done away with it, and may have made another: that is found when there is more to tell.
        except Exception:
            self._hub, self._is_called = None, False

    def _finds_hub(self) -> bool:
        """It belongs to its native thread, where it is looked for: nearly always it is what waits there, at rest."""
        for top in sys._current_frames().values():
            frame: Any = top
            while frame is not None:
                if frame.f_code.co_name == "run" and self._takes(frame.f_locals.get("self")):
                    return True
                frame = frame.f_back
        return False

    def _finds_busy_hub(self) -> bool:
        """One that is never met at rest, among all objects: that holds the GIL about as long as a collection does."""
        return any(map(self._takes, gc.get_referrers(*_with_subclasses(self._library.hub_class))))

    def _takes(self, found: object) -> bool:
        if isinstance(found, self._library.hub_class) and self._library.is_main(found):
            self._hub = found
            return True
        return False

    def _hear(self) -> None:
        """In the hub, which must not wait for what it calls."""
        self._is_called = False
        self._library.spawn(self._call)

    def _call(self) -> None:
        # One at a time, or one that waits would be overtaken.
        if self._is_calling:
            return
        self._is_calling = True
        try:
            self.flush()
        finally:
            self._is_calling = False


def _with_subclasses(each: type[Any]) -> Iterator[type[Any]]:
    yield each
    for subclass in each.__subclasses__():
        yield from _with_subclasses(subclass)


def _raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


_LIBRARIES: Final[dict[str, Callable[[], Hub]]] = {"gevent": _Gevent, "eventlet": _Eventlet}
_BESIDE: Final[dict[str, Green]] = {}

# The hub of a forked child is another, and what its parent has told is not its own to tell.
FORKS.in_child.append(_BESIDE.clear)


def beside(library: str) -> Green:
    """That of this process, for ``gevent`` or ``eventlet``."""
    found = _BESIDE.get(library)
    return found if found is not None else _BESIDE.setdefault(library, Green(_LIBRARIES[library]()))
