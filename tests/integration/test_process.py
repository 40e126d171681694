"""`rheostat.start` in a process: one reconciler, no harm, forks."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import rheostat
from rheostat import AlreadyRunning, ConfigError, State, Transition
from support.application import until
from support.children import PATIENCE, ended

CONFIG = """\
version: 1
application: shop
source: {kind: yaml, path: flags.yaml, poll_interval: 10s}
backend: {kind: noop}
enabled: {flag: profiling_enabled, default: false}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "flags.yaml").write_text("profiling_enabled: true\n")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


class Watcher:
    """An observer that lets the test wait for a state."""

    def __init__(self) -> None:
        self.seen: list[Transition] = []
        self._changed = threading.Condition()

    def __call__(self, transition: Transition) -> None:
        with self._changed:
            self.seen.append(transition)
            self._changed.notify_all()

    def wait_for(self, state: State) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(each.to_state is state for each in self.seen), PATIENCE)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    yield Watcher()
    # One that was stopped by itself, in an observer, ends a moment later.
    for thread in threading.enumerate():
        if thread.name == "rheostat":
            thread.join(PATIENCE)
    assert "rheostat" not in [thread.name for thread in threading.enumerate()], "a test left Rheostat running"


def test_start_governs_until_the_block_ends(config: Path, watcher: Watcher) -> None:
    """As a context manager it stops the session, lets go of everything, and leaves no thread."""
    with rheostat.start(config, observers=[watcher]) as reconciler:
        watcher.wait_for(State.RUNNING)
        assert (State.RUNNING, False) == (reconciler.status().state, reconciler.status().closed)
    assert (State.STOPPED, True) == (reconciler.status().state, reconciler.status().closed)
    assert ["started", "stopped"] == [each.trigger for each in watcher.seen]


def test_the_same_configuration_gives_the_same_reconciler(config: Path, watcher: Watcher) -> None:
    """A second start with the same file, tags and instance is the first one; with others it is refused."""
    with rheostat.start(config, tags={"a": "b"}, instance="pod-7") as reconciler:
        assert reconciler is rheostat.start(str(config), tags={"a": "b"}, instance="pod-7")
        with pytest.raises(AlreadyRunning, match="stop it first"):
            rheostat.start(config, tags={"a": "c"}, instance="pod-7")
        with pytest.raises(AlreadyRunning, match="instance 'pod-7'; asked for"):
            rheostat.start(config, tags={"a": "b"})
        with pytest.raises(AlreadyRunning):
            rheostat.start(config.parent / "other.yaml", tags={"a": "b"}, instance="pod-7")
    with rheostat.start(config) as another:
        assert reconciler is not another


def test_on_event_hears_of_everything_from_the_first_transition_to_the_end(config: Path, watcher: Watcher) -> None:
    """The application counts what happens, by the names that the log has."""
    heard: list[rheostat.Event] = []
    with rheostat.start(config, observers=[watcher], on_event=heard.append):
        watcher.wait_for(State.RUNNING)
    assert ["transition", "transition", "closed"] == [each.name for each in heard]
    assert ["running", "stopped"] == [each.fields["to"] for each in heard[:2]]


def test_nudge_makes_it_look_now(config: Path, watcher: Watcher) -> None:
    """A flip is seen at once, though the source is polled rarely."""
    with rheostat.start(config, observers=[watcher]) as reconciler:
        watcher.wait_for(State.RUNNING)
        (config.parent / "flags.yaml").write_text("profiling_enabled: false\n")
        reconciler.nudge()
        watcher.wait_for(State.STOPPED)


def test_an_observer_may_stop_it(config: Path, watcher: Watcher) -> None:
    """Stop from the control thread itself does not wait for itself."""
    answers = []
    reconciler = rheostat.start(config, observers=[lambda _: answers.append(rheostat.start(config).stop()), watcher])
    watcher.wait_for(State.STOPPED)
    assert reconciler.stop(PATIENCE)
    assert answers[0] is False


