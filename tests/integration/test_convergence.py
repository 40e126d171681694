"""The main job: a file of flags turns the real agent on, retunes it and turns it off in a running process."""

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rheostat.receive.receiver import Profile, Receiver
from support.children import PATIENCE, RHEOSTAT, Child, ended

CONFIG = """\
version: 1
application: checkout
tags: {{role: api}}
source: {{kind: yaml, path: flags.yaml, poll_interval: 100ms}}
backend: {{kind: pyroscope, server_address: "{address}"}}
enabled: {{flag: profiling_enabled, default: false}}
settings:
  sample_rate: {{flag: profiling_sample_rate, default: 20, clamp: {{min: 1, max: 250}}}}
  mode: {{flag: profiling_mode, default: gil, clamp: {{choices: [gil, cpu, wall], otherwise: default}}}}
  upload_interval: 1
policy: {{start_after: 100ms, cooldown: 100ms, exit_deadline: {exit_deadline}}}
"""

APP = """\
import sys, threading, time

def burn():
    while True:
        sum(range(2000))
        time.sleep(0)

threading.Thread(target=burn, daemon=True).start()
sys.stdin.read()
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


@pytest.fixture
def hung_server() -> Iterator[socket.socket]:
    """A server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server


def prepare(folder: Path, address: str, flags: str = "", exit_deadline: str = "10s") -> None:
    (folder / "config.yaml").write_text(CONFIG.format(address=address, exit_deadline=exit_deadline))
    (folder / "app.py").write_text(APP)
    flip(folder, flags or "profiling_enabled: false\n")


def flip(folder: Path, flags: str) -> None:
    new = folder / "flags.new"
    new.write_text(flags)
    new.replace(folder / "flags.yaml")


def run(folder: Path) -> Child:
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    return Child(command, folder)


def at(rate: int, mode: str) -> Callable[[Profile], bool]:
    return lambda profile: (rate, mode) == (round(profile.sample_rate or 0), profile.labels.get("profiling_mode"))


def test_flags_turn_the_agent_on_retune_it_and_turn_it_off(tmp_path: Path, receiver: Receiver) -> None:
    """The transitions follow the edits of the file, and profiles arrive at the asked rate and mode."""
    prepare(tmp_path, receiver.address)
    with run(tmp_path) as child:
        flip(tmp_path, "profiling_enabled: true\nprofiling_sample_rate: 100\n")
        assert {"sample_rate": 100, "mode": "gil", "upload_interval": 1} == child.event("transition", to="running")[
            "settings"
        ]
        receiver.wait_for(at(100, "gil"), PATIENCE)

        flip(tmp_path, "profiling_enabled: true\nprofiling_sample_rate: 9999\nprofiling_mode: wall\n")
        adjusted = child.event("adjusted")
        assert ("sample_rate", 9999, 250) == tuple(adjusted[key] for key in ("setting", "asked", "given"))
        assert "running" == child.event("transition", to="restarting")["from"]
        assert 250 == child.event("transition", to="running")["settings"]["sample_rate"]
        receiver.wait_for(at(250, "wall"), PATIENCE)

        flip(tmp_path, "profiling_enabled: true\nprofiling_sample_rate: 9999\nprofiling_mode: banana\n")
        assert "gil" == child.event("adjusted", setting="mode")["given"]
        child.event("transition", to="running")
        receiver.wait_for(at(250, "gil"), PATIENCE)

        flip(tmp_path, "profiling_enabled: false\n")
        off = child.event("transition", to="stopped")
        assert {} == off["settings"]
        assert ("flag", "profiling_enabled", True, False) == tuple(
            off["cause"][k] for k in ("kind", "flag", "old", "new")
        )
        assert 0 == child.finish()
        events = child.events()
    transitions = [each for each in events if each["event"] == "transition"]
    assert ["started", "retune", "started", "retune", "started", "stopped"] == [each["trigger"] for each in transitions]
    assert list(range(1, 7)) == [each["seq"] for each in transitions]
    assert 2 == sum(each["event"] == "adjusted" for each in events), "each distinct adjustment is said once"


WORKER = """\
import sys, time

sys.stdin.readline()
while time.thread_time() < 0.5:
    sum(range(2000))
print("worked", flush=True)
sys.stdin.read()
"""


def test_the_last_window_is_flushed_at_exit(tmp_path: Path, receiver: Receiver) -> None:
    """A process that ends while it profiles stops the session first, and what was not uploaded yet arrives."""
    prepare(tmp_path, receiver.address, "profiling_enabled: true\nprofiling_sample_rate: 100\n")
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("upload_interval: 1", "upload_interval: 60"))
    (tmp_path / "app.py").write_text(WORKER)
    with run(tmp_path) as child:
        child.event("transition", to="running")
        child.tell("work")
        assert "worked" == child.out.next()
        assert () == receiver.profiles()
        assert 0 == child.finish()
        closing = child.event("transition", to="stopped")
    assert "close" == closing["cause"]["kind"]
    assert 1 == len(receiver.profiles())


