"""Whatever a source, a backend or an observer does: the service goes on, the status is honest, and all heals."""

import logging
import os
import re
import sys
import threading
import time
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rheostat
from rheostat import Health, Reconciler, State, Status, Transition
from support.children import Child, ended
from support.faults import EVERYWHERE, PATIENCE, RAISED, STAGE

DEADLINE = 0.1
EXIT_DEADLINE = 0.1
SLACK = 2.0
"""Seconds that whatever is to be prompt may take on a machine that is busy."""

CONFIG = f"""\
version: 1
application: shop
source: {{kind: 'support.faults:FaultySource'}}
backend: {{kind: 'support.faults:FaultyBackend'}}
enabled: {{flag: on, default: false}}
settings:
  rate: {{flag: rate, default: 20, clamp: {{min: 1, max: 250}}}}
policy:
  resync: 1s
  start_deadline: {DEADLINE}s
  stop_deadline: {DEADLINE}s
  exit_deadline: {EXIT_DEADLINE}s
  cooldown: 0s
  backoff: {{initial: 10ms, max: 20ms}}
"""


class Records(logging.Handler):
    """The records of Rheostat in the host's log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, event: str, level: int = logging.INFO) -> list[str]:
        found = [each for each in self.records if event == each.rheostat_event]  # from extra
        return [each.getMessage() for each in found if each.levelno >= level]


@pytest.fixture
def said() -> Iterator[Records]:
    logger, records = logging.getLogger("rheostat"), Records()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(records)
    yield records
    logger.removeHandler(records)
    logger.setLevel(before)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(autouse=True)
def _stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    STAGE.reset()
    # The first look comes a second after the start, which is too long to wait for so often.
    monkeypatch.setattr("rheostat._control.loop._FIRST_PROBE", 0.01)
    yield
    STAGE.lift_all()
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("rheostat")])


def until(holds: Callable[[], object]) -> None:
    """Wait until it holds; fails if that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.002)


def settled(reconciler: Reconciler, state: State, rate: int | None = None) -> Status:
    """Wait until what is said and what runs are both this, with no call in flight."""

    def holds() -> bool:
        status = reconciler.status()
        is_so = status.operation is None and state is status.state and rate == status.settings.get("rate")
        return is_so and (STAGE.session is None) == (state is State.STOPPED)

    until(holds)
    return reconciler.status()


def stuck(reconciler: Reconciler, name: str) -> Status:
    def holds() -> bool:
        operation = reconciler.status().operation
        return operation is not None and operation.name == name and operation.stuck

    until(holds)
    return reconciler.status()


def in_flight(reconciler: Reconciler, name: str) -> None:
    """Wait until the call has been made, and the status says so."""
    STAGE.wait_for(name)
    until(lambda: (operation := reconciler.status().operation) is not None and operation.name == name)


