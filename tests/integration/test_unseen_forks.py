"""Forks that CPython is not told of: by uWSGI, and by programs that fork with the bare system call.

No hook of `os.register_at_fork` is called there, and a thread that holds the interpreter's lock at that moment is not
in the child to release it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rheostat.receive.receiver import Receiver
from support.children import ended
from support.servers import CONFIG, OFF, ON, THREADLESS, UWSGI, WORKERS, By, Service, uwsgi

needs_uwsgi = pytest.mark.skipif(not UWSGI.exists(), reason="uWSGI could not be compiled here")
by_both = pytest.mark.parametrize("by", ["run", "code"])


# uWSGI


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "governed").mkdir()
    return tmp_path / "governed"


LOADING = """

import os
import sys
import time

time.sleep({seconds})
print("has threads", len(os.listdir("/proc/self/task")), file=sys.stderr, flush=True)
"""


@needs_uwsgi
@by_both
@pytest.mark.parametrize("seconds", [0.01, 0.3])
def test_no_thread_of_ours_is_in_the_master(by: By, seconds: float, folder: Path, receiver: Receiver) -> None:
    """However long the application takes to load, uWSGI forks alone with its own thread; its workers are governed."""
    row = uwsgi("fork", by, app=LOADING.format(seconds=seconds))
    with Service(row, folder, receiver, start_after="10ms") as service:
        workers = service.workers()
        service.until_all(workers, "running")
        assert ["has threads 1"] == service.lines_with("has threads")
        assert [] == service.moves(service.master)
        service.flip(OFF)
        service.until_all(workers, "stopped")


@needs_uwsgi
@by_both
@pytest.mark.parametrize("seconds", [0.48, 0.50, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.57, 0.58, 0.60, 0.63])
@pytest.mark.soak
def test_no_time_that_an_application_takes_to_load_harms(
    by: By, seconds: float, folder: Path, receiver: Receiver
) -> None:
    """Loaded just when Rheostat would begin, it serves and is governed."""
    row = uwsgi("fork", by, app=LOADING.format(seconds=seconds))
    with Service(row, folder, receiver, start_after="500ms") as service:
        service.until_all(service.workers(), "running")


HOOKS = """

import sys

import uwsgi


def say(what):
    print("hook", what, uwsgi.worker_id(), file=sys.stderr, flush=True)


def theirs():
    say("set")


{hook}
print("reads its own", uwsgi.post_fork_hook is {read}, file=sys.stderr, flush=True)
"""

SET = "uwsgi.post_fork_hook = theirs"
DECORATED = """
import uwsgidecorators


@uwsgidecorators.postfork
def decorated():
    say("set")
"""


@needs_uwsgi
@by_both
@pytest.mark.parametrize(("hook", "read"), [(SET, "theirs"), (DECORATED, "uwsgidecorators.postfork_chain_hook")])
def test_the_application_keeps_its_own_hook(by: By, hook: str, read: str, folder: Path, receiver: Receiver) -> None:
    """A hook that the application sets after ours is called once in each worker, and is what it reads back."""
    row = uwsgi("fork", by, app=HOOKS.format(hook=hook, read=read))
    with Service(row, folder, receiver) as service:
        service.until_all(service.workers(), "running")
        assert ["reads its own True"] == service.lines_with("reads its own")
        assert [f"hook set {each}" for each in range(1, WORKERS + 1)] == sorted(service.lines_with("hook set"))


IN_THE_CALLER = """
import sys

assert "rheostat._control.loop" not in sys.modules
import rheostat

rheostat.start("rheostat.yaml")
print("loaded", "rheostat._control.loop" in sys.modules, file=sys.stderr, flush=True)
"""


@needs_uwsgi
def test_an_embedding_program_pays_for_the_imports_itself(folder: Path, receiver: Receiver) -> None:
    """It may fork at any moment, so what the control thread needs is imported before that thread begins."""
    row = uwsgi("fork, --lazy-apps", "bare", "--lazy-apps", app=IN_THE_CALLER)
    with Service(row, folder, receiver) as service:
        service.workers()
        service.until_said("loaded", WORKERS)
        assert ["loaded True"] * WORKERS == service.lines_with("loaded ")


PYUWSGI = "import pyuwsgi\n\npyuwsgi.run()\n"


@by_both
@pytest.mark.skipif(not [*THREADLESS.glob("pyuwsgi*.so")], reason="no uWSGI without threads for this Python")
def test_without_threads_it_is_said_once_and_nothing_is_done(by: By, folder: Path) -> None:
    """A uWSGI that never releases the interpreter's lock is told what to set, in one line, and serves unprofiled."""
    row = uwsgi("fork", by, server="pyuwsgi")
    files = {**row.files, "uwsgi": f"import sys\n\nsys.path.insert(0, {str(THREADLESS)!r})\n\n{PYUWSGI}"}
    command = (sys.executable, "uwsgi", *row.command[1:])
    with Service(row._replace(files=files, command=command), folder) as service:
        service.workers()
        service.until_said("enable-threads = true")
        service.end()
        assert ["ERROR"] == [event["level"] for event in service.events()]


# Any program


PROGRAM = """
import ctypes
import os
import sys

import rheostat

profiling = rheostat.start("rheostat.yaml")
while profiling.status().state != "running":
    pass

# With the interpreter's lock, as a program would that embeds Python and means well.
child = ctypes.PyDLL(None).fork()
if child:
    _, code = os.waitpid(child, 0)
    status = profiling.status()
    print("parent", status.pid == os.getpid(), status.seq, status.state, os.waitstatus_to_exitcode(code), flush=True)
else:
    {child}
"""


@pytest.mark.parametrize(
    "entrance",
    [
        "profiling.status()",
        "profiling.nudge()",
        "assert rheostat.start('rheostat.yaml') is profiling",
    ],
)
def test_a_child_begins_anew_at_the_first_entrance(entrance: str, tmp_path: Path) -> None:
    """Whatever is called first there notices the fork: the child is governed by itself, the parent as before."""
    child = f"""{entrance}
    while (status := profiling.status()).state != "running":
        pass
    print("child", status.pid == os.getpid(), status.seq, status.state, profiling.stop(), flush=True)"""
    assert ["child True 2 running True", "parent True 1 running 0"] == printed(tmp_path, child)


def test_a_child_that_stops_has_nothing_to_stop(tmp_path: Path) -> None:
    """A stop at the first entrance is at once true, and the parent's session goes on."""
    child = "print('child', profiling.stop(), profiling.status().closed, flush=True)"
    assert ["child True True", "parent True 1 running 0"] == printed(tmp_path, child)


def test_a_child_that_leaves_waits_for_no_thread_of_its_parent(tmp_path: Path) -> None:
    """Its exit handlers run, and end at once, though the deadline is an hour."""
    assert ["parent True 1 running 0"] == printed(tmp_path, "sys.exit(0)")


def printed(folder: Path, child: str) -> list[str]:
    config = CONFIG.format(backend="{kind: noop}", processes="all", start_after="1s")
    config = config.replace("exit_deadline: 5s", "exit_deadline: 1h")
    files = {"rheostat.yaml": config, "flags.yaml": ON, "app.py": PROGRAM.format(child=child)}
    for name, text in files.items():
        (folder / name).write_text(text)
    done = ended([sys.executable, "app.py"], folder)
    assert "" == done.stderr
    return done.stdout.splitlines()
