"""Profiles as files in a folder, by the real agent."""

import gzip
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rheostat.plugins import Bytes, Duration, FilePath, Identity, InvalidOptions, PermanentError, TemporaryError
from rheostat.receive.receiver import CPU, Profile, decode
from rheostat_backends.pyroscope import push
from rheostat_backends.pyroscope.files import FilesBackend, FilesOptions
from support.busy import eventually, spinning
from support.children import RHEOSTAT, Child, ended

FAST = {"upload_interval": 1, "sample_rate": 100}

CONFIG = """\
version: 1
application: shop
source: {kind: yaml, path: flags.yaml, poll_interval: 20ms}
backend: {kind: files, folder: profiles, max_total_size: 1MiB}
enabled: {flag: profiling}
settings: {sample_rate: 100, upload_interval: 3600}
policy: {cooldown: 0s, start_after: 0s}
"""

APP = """\
import sys
import threading

from support.busy import spin

for line in sys.stdin:
    if line.strip() == "spin":
        spin()
    print(*sorted(thread.name for thread in threading.enumerate()), flush=True)
"""


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent reaches the port of its own process without the proxy that the environment may have."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def backend(folder: Path, **options: Any) -> FilesBackend:
    made = FilesOptions(folder=FilePath(str(folder / "profiles")), **options)
    return FilesBackend(made, Identity("shop", "host-1", {}, os.getpid()))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[FilesBackend]:
    made = backend(tmp_path)
    yield made
    made.stop()


def profiles(folder: Path) -> list[Profile]:
    files = sorted((folder / "profiles").glob("*.pb.gz"))
    return [decode({}, gzip.decompress(file.read_bytes())) for file in files]


def functions(folder: Path) -> set[str]:
    return {name for profile in profiles(folder) for sample in profile.samples for name in sample.stack}


def test_each_interval_leaves_a_file_that_says_who_worked(made: FilesBackend, tmp_path: Path) -> None:
    """In the format that pprof's tools open, with the rate that was asked for."""
    with spinning():
        made.start(FAST)
        eventually(lambda: len(profiles(tmp_path)) > 1)
        made.stop()
    assert "spin_in_here" in functions(tmp_path)
    cpu = [profile for profile in profiles(tmp_path) if CPU in profile.sample_types]
    assert {100} == {round(profile.sample_rate or 0) for profile in cpu}
    names = [each.name for each in (tmp_path / "profiles").iterdir()]
    assert all(name.startswith(f"shop-{os.getpid()}-") and name.endswith("-process_cpu.pb.gz") for name in names)


def test_memory_has_files_of_its_own(made: FilesBackend, tmp_path: Path) -> None:
    kept = []
    made.start({**FAST, "mem_enabled": True, "mem_heap_sample_size": 4096})
    kept.append(bytearray(5 * 2**20))
    eventually(lambda: [*(tmp_path / "profiles").glob("*-memory.pb.gz")])


def test_a_folder_that_cannot_be_written_is_said(made: FilesBackend, tmp_path: Path) -> None:
    """By the start, for now; and by whoever asks while it runs, until it is there again."""
    folder = tmp_path / "profiles"
    folder.write_text("in the way")
    with pytest.raises(TemporaryError, match=r"profiles: .*exists; expected a folder to write profiles to"):
        made.start(FAST)
    folder.unlink()
    with spinning():
        made.start(FAST)
        made.reach(1)
        shutil.rmtree(folder)
        folder.write_text("in the way")
        eventually(lambda: "exists" in refusal(made))
        folder.unlink()
        eventually(lambda: refusal(made) == "")
    assert "healthy" == made.probe().status


def refusal(made: FilesBackend) -> str:
    try:
        made.reach(1)
    except TemporaryError as error:
        return str(error)
    return ""


def test_a_push_that_cannot_be_read_is_said(made: FilesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an agent of tomorrow may send one: its profiles are lost, and the session goes on."""

    def unreadable(_: bytes) -> list[object]:
        raise ValueError("no push")

    monkeypatch.setattr(push, "pushed_profiles", unreadable)
    with spinning():
        made.start(FAST)
        eventually(lambda: refusal(made) == "the last profiles were lost (ValueError)")
    assert "healthy" == made.probe().status


def test_a_proxy_that_would_get_the_profiles_is_refused(
    made: FilesBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The agent goes by the environment's proxy, and has no option against it."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example.com:3128")
    with pytest.raises(PermanentError, match=r"add 127\.0\.0\.1 to NO_PROXY"):
        made.start(FAST)
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    made.start(FAST)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_total_size": Bytes(2**20 - 1)}, "max_total_size"),
        ({"max_age": Duration(59.0)}, "max_age"),
        ({"tags": {"service_name": "other"}}, "tags"),
        ({"max_threads": -1}, "max_threads"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    """Those of the agent as those of the folder, each by its name."""
    with pytest.raises(InvalidOptions, match=named):
        backend(tmp_path, **options)


def test_a_service_leaves_files_while_a_flag_is_on(tmp_path: Path) -> None:
    """Of its whole session, with an hour's interval; while it is off it has no thread more, and no folder."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "app.py").write_text(APP)
    env = {"no_proxy": "127.0.0.1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    flags = tmp_path / "flags.yaml"
    flags.write_text("profiling: false\n")
    online = ended([*RHEOSTAT, "check", "--online", "config.yaml"], tmp_path, env)
    assert (0, "") == (online.returncode, online.stderr)
    shutil.rmtree(tmp_path / "profiles")
    with Child(command, tmp_path, env) as child:
        child.tell("threads")
        assert "rheostat-sink" not in str(child.out.next())
        assert not (tmp_path / "profiles").exists()
        flags.write_text("profiling: true\n")
        child.event("transition", to="running")
        child.tell("spin")
        assert "rheostat-sink" in str(child.out.next())
        flags.write_text("profiling: false\n")
        child.event("transition", to="stopped")
        assert "spin_in_here" in functions(tmp_path)
        child.tell("threads")
        assert "rheostat-sink" not in str(child.out.next())
        assert 0 == child.finish()
    planned = ended([*RHEOSTAT, "plan", "config.yaml"], tmp_path, env)
    assert "It would stay off" in planned.stdout


GREEN = """\
import sys, warnings

warnings.simplefilter("ignore")
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()

import time
import rheostat

def spin_in_here():
    return sum(range(2000))

def until(holds):
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < 20, profiling.status()
        spin_in_here()
        time.sleep(0)

profiling = rheostat.start("config.yaml")
until(lambda: profiling.status().state.value == "running")
until(lambda: profiling.status().delivery.status == "healthy")
open("flags.yaml", "w").write("profiling: false")
until(lambda: profiling.status().state.value == "stopped")
print(profiling.stop(5))
"""


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_it_works_beside_green_threads(tmp_path: Path, library: str) -> None:
    """The thread that takes the pushes is a native one: it waits for no hub, and no hub for it."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "flags.yaml").write_text("profiling: true\n")
    (tmp_path / "app.py").write_text(GREEN)
    ran = ended([sys.executable, "app.py", library], tmp_path, {"no_proxy": "127.0.0.1"})
    assert ("True\n", 0) == (ran.stdout, ran.returncode), ran.stderr
    assert "spin_in_here" in functions(tmp_path)
