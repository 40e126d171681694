"""Beside the green threads of gevent and eventlet: the application's runs in its hub, ours never does."""

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.children import PATIENCE, Child, ended
from support.products import GrowthBook, LaunchDarkly, Product, YamlFile

LIBRARIES = ("gevent", "eventlet")

HOST = """\
import sys
import warnings

warnings.simplefilter("ignore")
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()

import json
import logging
import os
import signal
import time
from _thread import get_native_id

import rheostat


def say(**what):
    print(json.dumps({"in_main_thread": get_native_id() == os.getpid(), **what}), flush=True)


class Handler(logging.Handler):
    # Under its lock, as a handler that writes to a socket would be.
    def emit(self, record):
        time.sleep(0.001)
        say(logged=getattr(record, "rheostat_event", record.name), text=record.getMessage())


if sys.argv[2] == "openfeature":
    from openfeature import api

    import hosts_provider
    api.set_provider(hosts_provider.provider)
log = logging.getLogger("rheostat")
log.setLevel("INFO")
log.handlers[:] = [Handler()]
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
say(begins=True)
reconciler = rheostat.start(
    "config.yaml",
    observers=[lambda made: say(observed=made.to_state.value)],
    on_event=lambda event: say(event=event.name),
)
while not ended:
    time.sleep(0.005)
    if sys.argv[2] == "openfeature":
        hosts_provider.look()
    log.debug("contends for the handler's lock")
say(stopped=reconciler.stop(5), state=str(reconciler.status().state))
"""

# An application's own provider, which tells of changes from its green thread.
PROVIDER = """\
import os

from openfeature.event import ProviderEventDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

provider = InMemoryProvider({})
seen = ""


def look():
    global seen
    found = open("on").read()
    if found != seen:
        seen = found
        value = found == "True"
        provider._flags = {"profiling_enabled": InMemoryFlag("only", {"only": value})}
        provider.emit_provider_configuration_changed(ProviderEventDetails())


look()
"""

CONFIG = {
    "version": 1,
    "application": "shop",
    "backend": {"kind": "noop"},
    "enabled": {"flag": "profiling_enabled", "default": False},
    "policy": {"cooldown": "0s"},
}


@contextmanager
def host(folder: Path, library: str, source: object, kind: str = "") -> Iterator[Child]:
    (folder / "config.yaml").write_text(json.dumps({**CONFIG, "source": source}))
    (folder / "host.py").write_text(HOST)
    (folder / "hosts_provider.py").write_text(PROVIDER)
    with Child([sys.executable, "host.py", library, kind], folder, {"PYTHONPATH": str(folder)}) as child:
        yield child


class HostsProvider(Product):
    """The application's OpenFeature provider, in its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        return ""

    def section(self) -> dict[str, object]:
        return {"kind": "openfeature"}

    def say(self, flags: Mapping[str, object]) -> None:
        (self._folder / "on.new").write_text(str(flags["profiling_enabled"]))
        (self._folder / "on.new").replace(self._folder / "on")

    def break_(self, fault: str) -> None:
        """It does not."""

    def mend(self) -> None:
        """It need not be."""


def said(child: Child, **wanted: Any) -> dict[str, Any]:
    """The next line with these fields."""
    found = child.out.until(lambda line: wanted.items() <= json.loads(line).items())
    return dict(json.loads(found))


def product(kind: str, folder: Path) -> Product:
    if kind in ("yaml", "openfeature"):
        return YamlFile(folder) if kind == "yaml" else HostsProvider(folder)
    return {"growthbook": GrowthBook, "launchdarkly": LaunchDarkly}[kind]()


@pytest.mark.parametrize("kind", ["yaml", "growthbook", "launchdarkly", "openfeature"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_source_governs_beside_green_threads(tmp_path: Path, library: str, kind: str) -> None:
    """Flips reach the profiler, and log handlers, observers and listeners are called in the hub's thread alone."""
    with product(kind, tmp_path) as flags:
        flags.say({"profiling_enabled": True})
        with host(tmp_path, library, flags.section(), kind) as child:
            said(child, observed="running")
            for on in (False, True, False, True):
                flags.say({"profiling_enabled": on})
                said(child, observed="running" if on else "stopped")
            child.process.send_signal(signal.SIGTERM)
            assert said(child, stopped=True)["state"] == "stopped"
            assert child.process.wait(PATIENCE) == 0
            rest = child.err.rest()
    lines = [json.loads(line) for line in child.out.seen]
    assert all(line["in_main_thread"] for line in lines)
    assert 6 == sum(line.get("logged") == "transition" for line in lines)
    assert "closed" in {line.get("event") for line in lines}
    assert [] == rest


BUSY = """\
import sys
from gevent import monkey, spawn
monkey.patch_all()
import os
import time

import rheostat

ended = []


def compute():
    while not ended:
        sum(range(10000))
        time.sleep(0)


spawn(compute)
reconciler = rheostat.start("config.yaml", observers=[lambda made: ended.append(made.to_state)])
while not ended:
    time.sleep(0)
print(ended[0].value, flush=True)
reconciler.stop(5)
"""


