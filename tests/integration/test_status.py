"""The processes of a host as an operator sees them: true rows within a second, and none that is false."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rheostat._cli import processes
from rheostat._host.living import ProcessId, boot, namespace
from support.children import PATIENCE, RHEOSTAT, Child, ended, environment

CONFIG = """\
version: 1
application: {application}
instance: host-1
state_dir: {state}
source: {{kind: yaml, path: flags.yaml, poll_interval: 50ms}}
backend: {backend}
enabled: {{flag: "on", default: false}}
settings: {{rate: {{flag: rate, default: 20, clamp: {{max: 250}}}}}}
policy: {{cooldown: 0s, start_after: 0s, {policy}}}
"""

BACKEND = """\
import time

class Hangs:
    Options = dict
    parameters = None

    def __init__(self, options, identity):
        pass

    def start(self, settings):
        time.sleep(3600)

    def stop(self):
        pass
"""

FINE, FINDING, INVALID = 0, 1, 2


def prepare(
    folder: Path, policy: str = "", backend: str = "{kind: noop}", application: str = "shop", state: str = "state"
) -> None:
    config = CONFIG.format(policy=policy, backend=backend, application=json.dumps(application), state=state)
    (folder / "config.yaml").write_text(config)
    (folder / "hanging.py").write_text(BACKEND)
    (folder / "app.py").write_text("import sys\nsys.stdin.read()\n")


def flip(folder: Path, flags: str) -> None:
    (folder / "flags.new").write_text(flags)
    (folder / "flags.new").replace(folder / "flags.yaml")


@contextmanager
def run(folder: Path) -> Iterator[Child]:
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(command, folder, {"PYTHONPATH": str(folder)}) as child:
        yield child


def status(folder: Path, *options: str, code: int = FINE) -> str:
    ran = ended([*RHEOSTAT, "status", "--state-dir", "state", *options], folder)
    assert code == ran.returncode, ran.stdout + ran.stderr
    return ran.stdout


def told(folder: Path) -> list[Any]:
    return list(json.loads(status(folder, "--json")))


def until(found: Callable[[], Any]) -> Any:
    """What is found, once it is something."""
    deadline = time.monotonic() + PATIENCE
    while not (result := found()):
        assert time.monotonic() < deadline
    return result


def test_each_governed_process_has_a_row_that_is_true(tmp_path: Path) -> None:
    """Who it is, at what it runs and by whose word; and what is piped has no colours."""
    prepare(tmp_path)
    flip(tmp_path, "on: true\nrate: 9999\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        until(lambda: "running" in status(tmp_path))
        head, row = status(tmp_path).splitlines()
        assert head.split()[:5] == ["pid", "application", "command", "state", "since"]
        assert row.startswith(f"{child.process.pid} ")
        assert "shop " in row
        assert "app.py" in row
        assert "rate=250 (asked 9999, max 250 (clamp))" in row
        assert "flags" in row
        assert "fresh" in row
        assert "\x1b" not in row
        flip(tmp_path, "on: false\n")
        child.event("transition", to="stopped")
        until(lambda: "stopped" in status(tmp_path))
        assert FINE == child.finish()
    assert "No governed process in state.\n" == status(tmp_path)
    assert [] == list((tmp_path / "state").iterdir())


def test_a_flip_is_seen_by_all_workers_of_gunicorn_and_a_killed_one_by_nobody(tmp_path: Path) -> None:
    """Eight rows within a second of the flip; after kill -9 of one none that is false."""
    prepare(tmp_path, policy="processes: workers")
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
    )
    flip(tmp_path, "on: false\n")
    gunicorn = [sys.executable, "-m", "gunicorn", "-w", "8", "-b", "127.0.0.1:0", "app:app"]
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", *gunicorn]
    with Child(command, tmp_path) as child:
        until(lambda: 8 == len([each for each in told(tmp_path) if not each["flags"] and each["source"]["available"]]))
        flip(tmp_path, "on: true\n")
        flipped = time.time()
        workers = until(lambda: running if len(running := _running(tmp_path)) == 8 else None)
        assert all(each["since"] - flipped <= 1.0 for each in workers)
        assert all(each["written"] - flipped <= 1.0 for each in workers)
        killed = workers[0]["pid"]
        os.kill(killed, 9)
        until(lambda: not ProcessId(killed, workers[0]["began"]).is_alive)
        assert killed not in [each["pid"] for each in told(tmp_path)]
        again = until(lambda: running if len(running := _running(tmp_path)) == 8 else None)
        assert killed not in [each["pid"] for each in again]
        child.process.terminate()
        assert FINE == child.process.wait(PATIENCE)
    assert [] == told(tmp_path)


def _running(folder: Path) -> list[Any]:
    return [each for each in told(folder) if each["state"] == "running"]


def test_explain_gives_each_brakes_word(tmp_path: Path) -> None:
    """The strongest first, as it was when the process decided."""
    prepare(tmp_path, policy="rollout: {percent: 10}, session: {max: 1h}, kill_switch: off.now")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        until(lambda: "rollout" in status(tmp_path))
        ran = ended([*RHEOSTAT, "explain", str(child.process.pid), "--state-dir", "state"], tmp_path)
        assert FINE == ran.returncode
        assert f"app.py (pid {child.process.pid}) is stopped" in ran.stdout
        said = [line.split("  ")[0] for line in ran.stdout.splitlines()]
        names = ["kill switch", "new source", "lease", "silent source", "session", "rollout", "flags"]
        assert names == [each for each in said if each in names]
        assert re.search(r"^rollout +off: this instance is in at 71.86 % of the fleet", ran.stdout, re.MULTILINE)
        assert re.search(r"^flags +on$", ran.stdout, re.MULTILINE)
        (tmp_path / "off.now").touch()
        until(lambda: "the kill switch is set" in status(tmp_path))
    ran = ended([*RHEOSTAT, "explain", "1", "--state-dir", "state"], tmp_path)
    assert (INVALID, "") == (ran.returncode, ran.stdout)
    assert "no governed process has the id 1" in ran.stderr


def test_what_is_stuck_or_has_failed_is_a_finding(tmp_path: Path) -> None:
    """So that the command serves as a health check."""
    prepare(tmp_path, backend='{kind: "hanging:Hangs"}', policy="start_deadline: 100ms")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        child.event("stuck")
        text = until(lambda: text if "stuck" in (text := status_of_any_code(tmp_path)) else None)
        assert re.search(r"start stuck for \d+ s", text)
        status(tmp_path, code=FINDING)
        status(tmp_path, "--json", code=FINDING)
        child.process.kill()
    prepare(tmp_path, backend='{kind: "hanging:Missing"}')
    with run(tmp_path):
        until(lambda: "Missing" in status_of_any_code(tmp_path))
        status(tmp_path, code=FINDING)


def status_of_any_code(folder: Path) -> str:
    return ended([*RHEOSTAT, "status", "--state-dir", "state"], folder).stdout


def test_names_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    """Neither those of a configuration nor what somebody has put into the file."""
    prepare(tmp_path, application="sh\x1b[31mop\nred")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        [file] = until(lambda: list((tmp_path / "state").glob("status-*")))
        assert not _controls(status(tmp_path))
        said = json.loads(file.read_text())
        for evil in ("\x1b]0;owned\x07", "\u202e", "\x9b31m", "a\rb"):
            file.write_text(json.dumps({**said, "state": evil, "error": evil, "settings": {evil: evil}, "cause": evil}))
            shown = status(tmp_path, code=FINDING)
            assert not _controls(shown), repr(shown)
            ran = ended([*RHEOSTAT, "explain", str(child.process.pid), "--state-dir", "state"], tmp_path)
            assert not _controls(ran.stdout), repr(ran.stdout)


def _controls(text: str) -> list[str]:
    return [each for each in text if each != "\n" and not each.isprintable()]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"version": 1}',
        b'{"version": 99}',
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"version": 1, "brakes": 7}',
    ],
)
def test_a_file_may_say_anything(tmp_path: Path, content: bytes) -> None:
    """What is no status of a process is no row, or one without what it lacks; and nothing is raised."""
    (tmp_path / "state").mkdir(mode=0o700)
    me = ProcessId.of(os.getpid())
    (tmp_path / f"state/status-{me.pid}-{me.began}.json").write_bytes(content)
    ran = ended([*RHEOSTAT, "status", "--state-dir", "state"], tmp_path)
    assert FINE == ran.returncode
    assert "" == ran.stderr


def test_ten_thousand_files_of_the_dead_are_removed(tmp_path: Path) -> None:
    """And what lives is shown; names of other things are left alone."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    for number in range(10_000):
        (state / f"status-{2**22 + number}-1.json").write_text("{}")
    (state / "status-notes.txt").write_text("mine")
    prepare(tmp_path)
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        until(lambda: str(child.process.pid) in status(tmp_path))
        assert 2 == len(list(state.iterdir()))


