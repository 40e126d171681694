"""An application that Rheostat lives in, as a program of its own: it does what it is told over a connection.

What it is told is Python, and is done in its main thread, in the module `app`: what is defined here is known there.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from typing import Any, Final

import rheostat

LOGGERS: Final = (
    "",
    "growthbook",
    "growthbook.core",
    "ldclient.util",
    "ldclient.flag",
    "launchdarkly-eventsource.null",
    "openfeature",
    "openfeature.contrib",
    "urllib3.connectionpool",
)
VENDORS: Final = ("growthbook", "ldclient", "ld_eventsource", "openfeature", "urllib3", "aiohttp")

PATIENCE: Final = 10.0
_INTERVAL: Final = 0.005

profiling: Any = None


def start(config: str) -> float:
    """Start Rheostat; gives the seconds that took."""
    global profiling
    began = time.monotonic()
    profiling = rheostat.start(config, strict=True)
    return time.monotonic() - began


def rate() -> object:
    """The session that runs now."""
    return profiling.status().settings.get("rate")


def until(condition: Callable[[], object], patience: float = PATIENCE) -> float:
    """Wait until this holds; gives the seconds that took, or raises TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience:
            raise TimeoutError(f"not in {patience} s; {profiling and profiling.status()}")
        time.sleep(_INTERVAL)
    return time.monotonic() - began


class Records(logging.Handler):
    """Keeps what comes to the root logger."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)

    def of_vendors(self) -> list[str]:
        return [
            f"{each.name} {each.levelname} {each.getMessage()}"
            for each in self.kept
            if each.name.startswith((*VENDORS, "launchdarkly-eventsource"))
        ]

    def of_rheostat(self, event: str) -> list[str]:
        return [each.getMessage() for each in self.kept if getattr(each, "rheostat_event", "") == event]


records = Records()


def loggers() -> dict[str, list[object]]:
    """How the loggers that vendors use are set, their filters aside."""
    found = {name: logging.getLogger(name) for name in LOGGERS}
    return {
        name: [each.level, each.disabled, each.propagate, [repr(handler) for handler in each.handlers]]
        for name, each in found.items()
    }


def filters() -> list[str]:
    """The filters of those loggers and of their handlers."""
    found = [logging.getLogger(name) for name in LOGGERS]
    return [repr(each) for logger in found for holder in (logger, *logger.handlers) for each in holder.filters]


class Imports:
    """Notes which thread imports a vendor's packages."""

    def __init__(self) -> None:
        self.threads: dict[str, str] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top in VENDORS:
            self.threads.setdefault(top, threading.current_thread().name)
        return None

    def watch(self) -> None:
        sys.meta_path.insert(0, self)


imports = Imports()


def resources() -> dict[str, int]:
    """How much this process holds of what could leak."""
    import atexit
    import gc

    gc.collect()
    descriptors = []
    for each in os.listdir("/proc/self/fd"):
        try:
            descriptors.append(os.readlink(f"/proc/self/fd/{each}"))
        except FileNotFoundError:
            continue
    # OpenFeature's pool for events, which has up to a handful of threads.
    pooled = sum(each.name.startswith("openfeature-event-handler") for each in threading.enumerate())
    held = {
        "threads": threading.active_count() - pooled,
        "tasks": len(os.listdir("/proc/self/task")) - pooled,
        "descriptors": len(descriptors),
        "sockets": sum(each.startswith("socket:") for each in descriptors),
        "atexit": atexit._ncallbacks(),
        "filters": len(filters()),
        "handlers": sum(len(logging.getLogger(name).handlers) for name in LOGGERS),
    }
    if "openfeature.api" in sys.modules:
        from openfeature import _event_support
        from openfeature.provider._registry import provider_registry

        by_client = _event_support._client_handlers
        held["clients"] = len(by_client)
        held["events"] = sum(len(handlers) for events in by_client.values() for handlers in events.values())
        held["providers"] = len(provider_registry._provider_status)
    return held


def growth(before: Mapping[str, int], patience: float = PATIENCE) -> dict[str, int]:
    """How much more it holds than before, once that has settled."""
    deadline = time.monotonic() + patience
    while True:
        grown = {name: held - before[name] for name, held in resources().items() if held > before[name]}
        if not grown or time.monotonic() > deadline:
            return grown
        time.sleep(_INTERVAL)


class Network:
    """Notes what a thread tries to do with it within a `with` block, and lets that fail."""

    _METHODS: Final = ("connect", "connect_ex", "send", "sendall", "sendto", "recv", "recv_into")
    _FUNCTIONS: Final = ("getaddrinfo", "create_connection", "gethostbyname")

    def __init__(self) -> None:
        self.tried: list[str] = []
        self._forbidden_to = 0

    def watch(self) -> None:
        for holder, names in ((socket.socket, self._METHODS), (socket, self._FUNCTIONS)):
            for name in names:
                setattr(holder, name, self._guarded(name, getattr(holder, name)))

    def __enter__(self) -> None:
        self._forbidden_to = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._forbidden_to = 0

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **options: Any) -> Any:
            if threading.get_ident() == self._forbidden_to:
                self.tried.append(name)
                raise AssertionError(f"{name} in the thread that reads")
            return function(*args, **options)

        return guarded


network = Network()


class Births:
    """Notes calls of methods in a process that did not make the object."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def watch(self, *classes: type) -> None:
        for each in classes:
            for name, function in list(vars(each).items()):
                if isinstance(function, types.FunctionType):
                    setattr(each, name, self._noting(each, name, function))

    def _noting(self, owner: type, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(this: Any, *args: Any, **options: Any) -> Any:
            here = os.getpid()
            if this.__dict__.setdefault("_made_in_process", here) != here:
                self.wrong.append(f"{owner.__name__}.{name}")
            return function(this, *args, **options)

        return noting


births = Births()


class Connection:
    """To whoever tells it what to do."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._orders = self._socket.makefile("r", encoding="utf-8")

    def next_order(self) -> Mapping[str, Any]:
        """Whoever has gone away wants it gone too."""
        return json.loads(self._orders.readline() or '{"do": "vanish", "code": 0}')

    def answer(self, **answer: object) -> None:
        self._socket.sendall(json.dumps(answer, default=repr).encode() + b"\n")

    def close(self) -> None:
        self._orders.close()
        self._socket.close()


def obey(port: int) -> int:
    """Do as told until told to leave; gives the exit code."""
    connection = Connection(port)
    while True:
        order = connection.next_order()
        match order["do"]:
            case "run":
                connection.answer(**_carried_out(order["code"]))
            case "fork":
                child = os.fork()
                if child:
                    connection.answer(value=child)
                else:
                    connection.close()
                    connection = Connection(port)
            case "leave":
                connection.answer(value=time.monotonic())
                connection.close()
                return int(order["code"])
            case _:
                os._exit(int(order["code"]))


def _carried_out(code: str) -> dict[str, object]:
    names = sys.modules["app"].__dict__
    try:
        try:
            expression = compile(code, "<told>", "eval")
        except SyntaxError:
            exec(compile(code, "<told>", "exec"), names)
            return {"value": None}
        return {"value": eval(expression, names)}
    except BaseException:
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    sys.modules["app"] = sys.modules["__main__"]
    logging.basicConfig(level=logging.INFO, handlers=[records])
    sys.exit(obey(int(sys.argv[1])))