def test_a_hub_that_is_never_at_rest_is_told_all_the_same(tmp_path: Path) -> None:
    """Whatever it does, what happened is told within moments."""
    (tmp_path / "config.yaml").write_text(json.dumps({**CONFIG, "source": {"kind": "yaml", "path": "flags.yaml"}}))
    (tmp_path / "flags.yaml").write_text("profiling_enabled: true\n")
    (tmp_path / "host.py").write_text(BUSY)
    with Child([sys.executable, "host.py"], tmp_path) as child:
        assert "running" == child.out.next()
        assert child.process.wait(PATIENCE) == 0
        assert [] == child.err.rest()


HELD = """\
from gevent import monkey
monkey.patch_all()
import gevent

from rheostat._host import forks, native
from rheostat.plugins import hold_off_forks, plugin_log

forks._PATIENCE = 3600.0
begun, done = native.Gate(), native.Gate()


def hold():
    with hold_off_forks():
        begun.open()
        done.wait(60)


native.start_new_thread(hold, ())
begun.wait(60)
# Both take the same lock, for the sake of forks.
plugin_log("shop", 30, "logged meanwhile")
with hold_off_forks():
    print("went on", flush=True)
done.open()
"""


def test_the_hub_waits_for_no_import_of_ours(tmp_path: Path) -> None:
    """A native thread holds off forks while it imports; a record, or a client in the hub, goes on without."""
    (tmp_path / "host.py").write_text(HELD)
    with Child([sys.executable, "host.py"], tmp_path) as child:
        assert "went on" == child.out.next()
        assert child.process.wait(PATIENCE) == 0
        assert ["logged meanwhile"] == child.err.rest()


REPLACED = """\
from gevent import monkey
monkey.patch_all()
import os
import time

import gevent

import rheostat

told = []
reconciler = rheostat.start("config.yaml", observers=[lambda made: told.append(made.to_state)])


def until(count):
    while len(told) < count:
        time.sleep(0.005)


until(1)
gevent.get_hub().destroy(destroy_loop=True)
for count, flags in ((2, "false"), (3, "true"), (4, "false")):
    time.sleep(0.005)
    with open("flags.new", "w") as file:
        file.write(f"profiling_enabled: {flags}\\n")
    os.replace("flags.new", "flags.yaml")
    state = {"true": "running", "false": "stopped"}[flags]
    while str(reconciler.status().state) != state:
        time.sleep(0.005)
until(4)
print([each.value for each in told], flush=True)
reconciler.stop(5)
"""


def test_an_application_may_do_away_with_its_hub(tmp_path: Path) -> None:
    """What was told is told by the next one, in its order."""
    source = {"kind": "yaml", "path": "flags.yaml", "poll_interval": "10ms"}
    (tmp_path / "config.yaml").write_text(json.dumps({**CONFIG, "source": source}))
    (tmp_path / "flags.yaml").write_text("profiling_enabled: true\n")
    (tmp_path / "host.py").write_text(REPLACED)
    with Child([sys.executable, "host.py"], tmp_path) as child:
        assert "['running', 'stopped', 'running', 'stopped']" == child.out.next()
        assert child.process.wait(PATIENCE) == 0
        assert [] == child.err.rest()


PATCHED_MEANWHILE = """
import _thread, sys, threading, warnings

warnings.simplefilter("ignore")
if sys.argv[1] == "gevent":
    from gevent import monkey
    patch = monkey.patch_all
else:
    import eventlet
    patch = eventlet.monkey_patch

from rheostat._host.importing import import_apart

gates = threading.begun, threading.goes_on, done = [_thread.allocate_lock() for _ in range(3)]
for gate in gates:
    gate.acquire()
found = []

def load():
    try:
        found.append(import_apart("outer").NAME)
    except BaseException as error:
        found.append(repr(error))
    done.release()

_thread.start_new_thread(load, ())
threading.begun.acquire()
patch()
threading.goes_on.release()
print(done.acquire(timeout=20), *found, flush=True)
# The end is not what this is about.
__import__("os")._exit(0)
"""


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_import_in_whose_midst_the_threads_turn_green_succeeds(tmp_path: Path, library: str) -> None:
    """The interpreter cannot let go of its locks then: a worker would run unprofiled for the error that this is."""
    (tmp_path / "outer.py").write_text("import inner\nNAME = inner.NAME\n")
    (tmp_path / "inner.py").write_text(
        "import threading\nthreading.begun.release()\nthreading.goes_on.acquire()\nNAME = 'loaded'\n"
    )
    (tmp_path / "app.py").write_text(PATCHED_MEANWHILE)
    ran = ended([sys.executable, "app.py", library], tmp_path)
    assert "True loaded\n" == ran.stdout, ran.stderr
