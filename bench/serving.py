"""The latency of a web service's requests.

Four servers side by side, each gunicorn with one worker of class gthread and two threads, which do about a millisecond
of Python's work for each request: without Rheostat, with it and profiling off, with it and the real agent at 20 Hz in
mode gil, and with the naive thread and the same agent. One client process asks them in turns, a block of requests at a
time, from four connections, and each server at the same fixed times; the order of the turns moves on with each block.
The clock runs from the moment a request is due until its answer is there, so that no slow answer hides those that wait
behind it.

The figure is the median over the blocks of a block's median and of its 99th percentile. What is compared with it is the
same figure of another server, and differs by no more than noise if it is at most 1.15 times that, or within that
server's own spread, which is the upper quartile of its blocks.
"""

import http.client
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .child import environment, run
from .percentile import percentile
from .row import Row, show
from .stage import SLOW, Stage, folder, log_to_nowhere, receiver

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_ROOT: Final = Path(__file__).resolve().parent.parent
_THREADS: Final = 2
_CONNECTIONS: Final = 4
_RATE: Final = 400.0
"""Requests per second."""
_BLOCK: Final = 200
"""Requests."""
_WORK: Final = 12_000
_RATIO: Final = 1.15
_PARTS: Final = {"median": 0.5, "99th percentile": 0.99}
_PATIENCE: Final = 20.0

_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
_DONE: Final = b"done\n"

_WITHOUT: Final = "without"
_OFF: Final = "with_rheostat_off"
_ON: Final = "with_rheostat_on"
_NAIVE: Final = "with_naive_on"
_SERVERS: Final = {_WITHOUT: "without", _OFF: "stopped", _ON: "running", _NAIVE: "running"}
"""The function below that makes each, and the state that it has to be in before it is measured."""

Latencies = Mapping[str, list[list[float]]]
"""Milliseconds, by server and block."""


def rows(quick: bool) -> list[Row]:
    blocks = 4 if quick else 10
    with folder() as where, receiver() as address, ExitStack() as stack:
        ports = {kind: stack.enter_context(_serve(kind, where / kind, address)) for kind in _SERVERS}
        latencies = run(measure, ports, blocks)
    return [*_rows_off(latencies), *_rows_on(latencies)]


def _rows_off(latencies: Latencies) -> list[Row]:
    return [_row("profiling off", part, latencies[_OFF], latencies[_WITHOUT], "without Rheostat") for part in _PARTS]


def _rows_on(latencies: Latencies) -> list[Row]:
    return [_row("profiler at 20 Hz", part, latencies[_ON], latencies[_NAIVE], "the naive thread") for part in _PARTS]


def _row(state: str, part: str, measured: list[list[float]], other: list[list[float]], whose: str) -> Row:
    figures, others = ([percentile(block, _PARTS[part]) for block in blocks] for blocks in (measured, other))
    figure, reference, spread = statistics.median(figures), statistics.median(others), percentile(others, 0.75)
    row = Row.of(
        f"latency of a request, {state}: {part}",
        figure,
        reference,
        limit=max(_RATIO * reference, spread),
        unit="ms",
        note=f"{figure / reference:.2f} x {whose}, whose blocks have {show(min(others), 'ms')} to "
        f"{show(max(others), 'ms')}, upper quartile {show(spread, 'ms')}; {len(measured)} blocks of "
        f"{len(measured[0])} requests",
    )
    row = row._replace(promise=f"≤ {_RATIO} x {whose}, or its spread")
    return row if whose == "the naive thread" else row._replace(naive=f"({show(reference, 'ms')} without)")


def without(folder: str, address: str) -> "WSGIApplication":
    log_to_nowhere()
    return _application(lambda: "without")


def with_rheostat_off(folder: str, address: str) -> "WSGIApplication":
    return _governed(Stage(Path(folder), address))