def reconfigure(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def is_alive(name: str = "rheostat") -> bool:
    return name in [each.name for each in threading.enumerate()]


def cycle(reconciler: Reconciler, where: str) -> None:
    """Do what makes a session's method be called: start, then for some stop."""
    STAGE.say(on=True, rate=20)
    if where == "probe":
        STAGE.wait_for("probe")
    if where == "stop":
        settled(reconciler, State.RUNNING, 20)
        STAGE.say(on=False)


TRIED_AGAIN = ("backend", "start", "stop", "source", "open", "read", "poll_interval")


@pytest.mark.parametrize("where", [each for each in EVERYWHERE if each != "close"])
@pytest.mark.parametrize("fault", RAISED)
def test_what_a_plug_in_raises_is_said_once_and_overcome(config: Path, said: Records, where: str, fault: str) -> None:
    """Whatever is raised wherever: the control thread lives, the status tells, one line is logged, and it heals."""
    STAGE.set(where, fault)
    with rheostat.start(config) as reconciler:
        cycle(reconciler, where)
        STAGE.wait_for(where, 3 if where in TRIED_AGAIN and where not in ("read", "poll_interval") else 1)
        if where in ("read", "poll_interval"):
            reconciler.nudge()
            STAGE.wait_for(where, 2)
        assert is_alive()
        assert_told(reconciler, said, where, fault)
        STAGE.lift(where)
        STAGE.say(on=True, rate=30)
        reconciler.nudge()
        settled(reconciler, State.RUNNING, 30)
        until(lambda: reconciler.status().health.status == "healthy")
        healed = reconciler.status()
        assert ("", "") == (healed.error, healed.source.reason)
        # The end of the block waits for no more than the stop deadline, which is short here.
        assert reconciler.stop(PATIENCE)
    assert (State.STOPPED, True) == (reconciler.status().state, reconciler.status().closed)
    # What a probe raises is in the status only.
    lines = [each for each in said.records if name_in_log(fault) in each.getMessage()]
    assert (0 if where == "probe" else 1) == len(lines)


def name_in_log(fault: str) -> str:
    return "gone fishing" if fault == "SourceUnavailable" else fault


def assert_told(reconciler: Reconciler, said: Records, where: str, fault: str) -> None:
    name = name_in_log(fault)
    if where == "poll_interval":
        until(lambda: [each for each in said.of("source_unavailable") if name in each])
    elif where == "read":
        until(lambda: name in reconciler.status().source.reason)
        assert not reconciler.status().source.available
    elif where == "probe":
        until(lambda: name in reconciler.status().health.detail)
        assert "unknown" == reconciler.status().health.status
    else:
        until(lambda: name in reconciler.status().error)
        expected = State.RUNNING if where == "stop" else State.STOPPED
        assert expected is reconciler.status().state


@pytest.mark.parametrize("fault", RAISED)
def test_a_close_that_raises_is_said_once(config: Path, said: Records, fault: str) -> None:
    """An exception of a source at the end is one line, and Rheostat has ended all the same."""
    STAGE.set("close", fault)
    with rheostat.start(config) as reconciler:
        STAGE.wait_for("poll_interval")
        assert reconciler.stop(PATIENCE)
    assert reconciler.status().closed
    assert 1 == len([each for each in said.of("source_unavailable") if name_in_log(fault) in each])


@pytest.mark.parametrize("where", ["start", "stop", "probe"])
@pytest.mark.parametrize("fault", ["hang", "late"])
def test_a_call_past_its_deadline_is_stuck(config: Path, said: Records, where: str, fault: str) -> None:
    """It is one ERROR with for how long and what to do; the flags are followed as soon as it returns."""
    STAGE.set(where, fault)
    with rheostat.start(config) as reconciler:
        cycle(reconciler, where)
        status = stuck(reconciler, where)
        assert status.operation is not None
        assert status.operation.age >= DEADLINE
        assert (State.STOPPED if where == "start" else State.RUNNING) is status.state
        until(lambda: said.of("stuck"))
        STAGE.say(on=True, rate=30)
        until(lambda: reconciler.status().desired.settings == {"rate": 30})
        STAGE.lift(where)
        settled(reconciler, State.RUNNING, 30)
    [complaint] = said.of("stuck", logging.ERROR)
    assert re.match(rf"the backend's {where} has not returned for {DEADLINE} s: the service is not affected", complaint)
    assert "look at the profiler's server and network" in complaint
    [recovered] = said.of("recovered")
    assert f"the backend's {where} returned after" in recovered


@pytest.mark.parametrize("where", ["backend", "source", "open", "read", "poll_interval"])
def test_a_source_that_hangs_holds_up_nobody(config: Path, where: str) -> None:
    """A call that hangs in the control thread leaves the host alone: status, nudge, fork and stop return at once."""
    STAGE.set(where, "hang")
    reconciler = rheostat.start(config)
    STAGE.wait_for(where)
    began = time.monotonic()
    assert State.STOPPED is reconciler.status().state
    assert not reconciler.status().source.available or where == "poll_interval"
    reconciler.nudge()
    assert rheostat.start(config) is reconciler
    assert not reconciler.stop(0)
    assert time.monotonic() - began < SLACK
    STAGE.lift(where)
    assert reconciler.stop(PATIENCE)


def test_a_close_that_hangs_does_not_hold_up_stop(config: Path) -> None:
    """Stop says False when its time is up, and Rheostat has ended once the source lets go."""
    STAGE.set("close", "hang")
    reconciler = rheostat.start(config)
    STAGE.wait_for("poll_interval")
    assert not reconciler.stop(0.05)
    assert not reconciler.status().closed
    STAGE.lift("close")
    assert reconciler.stop(PATIENCE)
    assert reconciler.status().closed


@pytest.mark.parametrize("garbage", [None, True, "healthy", 7, ("healthy",)])
def test_a_probe_that_gives_something_else_is_unknown(config: Path, garbage: object) -> None:
    """The session goes on, and the health says what was wrong with the answer."""
    STAGE.health = garbage
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True)
        until(lambda: "instead of a Health" in reconciler.status().health.detail)
        assert (State.RUNNING, "unknown") == (reconciler.status().state, reconciler.status().health.status)


