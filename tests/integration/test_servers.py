"""Real servers under `rheostat run` and with `rheostat.start` in their code, all on loopback.

The rows are those of `servers.MATRIX`; docs/servers/README.md shows what was seen. The commonest of them are in every
run, all of them in `make soak`.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rheostat.receive.receiver import Receiver
from support.children import PATIENCE, RHEOSTAT, Child, parsed
from support.servers import (
    CONFIG,
    GOVERNED,
    GREEN,
    HEAD,
    HORSES,
    KILLED,
    MATRIX,
    OFF,
    ON,
    ONLY_WORKERS,
    OTHERS,
    PATCHED_LATER,
    RELOADED,
    RESIZED,
    WORKERS,
    Row,
    Service,
    numberless,
    threads,
    usual,
)

PAGE = Path(__file__).parents[2] / "docs" / "servers" / "README.md"

EXIT_DEADLINE = 5.0
SLACK = 2.0
GIVES_UP = 0.9
"""Seconds; after one a fork waits no longer for an import."""

COMMON = {
    ("gunicorn gthread", "fork, --preload", "run"),
    ("uvicorn --workers", "spawn", "run"),
    ("uWSGI", "fork", "run"),
    ("uWSGI", "fork", "code"),
    ("pyuwsgi", "fork", "run"),
    ("ProcessPoolExecutor", "fork", "run"),
    ("gunicorn gevent", "fork", "run"),
    ("gunicorn gevent", "fork, --preload", "code"),
    ("Celery gevent", "one process", "run"),
    ("granian wsgi", "spawn", "run"),
    ("gevent script", "patched later", "run"),
}

Record = Callable[[str, object], None]


def each(rows: Sequence[Row]) -> Any:
    """Parametrise with the rows; what is not common is for `make soak`."""

    def marks(row: Row) -> list[pytest.MarkDecorator]:
        soak = () if row.key in COMMON else (pytest.mark.soak,)
        return [*soak, pytest.mark.skipif(bool(row.lacks), reason=row.lacks)]

    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id, marks=marks(row)) for row in rows])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


@pytest.fixture
def record(request: pytest.FixtureRequest, record_property: Record) -> Record:
    """Records what the table shows of this row."""
    row = request.getfixturevalue("row")
    for name, value in (("server", row.server), ("version", row.version), ("start method", row.start), ("by", row.by)):
        record_property(name, value)
    return record_property


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "governed").mkdir()
    return tmp_path / "governed"


def expect_usual_end(service: Service, folder: Path, record: Record) -> None:
    """It ends with the exit code and in the time that the server has without Rheostat, and nothing of ours is said."""
    bare = usual(service.row, folder.parent / "bare")
    code, took = service.end()
    assert [] == [line for line in service.noise() if numberless(line) not in bare.noise]
    assert bare.code == code
    assert took < bare.took + EXIT_DEADLINE + SLACK
    record("exit", f"{code} in {took:.1f} s, {bare.took:.1f} s without")


def expect_first_session(service: Service, workers: set[int]) -> None:
    """Each of them runs, and counts its transitions from 1."""
    service.until_all(workers, "running")
    for pid in workers:
        moves = service.moves(pid)
        assert [*range(1, len(moves) + 1)] == [seq for seq, _, _ in moves]
        assert [(len(moves), "stopped", "running")] == moves[-1:]


@each((*GOVERNED, *GREEN, *OTHERS))
def test_governed(row: Row, receiver: Receiver, folder: Path, record: Record) -> None:
    """Each worker governs itself, follows the flags, pushes its own profiles, and ends as its server does."""
    with Service(row, folder, receiver) as service:
        workers = service.workers(row.processes)
        expect_first_session(service, workers)
        record("governed", f"{len(workers)} of {row.processes}")

        service.workers(row.processes)
        service.flip(OFF)
        service.until_all(workers, "stopped")
        record("flip", "reaches all")
        service.expect_pushes(workers)
        record("own profiles", "of each")

        service.flip(ON)
        service.until_all(workers, "running")
        service.workers(row.processes)
        service.forget_pushes()
        expect_usual_end(service, folder, record)
        if row.flushes:
            service.expect_pushes(workers)
            assert ["stopped"] * len(workers) == [service.state(pid) for pid in workers]
        assert row.flushes is not False or not service.has_pushed(workers)
        record("last window", {True: "pushed", False: "lost", None: "pushed or lost"}[row.flushes])


@each(RELOADED)
def test_reload(row: Row, receiver: Receiver, folder: Path, record: Record) -> None:
    """After HUP the new workers govern themselves, and the old ones' last windows have been pushed."""
    with Service(row, folder, receiver) as service:
        old = service.workers()
        expect_first_session(service, old)
        service.workers()
        service.reload()
        service.expect_pushes(old)
        record("last window", "pushed, of old and new")
        new = service.workers(without=old)
        expect_first_session(service, new)
        record("governed", f"{len(old)} old, {len(new)} new")
        service.workers()
        service.flip(OFF)
        service.until_all(new, "stopped")
        record("flip", "reaches all")
        service.expect_pushes(new)
        record("own profiles", "of each")
        expect_usual_end(service, folder, record)


