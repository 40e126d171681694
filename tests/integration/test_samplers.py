"""The agent's two samplers: the cheap one where it tells the truth, the other one elsewhere."""

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rheostat.receive.receiver import Receiver
from support.children import PATIENCE, Child

HOST = """\
import json
import sys
import threading
import time
from _thread import start_new_thread

import rheostat

{before}
forever = threading.Event()
for _ in range(200):
    threading.Thread(target=forever.wait, daemon=True).start()


def busy():
    while True:
        sum(range(1000))


def say(**what):
    print(json.dumps(what), flush=True)


{begin}
reconciler = rheostat.start("config.yaml", on_event=lambda event: say(event=event.name, text=event.message))
health = None
{loop}:
    status = reconciler.status()
    if status.health != health:
        health = status.health
        say(health=health.status, detail=health.detail)
    time.sleep(0.01)
"""

CONFIG = {
    "version": 1,
    "application": "shop",
    "source": {"kind": "yaml", "path": "flags.yaml", "poll_interval": "10ms"},
    "enabled": {"flag": "on", "default": False},
    "settings": {"mode": {"flag": "mode", "default": "cpu"}, "sample_rate": {"flag": "rate", "default": 100},
                 "upload_interval": 1},
    "policy": {"cooldown": "0s", "resync": "1s", "backoff": {"initial": "10ms", "max": "20ms"}},
}  # fmt: skip


@contextmanager
def host(
    folder: Path, address: str, begin: str = "", before: str = "", loop: str = "while True", **options: object
) -> Iterator[Child]:
    backend = {"kind": "pyroscope", "server_address": address, **options}
    (folder / "config.yaml").write_text(json.dumps({**CONFIG, "backend": backend}))
    (folder / "flags.yaml").write_text("on: true\n")
    (folder / "host.py").write_text(HOST.format(begin=begin, before=before, loop=loop))
    with Child([sys.executable, "host.py"], folder) as child:
        yield child


def said(child: Child, **wanted: Any) -> dict[str, Any]:
    return dict(json.loads(child.out.until(lambda line: wanted.items() <= json.loads(line).items())))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def test_mode_cpu_takes_the_cheap_sampler_and_sees_what_works(tmp_path: Path, receiver: Receiver) -> None:
    """The status names it; another rate is a restart of it; what is pushed is the function that worked."""
    begin = "threading.Thread(target=busy, daemon=True).start()"
    with host(tmp_path, receiver.address, begin) as child:
        assert said(child, health="healthy")["detail"].endswith("threads, sampler stack")
        (tmp_path / "flags.yaml").write_text("on: true\nrate: 20\n")
        said(child, event="transition")
        assert said(child, health="healthy")["detail"].endswith("threads, sampler stack")

        def shows_work(profile: Any) -> bool:
            return any("busy" in function for sample in profile.samples for function in sample.stack)

        receiver.wait_for(shows_work, PATIENCE)


def test_work_that_the_cheap_sampler_cannot_see_makes_it_give_way(tmp_path: Path, receiver: Receiver) -> None:
    """A thread that `threading` has not started works: it is said, and the session goes on with the other sampler."""
    with host(tmp_path, receiver.address, "start_new_thread(busy, ())") as child:
        text = said(child, event="transition")["text"]
        assert "stopped -> running" in text
        while "missed" not in text:
            text = said(child, event="transition")["text"]
        assert "in threads that Python has not started" in text
        assert "sampler pyspy" in said(child, health="healthy")["detail"]


WORK_IN_THREADS = """\
def work(until):
    while time.monotonic() < until:
        sum(range(1000))


def in_turn():
    # At the end of the process no thread can be started any more.
    while True:
        try:
            thread = threading.Thread(target=work, args=(time.monotonic() + SECONDS,))
            thread.start()
        except RuntimeError:
            return
        thread.join()


threading.Thread(target=in_turn, daemon=True).start()
"""


def _work_in_threads_of(seconds: float) -> str:
    return WORK_IN_THREADS.replace("SECONDS", str(seconds))


def test_work_in_threads_that_end_at_once_makes_it_give_way(tmp_path: Path, receiver: Receiver) -> None:
    """A thread for each of many small jobs: the cheap sampler never sees them."""
    with host(tmp_path, receiver.address, _work_in_threads_of(0.001)) as child:
        text = said(child, event="transition")["text"]
        while "missed" not in text:
            text = said(child, event="transition")["text"]
        assert "in threads that end before it sees them" in text
        assert "sampler pyspy" in said(child, health="healthy")["detail"]


def test_threads_that_begin_as_the_process_ends_do_not_abort_it(tmp_path: Path, receiver: Receiver) -> None:
    """The sampler's native code hears of each thread for good, and does not bear the end of the interpreter."""
    begin = _work_in_threads_of(0.001) + "\nthreading.Timer(1.0, main_thread_ends.set).start()"
    before = "main_thread_ends = threading.Event()"
    for _ in range(4):
        with host(tmp_path, receiver.address, begin, before, loop="while not main_thread_ends.is_set()") as child:
            assert (0, []) == (child.process.wait(PATIENCE), child.err.rest())


def test_threads_that_live_for_a_while_are_trusted(tmp_path: Path, receiver: Receiver) -> None:
    """A server that has a thread for each request: most of them have ended by the next look, and were seen."""
    with host(tmp_path, receiver.address, _work_in_threads_of(0.2)) as child:
        said(child, health="healthy")

        pushes = itertools.count()
        receiver.wait_for(lambda _: next(pushes) > 3, PATIENCE)
        assert not [line for line in child.out.seen if "missed" in line]
        (tmp_path / "flags.yaml").write_text("on: true\nrate: 50\n")
        assert "missed" not in said(child, event="transition")["text"]
        assert "sampler stack" in said(child, health="healthy")["detail"]


@pytest.mark.parametrize(
    ("options", "before", "mode", "expected"),
    [
        ({"sampler": "pyspy"}, "", "cpu", "sampler pyspy"),
        ({}, "", "wall", "sampler pyspy"),
        ({}, "", "gil", "sampler pyspy"),
        ({}, "import pyroscope; pyroscope.configure_experimental_stack_profiler()", "cpu", "sampler pyspy"),
        ({"sampler": "stack", "max_threads": 0}, "", "cpu", "sampler stack"),
    ],
)
def test_elsewhere_the_other_one_is_taken(
    tmp_path: Path, receiver: Receiver, options: dict[str, Any], before: str, mode: str, expected: str
) -> None:
    """As it is told to, in other modes, and where the application has set the options of the cheap one."""
    with host(tmp_path, receiver.address, before=before, **options) as child:
        (tmp_path / "flags.yaml").write_text(f"on: true\nmode: {mode}\n")
        found = said(child, health="healthy")
        while expected not in found["detail"]:
            found = said(child, health="healthy")


def test_one_that_is_wanted_and_cannot_be_used_is_refused(tmp_path: Path, receiver: Receiver) -> None:
    """With its reason, and not tried again until the flags change."""
    with host(tmp_path, receiver.address, sampler="stack") as child:
        said(child, health="healthy")
        (tmp_path / "flags.yaml").write_text("on: true\nmode: wall\n")
        text = said(child, event="start_failed")["text"]
        assert "sampler stack cannot be used: it has no mode wall" in text
        assert "until the flags change" in text
