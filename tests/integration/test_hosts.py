"""What the processes of one host know of each other: who profiles, which session has ended, which start was fatal."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.children import PATIENCE, RHEOSTAT, Child

ASKS = """\
import sys, time
from functools import partial
from rheostat._host.permits import Permits, opened_for_all

permits, now = Permits(partial(opened_for_all, sys.argv[1]), time.time), 0.0
for line in sys.stdin:
    word, *rest = line.split()
    now += float(rest[0]) if rest else 0.0
    if word == "renounce":
        permits.renounce()
        print("renounced", flush=True)
    elif word == "fork":
        import os
        if os.fork() == 0:
            time.sleep(60)
        print("forked", flush=True)
    else:
        print(permits.ask(2, 10.0, now, runs=word == "runs")[0], flush=True)
"""

CONFIG = """\
version: 1
application: shop
instance: host-1
state_dir: state
source: {{kind: yaml, path: flags.yaml, poll_interval: 50ms}}
backend: {backend}
enabled: {{flag: "on", default: false}}
settings: {{rate: {{flag: rate, default: 20}}}}
policy: {{cooldown: 0s, start_after: 0s, backoff: {{initial: 100ms, max: 1s}}, {policy}}}
"""

FATAL = """\
import os, signal

class Fatal:
    Options = dict
    parameters = None

    def __init__(self, options, identity):
        pass

    def start(self, settings):
        if settings["rate"] == 20:
            os.kill(os.getpid(), signal.SIGKILL)

    def stop(self):
        pass
"""


class Asking:
    """A process that asks for permits when it is told to."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def __call__(self, word: str, seconds: float = 0.0) -> bool:
        self._child.tell(f"{word} {seconds}")
        return self._child.out.next() == "True"

    def kill(self) -> None:
        self._child.process.kill()
        self._child.process.wait(PATIENCE)


@contextmanager
def asking(folder: Path, count: int) -> Iterator[list[Asking]]:
    with ExitStack() as stack:
        children = [Child([sys.executable, "-c", ASKS, str(folder)], folder) for _ in range(count)]
        yield [Asking(stack.enter_context(child)) for child in children]


def test_permits_are_had_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    """Two of five; a turn that is over makes way for the first in the queue, and goes to its end."""
    with asking(tmp_path, 5) as (one, two, three, four, five):
        assert [True, True, False, False, False] == [each("ask") for each in (one, two, three, four, five)]
        # Whoever comes by more often is no sooner.
        assert [False, False, False] == [five("ask"), five("ask"), four("ask")]
        assert one("runs", 9.0)
        assert not one("runs", 2.0)
        assert not three("ask"), "the session runs yet"
        assert not one("ask")
        assert [False, False, True] == [five("ask"), four("ask"), three("ask")]
        two("renounce")
        assert [False, False, True] == [one("ask"), five("ask"), four("ask")]
        three("renounce")
        assert [False, True] == [one("ask"), five("ask")]
        assert [False, True] == [one("ask"), (four("renounce"), one("ask"))[1]]


def test_who_is_alone_keeps_its_permit_beyond_its_turn(tmp_path: Path) -> None:
    """Nobody waits."""
    with asking(tmp_path, 2) as (one, two):
        assert one("ask")
        assert [True, True, True] == [one("runs", 50.0), two("ask"), one("runs", 50.0)]