def test_a_hung_server_does_not_hold_up_exit(tmp_path: Path, hung_server: socket.socket) -> None:
    """With a push that hangs, the process still ends by itself, long before the agent's own 10 s are over."""
    address = f"http://127.0.0.1:{hung_server.getsockname()[1]}"
    prepare(tmp_path, address, "profiling_enabled: true\nprofiling_sample_rate: 100\n", exit_deadline="1s")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        pushing, _ = hung_server.accept()
        with pushing:
            pushing.settimeout(PATIENCE)
            assert b"POST" == pushing.recv(4)
            child.input.close()
            assert 0 == child.process.wait(8.0)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://no-such-host.invalid:4040"])
def test_a_server_that_is_not_there_harms_nothing(tmp_path: Path, address: str) -> None:
    """With nothing to push to, the session starts, stops and the process ends as ever."""
    prepare(tmp_path, address, "profiling_enabled: true\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        flip(tmp_path, "profiling_enabled: false\n")
        child.event("transition", to="stopped")
        assert 0 == child.finish()


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_refuses_harms_nothing(tmp_path: Path, receiver: Receiver, status: int) -> None:
    """Refused pushes neither end the session nor hold up its stop."""
    receiver.status = status
    prepare(tmp_path, receiver.address, "profiling_enabled: true\nprofiling_sample_rate: 100\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        receiver.wait_for_refusal(PATIENCE)
        flip(tmp_path, "profiling_enabled: false\n")
        child.event("transition", to="stopped")
        assert 0 == child.finish()


RATES = (
    "0", "-1", ".nan", ".inf", "-.inf", "1" + "0" * 30, "'97'", "ninety", "true", "~", "[1]", "{a: 1}", "010",
)  # fmt: skip


def test_no_value_of_a_flag_wedges_the_process(tmp_path: Path) -> None:
    """Whatever the rate flag says, the agent starts within the limits, stops, and the process ends."""
    prepare(tmp_path, "http://127.0.0.1:1")
    with run(tmp_path) as child:
        for rate in RATES:
            flip(tmp_path, f"profiling_enabled: true\nprofiling_sample_rate: {rate}\n")
            assert 1 <= child.event("transition", to="running")["settings"]["sample_rate"] <= 250
            flip(tmp_path, "profiling_enabled: false\n")
            child.event("transition", to="stopped")
        flip(tmp_path, f"profiling_enabled: true\nprofiling_sample_rate: {RATES[0]}\n")
        child.event("transition", to="running")
        assert 0 == child.finish()
        assert "close" == child.event("transition", to="stopped")["cause"]["kind"]


def test_swapping_in_noop_is_one_word(tmp_path: Path, receiver: Receiver) -> None:
    """The same configuration with kind noop governs, pushes nothing, and never prints an option."""
    prepare(tmp_path, receiver.address.replace("http://", "http://ann:s3cret@"), "profiling_enabled: true\n")
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("kind: pyroscope", "kind: noop"))
    with run(tmp_path) as child:
        child.event("transition", to="running")
        assert 0 == child.finish()
        said = "\n".join(child.err.rest())
    assert "s3cret" not in said
    assert () == receiver.profiles()


def test_nothing_of_the_vendor_is_imported_while_off(tmp_path: Path) -> None:
    """A process whose flags have never been on does not hold the agent."""
    prepare(tmp_path, "http://127.0.0.1:1")
    code = (
        "import sys, rheostat\n"
        "reconciler = rheostat.start('config.yaml')\n"
        "while not reconciler.status().source.available: pass\n"
        "print(reconciler.status().state, 'pyroscope' in sys.modules)\n"
    )
    assert "stopped False\n" == ended([sys.executable, "-c", code], tmp_path).stdout


def test_threads_are_named_and_none_is_left_after_stop(tmp_path: Path, receiver: Receiver) -> None:
    """One thread named rheostat while it governs; none of ours once it has stopped."""
    prepare(tmp_path, receiver.address, "profiling_enabled: true\n")
    code = (
        "import threading, rheostat\n"
        "running = threading.Event()\n"
        "reconciler = rheostat.start('config.yaml', observers=[lambda made: running.set()])\n"
        "running.wait(10)\n"
        "names = sorted(thread.name for thread in threading.enumerate())\n"
        "print(names, reconciler.stop(), threading.active_count())\n"
    )
    out = ended([sys.executable, "-c", code], tmp_path).stdout
    assert out.startswith("['MainThread', 'rheostat'")
    assert out.endswith("True 1\n")
