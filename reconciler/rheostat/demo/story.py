"""The demo's story: flips the flags of a running service, and shows what was done and what arrived."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from rheostat.receive.archive import Archive
from rheostat.receive.page import ArchivePages, page
from rheostat.receive.receiver import Profile, Receiver, hottest

_PAGE: Final = "demo.html"
_PATIENCE: Final = 20.0
_WINDOWS: Final = 5
_SHOP: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shop.py")

_CONFIG: Final = """\
version: 1
application: little-shop
source:  {{kind: yaml, path: flags.yaml, poll_interval: 500ms}}
backend: {{kind: pyroscope, server_address: "{address}", report_thread_name: true}}
enabled: {{flag: profiling_enabled, default: false}}
settings:
  sample_rate: {{flag: profiling_sample_rate, default: 20, clamp: {{min: 1, max: 250}}}}
  mode: {{flag: profiling_mode, default: gil, clamp: {{choices: [gil, cpu, wall], otherwise: default}}}}
  upload_interval: 1
policy: {{cooldown: 1s, start_after: 500ms}}
"""


class Step(NamedTuple):
    """The flags to set, and the rate and mode that the arriving profiles must then have."""

    title: str
    flags: str
    rate: int
    mode: str

    def asks_for(self, profile: Profile) -> bool:
        rate = profile.sample_rate
        return rate is not None and round(rate) == self.rate and profile.labels.get("profiling_mode") == self.mode


STEPS: Final = (
    Step(
        "Profiling is switched on, at 100 Hz.",
        "profiling_enabled: true\nprofiling_sample_rate: 100\n",
        rate=100,
        mode="gil",
    ),
    Step(
        "Somebody asks for 9999 Hz. The configuration allows 250.",
        "profiling_enabled: true\nprofiling_sample_rate: 9999\n",
        rate=250,
        mode="gil",
    ),
    Step(
        "Wall-clock mode: threads that wait are seen too.",
        "profiling_enabled: true\nprofiling_sample_rate: 100\nprofiling_mode: wall\n",
        rate=100,
        mode="wall",
    ),
    Step(
        "Somebody mistypes the mode. The configuration says: then the default.",
        "profiling_enabled: true\nprofiling_sample_rate: 20\nprofiling_mode: banana\n",
        rate=20,
        mode="gil",
    ),
)


def tell() -> int:
    """Run the demo, about 30 s; gives the exit code: 0 if everything that was asked for arrived.

    It ends with a page of what arrived, as a file and, for a person at a terminal, at an address.
    """
    archive = Archive(None, 0)
    receiving = Receiver(pages=ArchivePages(archive), arrived=archive.add)
    with tempfile.TemporaryDirectory(prefix="rheostat-demo-") as folder, receiving as receiver:
        _write(folder, "config.yaml", _CONFIG.format(address=receiver.address))
        _write(folder, "flags.yaml", "profiling_enabled: false\n")
        with _shop(folder) as transitions:
            print("A little shop runs under `rheostat run`. Its flags file is now edited for you.")
            proved = [_take(step, folder, receiver) for step in STEPS]
            proved.append(_switch_off(folder, transitions))
        _show_hottest(receiver, "gil", "What kept the interpreter busy (mode gil)")
        _show_hottest(receiver, "wall", "Where its threads were, waiting included (mode wall)")
        print(f"\n{sum(proved)} of {len(proved)} steps proved, {len(receiver.profiles())} profiles received.")
        _show_page(receiver)
        return 0 if all(proved) else 1


def _show_page(receiver: Receiver) -> None:
    try:
        with open(_PAGE, "w", encoding="utf-8") as file:
            file.write(page(receiver.profiles()))
        print(f"\nThe flame graphs: {os.path.abspath(_PAGE)}")
    except OSError as error:
        print(f"\nThe flame graphs could not be written here: {error}")
    if all(each is not None and each.isatty() for each in (sys.stdin, sys.stdout)):
        with suppress(EOFError, KeyboardInterrupt):
            input(f"They are at {receiver.address} too, until you press Enter. ")


class Transitions:
    """Reads the launcher's JSON lines, shows them, and lets others wait for one."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._arrived = threading.Condition()
        self._seen: list[dict[str, Any]] = []

    def follow(self) -> None:
        for line in self._lines:
            try:
                record = json.loads(line)
            except ValueError:
                print(f"   shop: {line.rstrip()}")
                continue
            print(f"   {record['level'].lower()}: {record['message']}")
            with self._arrived:
                self._seen.append(record)
                self._arrived.notify_all()

    def wait_for(self, matches: Callable[[dict[str, Any]], bool]) -> bool:
        with self._arrived:
            return self._arrived.wait_for(lambda: any(map(matches, self._seen)), _PATIENCE)


@contextmanager
def _shop(folder: str) -> Iterator[Transitions]:
    run = ["run", "--config", os.path.join(folder, "config.yaml"), "--log", "json", "--"]
    command = [sys.executable, "-m", "rheostat", *run, sys.executable, _SHOP]
    # The shop ends with its standard input, so nothing is left behind should the demo be killed.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        transitions = Transitions(iter(process.stderr))
        reader = threading.Thread(target=transitions.follow, name="rheostat-demo-log", daemon=True)
        reader.start()
        try:
            yield transitions
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join(_PATIENCE)


def _take(step: Step, folder: str, receiver: Receiver) -> bool:
    print(f"\n{step.title}")
    before = len(receiver.profiles())
    _write(folder, "flags.yaml", step.flags)

    def enough(_: Profile) -> bool:
        return sum(step.asks_for(each) for each in receiver.profiles()[before:]) >= _WINDOWS

    try:
        receiver.wait_for(enough, timeout=_PATIENCE, since=before)
    except TimeoutError as error:
        print(f"   NOT PROVED: {error}")
        return False
    print(f"   proved: {_WINDOWS} profiles of {step.rate} Hz in mode {step.mode} have arrived")
    return True


def _switch_off(folder: str, transitions: Transitions) -> bool:
    print("\nProfiling is switched off.")
    _write(folder, "flags.yaml", "profiling_enabled: false\n")
    stopped = transitions.wait_for(lambda record: record.get("trigger") == "stopped")
    print("   proved: the profiler has stopped" if stopped else "   NOT PROVED: the profiler did not stop")
    return stopped


def _show_hottest(receiver: Receiver, mode: str, title: str) -> None:
    profiles = [each for each in receiver.profiles() if each.labels.get("profiling_mode") == mode]
    print(f"\n{title}:")
    for name, share in hottest(profiles, 5):
        print(f"   {share:6.1%}  {name}")


def _write(folder: str, name: str, text: str) -> None:
    """Replace the file in one step, as a careful editor or a ConfigMap does."""
    path = os.path.join(folder, name)
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