@pytest.mark.parametrize("kind", ["a file", "a link", "not writable"])
def test_a_state_folder_that_cannot_be_used_costs_the_rows_only(tmp_path: Path, kind: str) -> None:
    """The service and its profiler go on; `check` says it, where the folder is one that was asked for."""
    prepare(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "a file":
        (tmp_path / "state").touch()
    elif kind == "a link":
        (tmp_path / "state").symlink_to(elsewhere)
    else:
        prepare(tmp_path, state="/proc/rheostat")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        flip(tmp_path, "on: false\n")
        child.event("transition", to="stopped")
        assert FINE == child.finish()
    assert [] == list(elsewhere.iterdir())
    ran = ended([*RHEOSTAT, "check", "config.yaml"], tmp_path)
    assert FINDING == ran.returncode
    assert "state_dir: it cannot be used" in ran.stdout


def test_a_process_that_has_become_another_program_has_no_row(tmp_path: Path) -> None:
    """It keeps its id, and when it began."""
    prepare(tmp_path)
    flip(tmp_path, "on: true\n")
    (tmp_path / "app.py").write_text("import os, sys\nsys.stdin.readline()\nos.execvp('sleep', ['sleep', '60'])\n")
    with run(tmp_path) as child:
        child.event("transition", to="running")
        until(lambda: "running" in status(tmp_path))
        child.tell("")
        until(lambda: Path(f"/proc/{child.process.pid}/cmdline").read_text().startswith("sleep"))
        assert "No governed process in state.\n" == status(tmp_path)


def test_it_can_be_watched(tmp_path: Path) -> None:
    """Until it is interrupted; the exit code is that of the last look."""
    prepare(tmp_path)
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child, Child([*RHEOSTAT, "status", "--watch", "--state-dir", "state"], tmp_path) as watching:
        watching.out.until(lambda line: "running" in line)
        flip(tmp_path, "on: false\n")
        watching.out.until(lambda line: "stopped" in line)
        watching.process.send_signal(signal.SIGINT)
        assert FINE == watching.process.wait(PATIENCE)
        assert [] == watching.err.rest()
        assert FINE == child.finish()


def test_on_a_terminal_it_has_colours_and_fits(tmp_path: Path) -> None:
    """What is stuck is red, and names are no markup."""
    prepare(tmp_path, application="[red]shop[/red]", backend='{kind: "hanging:Hangs"}', policy="start_deadline: 100ms")
    flip(tmp_path, "on: true\n")
    with run(tmp_path) as child:
        child.event("stuck")
        until(lambda: "stuck" in status_of_any_code(tmp_path))
        shown = on_a_terminal([*RHEOSTAT, "status", "--state-dir", "state"], tmp_path)
        child.process.kill()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "\x1b[31m" in shown
    assert "[red]" in plain
    assert all(len(line) <= 100 for line in plain.splitlines())


def on_a_terminal(command: list[str], folder: Path) -> str:
    """What a command prints on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    env = environment({"COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"})
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    process.wait(PATIENCE)
    return shown.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may see what is others'")
def test_the_processes_of_other_users_are_shown_to_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read, and nothing is changed there."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    me = ProcessId.of(os.getpid())
    said = {"version": 1, "namespace": namespace(), "boot": boot(), "state": "running", "application": "theirs"}
    (theirs / f"status-{me.pid}-{me.began}.json").write_text(json.dumps(said))
    (theirs / "status-99999999-1.json").write_text("{}")
    os.chown(theirs, 65534, 65534)
    monkeypatch.setattr(processes, "_ALL_USERS", (str(tmp_path / "the*"),))
    monkeypatch.setattr(processes, "default_paths", lambda: [str(tmp_path / "none")])
    assert [] == processes.governed()
    [found] = processes.governed(all_users=True)
    assert "theirs" == found.text("application")
    assert 2 == len(list(theirs.iterdir()))


def test_a_server_that_writes_over_its_command_line_keeps_its_rows(tmp_path: Path) -> None:
    """As gunicorn and Celery do where setproctitle is installed."""
    prepare(tmp_path)
    flip(tmp_path, "on: true\n")
    (tmp_path / "app.py").write_text(
        "import sys, setproctitle\nsys.stdin.readline()\nsetproctitle.setproctitle('worker 3 [busy]')\n"
        "print('renamed', flush=True)\nsys.stdin.read()\n"
    )
    with run(tmp_path) as child:
        child.event("transition", to="running")
        until(lambda: "running" in status(tmp_path))
        child.tell("")
        assert "renamed" == child.out.next()
        assert "worker 3" in Path(f"/proc/{child.process.pid}/cmdline").read_text()
        assert f"{child.process.pid} " in status(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_what_somebody_else_has_put_in_the_place_of_our_folder_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as processes of ours: they could say anything."""
    folder = tmp_path / "rheostat"
    folder.mkdir(mode=0o700)
    me = ProcessId.of(os.getpid())
    said = {"version": 1, "namespace": namespace(), "boot": boot(), "state": "running", "application": "evil"}
    (folder / f"status-{me.pid}-{me.began}.json").write_text(json.dumps(said))
    os.chown(folder, 65534, 65534)
    monkeypatch.setattr(processes, "default_paths", lambda: [str(folder)])
    assert [] == processes.governed()


def test_secrets_are_in_no_status(tmp_path: Path) -> None:
    """Not even those that somebody has put on the command line."""
    prepare(tmp_path, backend='{kind: noop, token: "x"}')
    config = (tmp_path / "config.yaml").read_text().replace(
        "{kind: noop, token: \"x\"}",
        '{kind: pyroscope, server_address: "http://127.0.0.1:9", auth_token: very-secret-token, sampler: pyspy}',
    ).replace("settings: {rate: {flag: rate, default: 20, clamp: {max: 250}}}", "")  # fmt: skip
    (tmp_path / "config.yaml").write_text(config)
    flip(tmp_path, "on: true\n")
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child([*command, "--token=very-secret-token"], tmp_path) as child:
        child.event("transition", to="running")
        [file] = until(lambda: list((tmp_path / "state").glob("status-*")))
        until(lambda: '"running"' in file.read_text())
        assert "very-secret-token" not in file.read_text()
        assert "very-secret-token" not in status_of_any_code(tmp_path)
