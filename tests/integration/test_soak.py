"""Long runs: after thousands of cycles the process is as it was. Deselected by default."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import rheostat
from rheostat import Health, State
from rheostat._contract.options import Duration
from rheostat._core.policy import Backoff, Policy
from rheostat._core.rules import Rules, Setting
from rheostat.plugins import PermanentError, SourceUnavailable, TemporaryError
from rheostat.receive.receiver import Receiver
from support.held_calls import RecordingBackend, Stepped

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]

PATIENCE: Final = 30.0
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def rss() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.001)


class Probed(RecordingBackend):
    health = Health("healthy")

    def probe(self) -> Health:
        return self.health


ERRORS: Final = (
    None,
    None,
    None,
    RuntimeError("boom"),
    TemporaryError("busy"),
    PermanentError("never"),
    SystemExit(3),
    KeyboardInterrupt(),
    MemoryError(),
    RecursionError(),
)


class Chaos:
    """Turns a stepped loop through cycles in which anything goes wrong; the same each time."""

    def __init__(self) -> None:
        rules = Rules(
            enabled=Setting(name="enabled", kind=bool, default=False, flag="on"),
            settings=(Setting(name="rate", kind=int, default=20, flag="rate"),),
        )
        policy = Policy(
            cooldown=Duration(5.0), hold_last_good=Duration(60.0), backoff=Backoff(Duration(1.0), Duration(30.0))
        )
        self.random = random.Random(4)
        self.seqs: list[int] = []
        self.it = Stepped(rules, policy, (lambda made: self.seqs.append(made.seq),), Probed())

    def cycle(self) -> None:
        it, chance = self.it, self.random
        it.source.failure = chance.choice([None, None, None, SourceUnavailable("down"), SystemExit(1), RuntimeError()])
        it.source.values = {"on": chance.choice([True, True, False, None]), "rate": chance.choice([20, 97, "x", None])}
        it.backend.health = Health(chance.choice(["healthy", "healthy", "failed", "unknown"]))
        it.wait(chance.choice([0.1, 1.0, 5.0, 31.0, 61.0]))
        if it.calls.pending and chance.random() < 0.9:
            it.finish(chance.choice(ERRORS))

    def calm(self) -> None:
        it = self.it
        it.source.failure, it.source.values = None, {"on": True, "rate": 30}
        it.backend.health = Health("healthy")
        for _ in range(20):
            if it.calls.pending:
                it.finish()
            it.wait(31.0)
        while it.calls.pending:
            it.finish()


def test_ten_thousand_cycles_with_faults() -> None:
    """Memory is flat, no transition is lost, what is remembered is bounded, and the loop converges at the end."""
    chaos = Chaos()
    for _ in range(1_000):
        chaos.cycle()
    chaos.it.records.lines.clear()
    before = rss()
    for _ in range(10_000):
        chaos.cycle()
        chaos.it.records.lines.clear()
    grown = rss() - before
    chaos.calm()
    assert State.RUNNING is chaos.it.status.state
    assert {"rate": 30} == chaos.it.backend.running == chaos.it.status.settings
    assert list(range(1, len(chaos.seqs) + 1)) == chaos.seqs
    assert len(chaos.seqs) > 1_000
    assert grown < 2 * 2**20


CONFIG = """\
version: 1
application: shop
source: {{kind: yaml, path: flags.yaml, poll_interval: 10ms}}
backend: {{kind: pyroscope, server_address: "{address}"}}
enabled: {{flag: on, default: false}}
settings:
  sample_rate: {{flag: rate, default: 250}}
policy: {{cooldown: 0s}}
"""


def test_a_thousand_cycles_of_the_real_agent(tmp_path: Path) -> None:
    """On, retuned and off a thousand times: threads, descriptors and memory are flat."""

    def say(on: bool, rate: int) -> None:
        (tmp_path / "new").write_text(f"on: {str(on).lower()}\nrate: {rate}\n")
        (tmp_path / "new").replace(tmp_path / "flags.yaml")
        reconciler.nudge()

    def becomes(state: State, rate: int | None) -> None:
        def holds() -> bool:
            status = reconciler.status()
            return status.operation is None and (status.state, status.settings.get("sample_rate")) == (state, rate)

        until(holds)

    def cycle() -> None:
        say(True, 250)
        becomes(State.RUNNING, 250)
        say(True, 500)
        becomes(State.RUNNING, 500)
        say(False, 500)
        becomes(State.STOPPED, None)

    (tmp_path / "flags.yaml").write_text("on: false\n")
    with Receiver() as receiver:
        (tmp_path / "config.yaml").write_text(CONFIG.format(address=receiver.address))
        with rheostat.start(tmp_path / "config.yaml") as reconciler:
            for _ in range(100):
                cycle()
            receiver.clear()
            before = rss(), threads(), descriptors()
            for _ in range(1_000):
                cycle()
                receiver.clear()
            until(lambda: threads() <= before[1])
            # The receiver closes its connections when it gets to it.
            until(lambda: descriptors() <= before[2])
            assert reconciler.status().seq == 1_100 * 4
            grown = rss() - before[0]
    assert grown < 8 * 2**20
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("rheostat")])