def with_rheostat_on(folder: str, address: str) -> "WSGIApplication":
    stage = Stage(Path(folder), address)
    stage.say(SLOW)
    return _governed(stage)


def with_naive_on(folder: str, address: str) -> "WSGIApplication":
    from .naive import NaiveThread

    log_to_nowhere()
    stage = Stage(Path(folder), address)
    stage.say(SLOW)
    thread = NaiveThread(stage.flags, address)
    # Before it starts, so that what it has done is known.
    thread.poll()
    thread.start()
    return _application(lambda: "running")


def _governed(stage: Stage) -> "WSGIApplication":
    import rheostat

    log_to_nowhere()
    reconciler = rheostat.start(stage.config, strict=True)

    def state() -> str:
        status = reconciler.status()
        return str(status.state) if status.source.available else "without flags"

    return _application(state)


def _application(state: Callable[[], str]) -> "WSGIApplication":
    """Works for each request, and tells of its state when it is asked for that."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        body = state().encode() if environ["PATH_INFO"] == "/state" else _work()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


def _work() -> bytes:
    """About a millisecond."""
    total = 0
    for number in range(_WORK):
        total += number * number
    return _DONE


@contextmanager
def _serve(kind: str, where: Path, address: str) -> Iterator[int]:
    """The port of a server that has come up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        application = f"bench.serving:{kind}({str(where)!r}, {address!r})"
        with subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *_options(listening.fileno()), application],
            cwd=_ROOT,
            env=environment(),
            pass_fds=[listening.fileno()],
        ) as process:
            try:
                _wait_for(port, _SERVERS[kind])
                yield port
            finally:
                _end(process)


def _options(descriptor: int) -> list[str]:
    return [
        f"--bind=fd://{descriptor}",
        "--workers=1",
        "--worker-class=gthread",
        f"--threads={_THREADS}",
        "--keep-alive=75",
        "--log-level=error",
        "--no-control-socket",
    ]


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait_for(port: int, state: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while (found := _state(port)) != state:
        if time.monotonic() > deadline:
            raise OSError(f"the server is {found}, not {state}")
        time.sleep(0.02)


def _state(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/state", headers={"Connection": "close"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def measure(ports: Mapping[str, int], blocks: int) -> Latencies:
    """The client. The first block of each, in which things are done for the first time, does not count."""
    latencies: dict[str, list[list[float]]] = {kind: [] for kind in ports}
    turns = deque(ports)
    with ExitStack() as stack, ThreadPoolExecutor(_CONNECTIONS) as pool:
        connections = {
            kind: [stack.enter_context(_connected(port)) for _ in range(_CONNECTIONS)] for kind, port in ports.items()
        }
        for block in range(blocks + 1):
            for kind in turns:
                latencies[kind].append(_block(pool, connections[kind], block))
            turns.rotate(1)
    return {kind: each[1:] for kind, each in latencies.items()}


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _block(pool: ThreadPoolExecutor, connections: list[socket.socket], block: int) -> list[float]:
    """The same requests at the same times, whichever server they go to."""
    begin = time.perf_counter() + 0.01
    ask = partial(_ask, begin=begin, block=block)
    return [latency for each in pool.map(ask, connections, range(_CONNECTIONS)) for latency in each]


def _ask(connection: socket.socket, number: int, *, begin: float, block: int) -> list[float]:
    chance, every = random.Random(block * _CONNECTIONS + number), _CONNECTIONS / _RATE
    return [_answered(connection, begin + (i + chance.random()) * every) for i in range(_BLOCK // _CONNECTIONS)]


def _answered(connection: socket.socket, due: float) -> float:
    """Milliseconds from when it was due."""
    time.sleep(max(0.0, due - time.perf_counter()))
    connection.sendall(_REQUEST)
    answer = b""
    while not answer.endswith(_DONE):
        received = connection.recv(4096)
        if not received:
            raise ConnectionError("the server has hung up")
        answer += received
    return (time.perf_counter() - due) * 1000