def test_who_holds_the_whole_queue_holds_up_nobody(tmp_path: Path) -> None:
    """It is said, and nothing hangs: the file is there for processes of any user."""
    holder = (
        "import fcntl, os, sys\nfile = os.open(sys.argv[1] + '/rheostat-per-host.lock', os.O_RDWR | os.O_CREAT)\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    prepare(tmp_path, "per_host: {max: 1, dir: .}")
    flip(tmp_path, "on: true\n")
    with Child([sys.executable, "-c", holder, str(tmp_path)], tmp_path) as holding:
        assert "held" == holding.out.next()
        with run(tmp_path) as child:
            assert "no place in the queue" in child.event("state_unusable")["message"]
            assert 0 == child.finish()


def test_a_permit_dies_with_its_process_though_children_live(tmp_path: Path) -> None:
    """The kernel takes it back; no child of a fork inherits it."""
    with asking(tmp_path, 3) as (one, two, three):
        assert [True, True, False] == [one("ask"), two("ask"), three("ask")]
        one("fork")
        one.kill()
        assert three("ask")


def prepare(folder: Path, policy: str, backend: str = "{kind: noop}") -> None:
    (folder / "config.yaml").write_text(CONFIG.format(policy=policy, backend=backend))
    (folder / "app.py").write_text("import sys\nsys.stdin.read()\n")
    (folder / "fatal.py").write_text(FATAL)


def flip(folder: Path, flags: str) -> None:
    (folder / "flags.new").write_text(flags)
    (folder / "flags.new").replace(folder / "flags.yaml")


def run(folder: Path) -> Child:
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    return Child(command, folder, {"PYTHONPATH": str(folder)})


def test_so_many_processes_of_a_host_profile_as_may(tmp_path: Path) -> None:
    """One at a time; the next begins when it ends, whatever it ended of."""
    prepare(tmp_path, "per_host: {max: 1}")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as first:
        first.event("transition", to="running")
        with run(tmp_path) as second:
            _until(lambda: f" {second.process.pid} " in Path("/proc/locks").read_text())
            first.process.kill()
            assert "per_host" == second.event("transition", to="running")["cause"]["kind"]
            assert 0 == second.finish()


def test_where_permits_cannot_be_had_nobody_profiles_and_the_log_says_why(tmp_path: Path) -> None:
    """What bounds the cost must not fail open."""
    prepare(tmp_path, "per_host: {max: 1, dir: nowhere}")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        assert "nowhere" in child.event("state_unusable")["message"]
        assert 0 == child.finish()
        assert not [line for line in child.err.seen if '"transition"' in line]


def test_a_session_that_has_ended_is_not_renewed_by_a_restart(tmp_path: Path) -> None:
    """Off and on again begins another, for processes that are started later too."""
    prepare(tmp_path, "session: {max: 1s}")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        assert "session" == child.event("transition", to="stopped")["cause"]["kind"]
        assert 0 == child.finish()
    with run(tmp_path) as child:
        # Its first transition is that of the next session.
        flip(tmp_path, "on: false\n")
        _until(lambda: not list((tmp_path / "state").glob("session-*")))
        flip(tmp_path, "on: true\n")
        assert 1 == child.event("transition", to="running")["seq"]
        assert 0 == child.finish()


def test_a_session_goes_on_in_the_next_process_for_what_is_left_of_it(tmp_path: Path) -> None:
    prepare(tmp_path, "session: {max: 1h}")
    flip(tmp_path, "on: true\n")
    for _ in range(2):
        with run(tmp_path) as child:
            child.event("transition", to="running")
            [record] = _until(lambda: list((tmp_path / "state").glob("session-*")))
            before = record.read_text()
            assert 0 == child.finish()
    assert before == record.read_text()


def test_settings_that_processes_die_of_are_not_tried_again(tmp_path: Path) -> None:
    """Twice is enough here; other settings are, and so are these once the flags were off."""
    prepare(tmp_path, "crash_guard: {times: 2, within: 1h}", '{kind: "fatal:Fatal"}')
    flip(tmp_path, "on: true\n")
    for _ in range(2):
        with run(tmp_path) as child:
            assert -signal.SIGKILL == child.process.wait(PATIENCE)
    with run(tmp_path) as child:
        flip(tmp_path, "on: true\nrate: 30\n")
        assert {"rate": 30} == child.event("transition", to="running")["settings"]
        flip(tmp_path, "on: true\n")
        assert "crash_guard" == child.event("transition", to="stopped")["cause"]["kind"]
        flip(tmp_path, "on: false\n")
        _until(lambda: not list((tmp_path / "state").glob("start-*")))
        flip(tmp_path, "on: true\n")
        assert -signal.SIGKILL == child.process.wait(PATIENCE)


def test_a_restart_for_other_settings_is_guarded_like_the_first_start(tmp_path: Path) -> None:
    """The end of the session before it takes no word of it away."""
    prepare(tmp_path, "crash_guard: {times: 1, within: 1h}")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        flip(tmp_path, "on: true\nrate: 40\n")
        assert {"rate": 40} == child.event("transition", to="running")["settings"]
        # What is removed late is that of the first session.
        _until(lambda: [40] == [json.loads(each.read_text())["settings"]["rate"] for each in _starts(tmp_path)])
        child.process.kill()
    with run(tmp_path) as child:
        flip(tmp_path, "on: true\nrate: 50\n")
        child.event("transition", to="running")
        flip(tmp_path, "on: true\nrate: 40\n")
        assert "crash_guard" == child.event("transition", to="stopped")["cause"]["kind"]


def _starts(folder: Path) -> list[Path]:
    return list((folder / "state").glob("start-*"))


def test_a_guard_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    """And profiling goes on."""
    prepare(tmp_path, "crash_guard: {times: 1}")
    (tmp_path / "state").touch()
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        assert "have not survived are not known" in child.event("state_unusable")["message"]
        child.event("transition", to="running")
        assert 0 == child.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_permits_in_a_folder_of_somebody_else_s_are_refused(tmp_path: Path) -> None:
    """Unless it is shared on purpose: nothing is made where somebody else's link leads."""
    prepare(tmp_path, "per_host: {max: 1}")
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", 65534, 65534)
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        assert "belongs to another user" in child.event("state_unusable")["message"]
        assert 0 == child.finish()
    assert [] == list((tmp_path / "state").iterdir())


def test_a_process_that_ends_in_order_is_no_crash(tmp_path: Path) -> None:
    """Nor is one whose profiler was turned off."""
    prepare(tmp_path, "crash_guard: {times: 1, within: 1h}")
    flip(tmp_path, "on: true\n")
    for _ in range(2):
        with run(tmp_path) as child:
            child.event("transition", to="running")
            assert list((tmp_path / "state").glob("start-*"))
            assert 0 == child.finish()
        assert [] == list((tmp_path / "state").glob("start-*"))


def test_a_session_that_lasts_is_no_crash_and_forgets_those_before(tmp_path: Path) -> None:
    prepare(tmp_path, "crash_guard: {times: 2, within: 1s}")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        child.process.kill()
    assert list((tmp_path / "state").glob("start-*"))
    with run(tmp_path) as child:
        child.event("transition", to="running")
        _until(lambda: not list((tmp_path / "state").glob("start-*")))
        child.process.kill()
    with run(tmp_path) as child:
        child.event("transition", to="running")
        assert 0 == child.finish()


def test_a_service_that_was_stopped_as_a_whole_is_no_crash(tmp_path: Path) -> None:
    """The parent is gone with it: that is a deploy, not a crash."""
    prepare(tmp_path, "crash_guard: {times: 1, within: 1h}")
    flip(tmp_path, "on: true\n")
    command = " ".join([*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"])
    with Child(["sh", "-c", f"{command}; true"], tmp_path) as child:
        assert child.process.pid != child.event("transition", to="running")["pid"]
        os.killpg(child.process.pid, signal.SIGKILL)
    with run(tmp_path) as child:
        child.event("transition", to="running")
        assert 0 == child.finish()


@pytest.mark.parametrize("kind", ["a file", "a link"])
def test_a_state_folder_that_is_not_ours_costs_only_what_it_was_for(tmp_path: Path, kind: str) -> None:
    """The service and its profiler go on, and the log says once what is lost."""
    prepare(tmp_path, "session: {max: 1h}, crash_guard: {times: 1}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "state").touch() if kind == "a file" else (tmp_path / "state").symlink_to(elsewhere)
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        assert "forgotten when the process ends" in child.event("state_unusable")["message"]
        child.event("transition", to="running")
        assert 0 == child.finish()
    assert [] == list(elsewhere.iterdir())


def _until(found: Any) -> Any:
    until = time.monotonic() + PATIENCE
    while not (result := found()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return result