def test_a_session_that_is_a_lie_is_started_anew_with_backoff(config: Path, said: Records) -> None:
    """A start that returned without a session is found out by the probe: stopped, said, tried again, healed."""
    STAGE.health = Health("failed", "no thread is left")
    moves: list[Transition] = []
    with rheostat.start(config, observers=[moves.append]) as reconciler:
        STAGE.say(on=True)
        STAGE.wait_for("start", 4)
        until(lambda: "no thread is left" in reconciler.status().error)
        STAGE.health = Health("healthy")
        until(lambda: reconciler.status().health.status == "healthy")
        assert ("", State.RUNNING) == (reconciler.status().error, reconciler.status().state)
    assert {("died", "the session does not sample: no thread is left")} == {
        (each.trigger, each.cause.detail) for each in moves if each.trigger == "died"
    }
    assert list(range(1, len(moves) + 1)) == [each.seq for each in moves]


@pytest.mark.parametrize("module", ["gevent.monkey", "eventlet.patcher", "multiprocessing.process"])
def test_a_module_that_is_only_half_imported_does_no_harm(
    config: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the host imports what Rheostat asks about its surroundings, the flags are followed all the same."""
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    with rheostat.start(config) as reconciler:
        for rate in (20, 30):
            STAGE.say(on=True, rate=rate)
            settled(reconciler, State.RUNNING, rate)
        assert is_alive()
        monkeypatch.undo()


# Changes of mind while a call is in flight


def test_stop_during_a_hung_start(config: Path) -> None:
    """Stop waits no longer than asked; once the start returns, its session is stopped at once and for good."""
    STAGE.set("start", "hang")
    reconciler = rheostat.start(config)
    STAGE.say(on=True)
    in_flight(reconciler, "start")
    began = time.monotonic()
    assert not reconciler.stop(0.05)
    assert time.monotonic() - began < SLACK
    assert not reconciler.status().closed
    STAGE.lift("start")
    assert reconciler.stop(PATIENCE)
    assert (None, 1, 1) == (STAGE.session, STAGE.calls["start"], STAGE.calls["stop"])


def test_on_during_a_hung_stop(config: Path) -> None:
    """A session that is wanted again while the stop hangs is started once it has returned, never before."""
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True, rate=20)
        settled(reconciler, State.RUNNING, 20)
        STAGE.set("stop", "hang")
        STAGE.say(on=False)
        stuck(reconciler, "stop")
        STAGE.say(on=True, rate=30)
        until(lambda: reconciler.status().desired.on)
        assert 1 == STAGE.calls["start"]
        STAGE.lift("stop")
        settled(reconciler, State.RUNNING, 30)
        assert (2, 1) == (STAGE.calls["start"], STAGE.calls["stop"])


def test_retunes_during_a_hung_start_end_in_the_last(config: Path) -> None:
    """However often the rate changes meanwhile, there is one retune, to the last."""
    STAGE.set("start", "hang")
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True, rate=20)
        in_flight(reconciler, "start")
        for rate in range(21, 41):
            STAGE.say(rate=rate)
            until(lambda rate=rate: reconciler.status().desired.settings == {"rate": rate})
        STAGE.lift("start")
        settled(reconciler, State.RUNNING, 40)
        assert (2, 1) == (STAGE.calls["start"], STAGE.calls["stop"])


def test_retunes_during_a_hung_restart_end_in_the_last(config: Path) -> None:
    """The state is restarting as long as the stop hangs, and the settings that run are those that did."""
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True, rate=20)
        settled(reconciler, State.RUNNING, 20)
        STAGE.set("stop", "hang")
        STAGE.say(rate=30)
        assert State.RESTARTING is stuck(reconciler, "stop").state
        STAGE.say(rate=40)
        until(lambda: reconciler.status().desired.settings == {"rate": 40})
        STAGE.lift("stop")
        settled(reconciler, State.RUNNING, 40)
        assert (2, 1) == (STAGE.calls["start"], STAGE.calls["stop"])


@pytest.mark.parametrize("last", [False, True])
def test_a_change_of_mind_faster_than_the_backend(config: Path, last: bool) -> None:
    """Off, on, off … while a start is in flight end in the last of them, with no start in between."""
    STAGE.set("start", "hang")
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True, rate=20)
        in_flight(reconciler, "start")
        for turn in range(10):
            on = (turn % 2 == 1) == last
            STAGE.say(on=on)
            until(lambda on=on: reconciler.status().desired.on is on)
        STAGE.lift("start")
        settled(reconciler, State.RUNNING if last else State.STOPPED, 20 if last else None)
        assert (1, 0 if last else 1) == (STAGE.calls["start"], STAGE.calls["stop"])


# The kill switch


@pytest.fixture
def kill_switch(config: Path) -> Path:
    reconfigure(config, "policy:\n", "policy:\n  kill_switch: off.now\n")
    return config.parent / "off.now"


def test_the_kill_switch_is_seen_in_time(config: Path, kill_switch: Path) -> None:
    """Though nobody calls and the source is never polled, off follows within 1.5 s."""
    reconfigure(config, "resync: 1s", "resync: 1h")
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True)

        def is_in_time() -> bool:
            settled(reconciler, State.RUNNING, 20)
            # The first look at the session's health would wake it.
            until(lambda: reconciler.status().health.status == "healthy")
            kill_switch.touch()
            began = time.monotonic()
            until(lambda: not reconciler.status().desired.on)
            took = time.monotonic() - began
            settled(reconciler, State.STOPPED)
            kill_switch.unlink()
            reconciler.nudge()
            return took < 1.5

        # A busy machine may be late for once, not thrice.
        assert any(is_in_time() for _ in range(3))


def test_the_kill_switch_while_a_start_is_in_flight(config: Path, kill_switch: Path) -> None:
    """Off is known at once, and done as soon as the start returns."""
    STAGE.set("start", "hang")
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True)
        in_flight(reconciler, "start")
        kill_switch.touch()
        reconciler.nudge()
        until(lambda: not reconciler.status().desired.on)
        STAGE.lift("start")
        settled(reconciler, State.STOPPED)
        assert (1, 1) == (STAGE.calls["start"], STAGE.calls["stop"])
        last = reconciler.status().last_transition
        assert last is not None
        assert "kill_switch" == last.cause.kind


@pytest.mark.parametrize("killed", [False, True])
def test_a_kill_switch_that_cannot_be_looked_at_keeps_what_was_known(
    config: Path, kill_switch: Path, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stat that fails otherwise than by "not there" neither turns profiling off nor on."""
    real, looks = os.stat, threading.Event()

    def refused(path: Any, *rest: Any, **options: Any) -> os.stat_result:
        if os.fspath(path) == os.fspath(kill_switch):
            looks.set()
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **options)

    expected = State.STOPPED if killed else State.RUNNING
    if killed:
        kill_switch.touch()
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True)
        until(lambda: reconciler.status().source.available)
        settled(reconciler, expected, None if killed else 20)
        monkeypatch.setattr(os, "stat", refused)
        reconciler.nudge()
        assert looks.wait(PATIENCE)
        # What was made of that look is known when others have followed.
        for _ in range(2):
            reads = STAGE.calls["read"]
            reconciler.nudge()
            STAGE.wait_for("read", reads + 1)
        assert killed is not reconciler.status().desired.on
        assert expected is reconciler.status().state
        monkeypatch.undo()
        if killed:
            kill_switch.unlink()
        reconciler.nudge()
        settled(reconciler, State.RUNNING, 20)