@each(RESIZED)
def test_more_and_fewer_workers(row: Row, receiver: Receiver, folder: Path, record: Record) -> None:
    """A worker that TTIN adds governs itself; one that TTOU takes away pushes its last window."""
    with Service(row, folder, receiver) as service:
        first = service.workers()
        expect_first_session(service, first)
        service.child.process.send_signal(signal.SIGTTIN)
        added = service.workers(1, without=first)
        expect_first_session(service, added)
        record("governed", f"{len(first)} and {len(added)} more")
        # gunicorn takes the oldest away.
        busy = service.workers(WORKERS + 1)
        service.child.process.send_signal(signal.SIGTTOU)
        service.until(lambda: any(service.state(pid) == "stopped" for pid in first), "one of them has ended")
        gone = {pid for pid in first if service.state(pid) == "stopped"}
        service.expect_pushes(gone)
        record("last window", "pushed")
        service.flip(OFF)
        service.until_all(busy, "stopped")
        record("flip", "reaches all")
        expect_usual_end(service, folder, record)


@each(KILLED)
def test_worker_that_hangs(row: Row, receiver: Receiver, folder: Path, record: Record) -> None:
    """The worker that follows one killed by gunicorn's timeout governs itself, and the others go on."""
    with Service(row, folder, receiver) as service:
        first = service.workers()
        expect_first_session(service, first)
        client = threading.Thread(target=service.hang)
        client.start()
        service.until_said("WORKER TIMEOUT")
        client.join(PATIENCE)
        new = service.workers(1, without=first)
        expect_first_session(service, new)
        # Where the worker was is told by gunicorn in a traceback.
        assert [] == [line for line in service.noise() if "heostat" in line or "yroscope" in line]
        service.forget_noise()
        record("governed", f"{len(first)}, and the one that follows")
        service.flip(OFF)
        service.until_all(service.workers(), "stopped")
        record("flip", "reaches all")
        expect_usual_end(service, folder, record)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@each(ONLY_WORKERS)
def test_only_workers(row: Row, receiver: Receiver, folder: Path, record: Record) -> None:
    """With `processes: workers` the master has no more threads than without us, while its workers are governed."""
    with Service(row, folder, receiver, processes="workers") as service:
        workers = service.workers()
        expect_first_session(service, workers)
        deadline = time.monotonic() + PATIENCE
        most = usual(row, folder.parent / "bare").threads
        while threads(service.master) > most and time.monotonic() < deadline:
            time.sleep(0.05)
        assert threads(service.master) <= most
        assert [] == service.moves(service.master)
        record("governed", f"{len(workers)} of {WORKERS}, master left alone")
        service.workers()
        service.flip(OFF)
        service.until_all(workers, "stopped")
        record("flip", "reaches all")
        service.expect_pushes(workers)
        record("own profiles", "of each")
        service.flip(ON)
        service.until_all(workers, "running")
        service.workers()
        service.forget_pushes()
        expect_usual_end(service, folder, record)
        if row.flushes:
            service.expect_pushes(workers)
        record("last window", "pushed" if row.flushes else "lost")


@each(PATCHED_LATER)
def test_patched_later(row: Row, receiver: Receiver, folder: Path, record: Record) -> None:
    """A process whose threads turn green goes on with its session, follows the flags and serves every request."""
    with Service(row, folder, receiver) as service:
        (pid,) = service.workers(1)
        service.until_all([pid], "running")
        record("governed", "1 of 1")
        service.workers(1)
        assert pid == service.get(path="/patch")
        for flags, state in ((OFF, "stopped"), (ON, "running"), (OFF, "stopped"), (ON, "running")):
            service.flip(flags)
            service.until_all([pid], state)
            assert {pid} == service.workers(1)
        record("flip", "reaches all")
        service.expect_pushes([pid])
        record("own profiles", "yes")
        expect_usual_end(service, folder, record)
        record("last window", "lost")


@pytest.mark.soak
@pytest.mark.skipif(bool(HORSES.lacks), reason=HORSES.lacks)
def test_a_horse_of_rq_pushes_what_it_took(receiver: Receiver, folder: Path) -> None:
    """rq's horses leave by ``os._exit`` after one task: a worker class that stops profiling first keeps the window."""
    with Service(HORSES, folder, receiver) as service:
        first, second = service.work(1), service.work(1)
        assert first != second
        service.expect_pushes([*first, *second])


IMPORTING = """\
import logging
import os
import sys
import time

while "rheostat._cli" not in sys.modules:
    time.sleep(0.0005)
began = time.monotonic()
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(time.monotonic() - began, flush=True)
sys.stdin.read()
os.waitpid(child, 0)
"""


def test_fork_while_rheostat_is_imported(tmp_path: Path) -> None:
    """A master that forks just then, with logging imported, waits for the import only, and the child is governed."""
    config = CONFIG.format(backend="{kind: noop}", processes="all", start_after="10ms")
    for name, text in {"rheostat.yaml": config, "flags.yaml": ON, "app.py": IMPORTING}.items():
        (tmp_path / name).write_text(text)

    def waited() -> float:
        run = [*RHEOSTAT, "run", "--config", "rheostat.yaml", "--log", "json", "--", sys.executable, "app.py"]
        with Child(run, tmp_path) as child:
            seconds = float(child.out.next() or "nan")
            if seconds >= GIVES_UP:
                return seconds
            assert 2 == len({child.event("transition", to="running")["pid"] for _ in range(WORKERS)})
            assert 0 == child.finish()
            assert {"INFO"} == {parsed(line).get("level") for line in child.err.rest()}
        return seconds

    # On a busy machine the import alone may take as long, but not thrice.
    assert any(waited() < GIVES_UP for _ in range(3))


# The table


def test_the_page_shows_every_row() -> None:
    """docs/servers/README.md has the table that `make soak` prints: these rows, each with what was seen."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    assert list(HEAD) == lines[0]
    rows = [dict(zip(HEAD, line, strict=True)) for line in lines[2:]]
    assert [row.key for row in MATRIX] == [(row["server"], row["start method"], row["by"]) for row in rows]
    assert [] == [row for row in rows if {"failed", "not run"} & {*row.values()}]