def test_a_broken_configuration_is_one_error_and_nothing_else(
    tmp_path: Path, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    """The service goes on: one ERROR with every problem, and a reconciler that does nothing."""
    path = tmp_path / "config.yaml"
    path.write_text("version: 3\n")
    reconciler = rheostat.start(path)
    [record] = caplog.records
    assert ("rheostat", logging.ERROR) == (record.name, record.levelno)
    assert "config.yaml:1:10: version: found '3'" in record.getMessage()
    assert (State.STOPPED, True) == (reconciler.status().state, reconciler.status().closed)
    assert "version" in reconciler.status().error
    reconciler.nudge()
    assert reconciler.stop()


def test_strict_raises(tmp_path: Path) -> None:
    """Whoever wants to know at once asks for it."""
    with pytest.raises(ConfigError, match="No such file"):
        rheostat.start(tmp_path / "missing.yaml", strict=True)


def test_disabled_means_no_thread(config: Path, watcher: Watcher) -> None:
    """With disabled: true nothing runs at all."""
    config.write_text(CONFIG + "disabled: true\n")
    before = threading.active_count()
    reconciler = rheostat.start(config)
    assert before == threading.active_count()
    assert reconciler.status().closed
    assert reconciler.stop()


def test_tags_and_an_instance_that_are_not_text_are_refused(config: Path) -> None:
    """A mistake in the call is told to the caller."""
    with pytest.raises(TypeError, match="expected texts"):
        rheostat.start(config, tags={"version": 3})  # type: ignore[dict-item]  # the mistake
    with pytest.raises(TypeError, match="expected a text"):
        rheostat.start(config, instance=7)  # type: ignore[arg-type]  # the mistake


def test_records_carry_their_fields(config: Path, watcher: Watcher, caplog: pytest.LogCaptureFixture) -> None:
    """In the host's logging a transition is one INFO record of logger rheostat, with its fields in extra."""
    caplog.set_level(logging.INFO, "rheostat")
    with rheostat.start(config, observers=[watcher]):
        watcher.wait_for(State.RUNNING)
    first = next(each for each in caplog.records if each.name == "rheostat")
    assert ("transition", 1, "stopped", "running") == (
        first.rheostat_event, first.rheostat_seq, first.rheostat_from, first.rheostat_to
    )  # they come from extra  # fmt: skip
    who = {name: getattr(first, f"rheostat_{name}") for name in ("application", "instance", "tags")}
    assert {"application": "shop", "instance": os.uname().nodename, "tags": {}} == who
    assert "transitions" not in {each.name.partition(".")[0] for each in caplog.records}


AT_ONCE = """\
import importlib
import sys
import threading

begun, met = threading.Event(), threading.Event()
failed = []


def hold_up_start(frame, event, arg):
    if frame.f_code.co_filename.endswith("rheostat/_lifecycle/start.py"):
        begun.set()
        met.wait(10)


def meet_in_config(frame, event, arg):
    if frame.f_code.co_filename.endswith("rheostat/_config/config.py"):
        met.set()


def importing(name, trace):
    sys.settrace(trace)
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed.append(f"{name}: {error!r}")


first = threading.Thread(target=importing, args=["rheostat._lifecycle.start", hold_up_start])
second = threading.Thread(target=importing, args=[sys.argv[1], meet_in_config])
first.start()
begun.wait(10)
second.start()
for each in (first, second):
    each.join(10)
print(met.is_set(), failed)
"""


@pytest.mark.parametrize("module", ["rheostat._cli.launch", "rheostat._config.config"])
def test_two_threads_may_import_it_at_once(tmp_path: Path, module: str) -> None:
    """An application that imports Rheostat just when the launcher's thread does gets it, and so does that."""
    ran = ended([sys.executable, "-c", AT_ONCE, module], tmp_path)
    assert ("True []\n", "") == (ran.stdout, ran.stderr)


def test_plug_ins_that_cannot_be_used_are_one_error(
    config: Path, tmp_path: Path, watcher: Watcher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that does not exist is found out in the control thread, told once, and that is all."""
    config.write_text(CONFIG.replace("kind: noop", "kind: 'no.such.module:Backend'"))
    reconciler = rheostat.start(config)
    until(lambda: reconciler.status().closed)
    assert ["no.such.module" in each.getMessage() for each in caplog.records if each.levelno == logging.ERROR] == [True]
    assert "no.such.module" in reconciler.status().error


def test_a_forked_child_governs_itself(config: Path, tmp_path: Path) -> None:
    """The child starts at stopped with its own thread and sequence, and the parent goes on."""
    script = tmp_path / "forker.py"
    script.write_text(
        "import os, sys, threading, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import rheostat\n"
        "running = threading.Event()\n"
        "seen = []\n"
        "def observe(made):\n"
        "    seen.append((made.seq, str(made.trigger), os.getpid()))\n"
        "    if made.trigger == 'started': running.set()\n"
        f"reconciler = rheostat.start({str(config)!r}, observers=[observe])\n"
        "assert running.wait(10)\n"
        "running.clear()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    assert running.wait(10)\n"
        "    mine = [(seq, trigger) for seq, trigger, pid in seen if pid == os.getpid()]\n"
        "    status = reconciler.status()\n"
        "    ok = mine == [(1, 'forked'), (2, 'started')] and status.pid == os.getpid() and reconciler.stop()\n"
        "    os._exit(0 if ok else 1)\n"
        "_, code = os.waitpid(child, 0)\n"
        "print(code, reconciler.status().state, len(seen))\n"
    )
    assert "0 running 1\n" == ended([sys.executable, str(script)], tmp_path).stdout


def test_a_stopped_reconciler_stays_stopped_in_a_child(config: Path, tmp_path: Path) -> None:
    """A fork after stop begins nothing anew."""
    code = (
        "import os, threading, rheostat\n"
        f"rheostat.start({str(config)!r}).stop()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(threading.active_count())\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert "1\n" == ended([sys.executable, "-c", code], tmp_path).stdout


EXITING = """\
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {folder!r})
import rheostat
running = threading.Event()
def observe(made):
    if made.trigger == "started": running.set()
rheostat.start({config!r}, observers=[observe])
assert running.wait(10)
if {forks}:
    running.clear()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    assert running.wait(10)
print(time.time(), flush=True)
"""

HANGING = """\
import threading

class Backend:
    Options = dict
    parameters = None

    def __init__(self, options, identity):
        pass

    def start(self, settings):
        pass

    def stop(self):
        threading.Event().wait(20)
"""


@pytest.mark.parametrize("forks", [False, True])
def test_exit_waits_for_a_hung_stop_once(config: Path, tmp_path: Path, forks: bool) -> None:
    """The exit deadline is one for all, also in a child: two of them would be 8 s here."""
    (tmp_path / "hanging.py").write_text(HANGING)
    config.write_text(CONFIG.replace("kind: noop", "kind: 'hanging:Backend'") + "policy: {exit_deadline: 4s}\n")
    script = tmp_path / "exiting.py"
    script.write_text(EXITING.format(folder=str(tmp_path), config=str(config), forks=forks))
    done = ended([sys.executable, str(script)], tmp_path)
    assert 3.9 <= time.time() - float(done.stdout) < 7.0


def test_start_after_a_stop_that_is_not_done_is_refused(
    config: Path, tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are never two sessions: whoever stops with little patience has to wait before starting anew."""
    release = threading.Event()
    (tmp_path / "slow_backend.py").write_text(HANGING.replace("threading.Event().wait(20)", "release.wait(20)"))
    monkeypatch.syspath_prepend(tmp_path)
    import slow_backend  # type: ignore[import-not-found]  # written above

    slow_backend.release = release
    config.write_text(CONFIG.replace("kind: noop", "kind: 'slow_backend:Backend'"))
    reconciler = rheostat.start(config, observers=[watcher])
    watcher.wait_for(State.RUNNING)
    assert not reconciler.stop(0)
    with pytest.raises(AlreadyRunning, match="still stopping"):
        rheostat.start(config)
    release.set()
    assert reconciler.stop()


def test_a_process_without_a_thread_to_spare_is_not_harmed(
    config: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no thread can be started, start says so and gives a reconciler that does nothing."""

    def exhausted(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", exhausted)
    reconciler = rheostat.start(config)
    assert "can't start new thread" in reconciler.status().error
    assert reconciler.status().closed
    assert reconciler.stop()
    assert ["start_failed"] == [each.rheostat_event for each in caplog.records]  # from extra


def test_a_source_that_calls_without_end_does_not_take_the_cpu(
    config: Path, tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`changed` may be called any number of times: the flags are not looked at as often."""
    (tmp_path / "eager_source.py").write_text(
        "from rheostat.plugins import Reading\n"
        "class Source:\n"
        "    Options = dict\n"
        "    poll_interval = None\n"
        "    reads = 0\n"
        "    def __init__(self, options, identity): pass\n"
        "    def open(self, changed): self.changed = changed\n"
        "    def read(self, wanted):\n"
        "        type(self).reads += 1\n"
        "        if self.reads == 150: go_on.set()\n"
        "        self.changed()\n"
        "        return Reading({'profiling_enabled': True})\n"
        "    def close(self): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import eager_source  # type: ignore[import-not-found]  # written above

    eager_source.go_on = threading.Event()
    config.write_text(
        CONFIG.replace("{kind: yaml, path: flags.yaml, poll_interval: 10s}", "{kind: 'eager_source:Source'}")
    )
    with rheostat.start(config):
        assert eager_source.go_on.wait(PATIENCE)
        began, before = time.monotonic(), eager_source.Source.reads
        while time.monotonic() - began < 0.5:
            threading.Event().wait(0.1)
        assert eager_source.Source.reads - before < 200