# Flapping, splay, refusals


@pytest.mark.parametrize("last", [False, True])
def test_a_flag_that_flaps_costs_one_start_per_cooldown(config: Path, last: bool) -> None:
    """A hundred flips a second: as many starts as cooldowns fit in, and the last word counts."""
    reconfigure(config, "cooldown: 0s", "cooldown: 150ms")
    with rheostat.start(config) as reconciler:
        began = time.monotonic()
        for turn in range(60):
            STAGE.say(on=(turn % 2 == 1) == last)
            time.sleep(0.01)
        took = time.monotonic() - began
        settled(reconciler, State.RUNNING if last else State.STOPPED, 20 if last else None)
        assert 1 <= STAGE.calls["start"] <= took / 0.15 + 2


def test_the_splay_is_the_same_each_time(config: Path) -> None:
    """Each start of one instance waits for the same share of the splay."""
    reconfigure(config, "cooldown: 0s", "cooldown: 0s\n  splay: 2s")
    reconfigure(config, "application: shop", "application: shop\ninstance: host-1")
    waits = []
    with rheostat.start(config) as reconciler:
        settled(reconciler, State.STOPPED)
        for _ in range(2):
            began = time.monotonic()
            STAGE.say(on=True)
            until(lambda: "splay" in reconciler.status().waiting)
            settled(reconciler, State.RUNNING, 20)
            waits.append(time.monotonic() - began)
            STAGE.say(on=False)
            settled(reconciler, State.STOPPED)
    share = 2.0 * zlib.crc32(b"host-1") / 2**32
    assert all(share <= each < share + SLACK for each in waits), waits


def test_a_permanent_error_waits_for_a_change(config: Path, said: Records) -> None:
    """The same settings are not tried again, others are; and the flag's off and on counts as a change."""
    STAGE.set("start", "permanent")
    with rheostat.start(config) as reconciler:
        STAGE.say(on=True, rate=20)
        until(lambda: "never" in reconciler.status().error)
        for _ in range(5):
            reads = STAGE.calls["read"]
            reconciler.nudge()
            STAGE.wait_for("read", reads + 1)
        assert 1 == STAGE.calls["start"]
        STAGE.say(rate=30)
        until(lambda: len(said.of("start_failed")) == 2)
        STAGE.say(on=False)
        until(lambda: not reconciler.status().desired.on)
        STAGE.lift("start")
        STAGE.say(on=True)
        settled(reconciler, State.RUNNING, 30)
        assert 3 == STAGE.calls["start"]
    first, _ = said.of("start_failed")
    assert "never" in first


# The host


COMMON = ("start", "stop", "read", "close")
"""Where each run looks at what hangs; the rest are for `make soak`."""

HOST = f"""\
import os, sys, threading, time, warnings
warnings.simplefilter("error")
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
import rheostat, rheostat._control.loop
rheostat._control.loop._FIRST_PROBE = 0.01
from support.faults import STAGE
config, where, fault = sys.argv[1:]
reconciler = None

def meet():
    # Have the faulty method called.
    global reconciler
    STAGE.reset()
    STAGE.set(where, fault)
    STAGE.flags = {{"on": where != "close"}}
    reconciler = reconciler or rheostat.start(config)
    if where == "stop":
        STAGE.wait_for("probe")
        STAGE.say(on=False)
    elif where == "close":
        STAGE.wait_for("poll_interval")
        reconciler.stop(0)
    STAGE.wait_for(where)

meet()
began = time.monotonic()
assert sum(range(1000)) == 499500
child = os.fork()
print("forked", time.monotonic() - began, flush=True)
if child == 0:
    # One that was closed does not begin anew.
    if where != "close":
        meet()
    print("exit", time.monotonic(), flush=True)
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
print("exited", time.monotonic(), flush=True)
print("exit", time.monotonic(), flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        *(pytest.param(each, "hang", marks=() if each in COMMON else pytest.mark.soak) for each in EVERYWHERE),
        ("start", "SystemExit"),
        ("read", "Rude"),
    ],
)
def test_the_host_forks_and_exits_as_without(config: Path, tmp_path: Path, where: str, fault: str) -> None:
    """With every method hanging in turn a host forks and exits as ever: in time, with its code, in silence."""
    script = tmp_path / "host.py"
    script.write_text(HOST)
    ran = ended([sys.executable, str(script), str(config), where, fault], tmp_path)
    exited = time.monotonic()
    assert (7, []) == (ran.returncode, [each for each in ran.stderr.splitlines() if not is_ours(each)])
    moments = [line.split() for line in ran.stdout.splitlines()]
    forks = [float(took) for what, took in moments if what == "forked"]
    exits = [float(at) for what, at in moments if what == "exit"]
    ends = [*(float(at) for what, at in moments if what == "exited"), exited]
    assert (2, 2) == (len(forks), len(exits))
    assert max(forks) < SLACK
    assert max(end - exit for exit, end in zip(exits, ends, strict=True)) < EXIT_DEADLINE + SLACK


def is_ours(line: str) -> bool:
    """The lines that logging prints of warnings and errors where the host has configured nothing."""
    return "has not returned" in line or "flag source" in line or "could not be started" in line


STARTS_TWICE = f"""\
import sys, threading, time, traceback
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
import rheostat

def waits_for_an_import(frame):
    codes = [each.f_code for each, _ in traceback.walk_stack(frame)]
    return any("importlib" in each.co_filename and each.co_name == "acquire" for each in codes)

first = rheostat.start(sys.argv[1])
deadline = time.monotonic() + 10
(control,) = (each.ident for each in threading.enumerate() if each.name == "rheostat")
while not waits_for_an_import(sys._current_frames()[control]):
    assert time.monotonic() < deadline
    time.sleep(0.01)
assert rheostat.start(sys.argv[1]) is first
print("imported", flush=True)
"""


def test_a_start_while_a_plug_in_waits_for_the_host_s_import(config: Path, tmp_path: Path) -> None:
    """A package that starts Rheostat (again) as it is imported, and holds the backend, is imported all the same."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text(STARTS_TWICE)
    (package / "profiling.py").write_text("import shop\nfrom support.faults import FaultyBackend as Backend\n")
    reconfigure(config, "support.faults:FaultyBackend", "shop.profiling:Backend")
    with Child([sys.executable, "-c", "import shop", str(config)], tmp_path) as child:
        assert 0 == child.process.wait(PATIENCE)
        assert ["imported"] == child.out.rest()
