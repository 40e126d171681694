import json
import os
import re
import signal
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from rheostat.testing import Simulation
from support.children import MODULE, PATIENCE, RHEOSTAT, Child, Event, ended, parsed

HAS_PROC = Path("/proc/self/status").exists()
LONG = "1h"

CommandIn = Callable[[Path], list[str]]

CONFIG = """\
version: 1
application: shop
source: {kind: yaml, path: flags.yaml, poll_interval: 10ms}
backend: {kind: noop}
enabled: {flag: profiling_enabled, default: false}
settings:
  sample_rate: {flag: profiling_sample_rate, default: 20, clamp: {min: 1, max: 250}}
policy: {start_after: 50ms, cooldown: 0s, backoff: {initial: 10ms, max: 20ms}}
"""

APP = """\
import os
import sys

print("up", os.getpid(), flush=True)
sys.stdin.read()
sys.exit(7)
"""

ON = "profiling_enabled: true\n"
OFF = "profiling_enabled: false\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration, flags that say on, and an application that waits for the end of its input."""
    (tmp_path / "rheostat.yaml").write_text(CONFIG)
    (tmp_path / "flags.yaml").write_text(ON)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def reconfigure(folder: Path, old: str, new: str) -> None:
    config = folder / "rheostat.yaml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def flip(folder: Path, flags: str) -> None:
    other = folder / "flags.new"
    other.write_text(flags)
    other.replace(folder / "flags.yaml")


def run(*command: str, log: str = "json", options: Sequence[str] = ()) -> list[str]:
    return [*RHEOSTAT, "run", "--config", "rheostat.yaml", "--log", log, *options, "--", *command]


def governed(folder: Path, *command: str, env: Mapping[str, str] | None = None) -> Child:
    return Child(run(*(command or (sys.executable, "app.py"))), folder, env)


def running(child: Child) -> Event:
    return child.event("transition", to="running")


def moves(events: Sequence[Event]) -> list[tuple[int, str, str, str]]:
    return [(e["seq"], e["from"], e["to"], e["trigger"]) for e in events if e["event"] == "transition"]


def errors(text: str | Sequence[str]) -> list[str]:
    lines = text.splitlines() if isinstance(text, str) else text
    return [line for line in lines if " ERROR " in line or parsed(line).get("level") == "ERROR"]


# What is governed


def as_script(folder: Path) -> list[str]:
    return [sys.executable, "app.py"]


def as_module(folder: Path) -> list[str]:
    return [sys.executable, "-m", "app"]


def as_console_script(folder: Path) -> list[str]:
    script = folder / "serve"
    script.write_text(f"#!{sys.executable}\nimport app\n")
    script.chmod(0o755)
    return [str(script)]


@pytest.mark.parametrize("command_in", [as_script, as_module, as_console_script])
def test_governs(folder: Path, command_in: CommandIn) -> None:
    """A script, a module and a console script are profiled while the flag is on, and leave with their own code."""
    with governed(folder, *command_in(folder)) as child:
        assert child.out.next() == f"up {child.process.pid}"
        assert child.process.pid == running(child)["pid"]
        assert 7 == child.finish()


def test_launcher_as_a_module(folder: Path) -> None:
    """``python -m rheostat run`` is the same as ``rheostat run``."""
    with Child([*MODULE, *run(sys.executable, "app.py")[len(RHEOSTAT) :]], folder) as child:
        assert child.process.pid == running(child)["pid"]
        assert 7 == child.finish()


def test_pid_stays(folder: Path) -> None:
    """The launcher execs: the application has the pid that was started, and no process stands between."""
    (folder / "app.py").write_text("import os\nprint(os.getpid(), os.getppid())\n")
    with governed(folder) as child:
        assert f"{child.process.pid} {os.getpid()}" == child.out.next()
        assert 0 == child.finish()


def test_arguments_are_the_command_s_own(folder: Path) -> None:
    """Whatever follows the command is its own, also what looks like an option of the launcher."""
    (folder / "app.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    arguments = ["--log", "none", "--", "--strict", "--config=x", "", "a b", "*", "ö"]
    ran = ended(run(sys.executable, "app.py", *arguments), folder)

    assert (0, arguments) == (ran.returncode, json.loads(ran.stdout))


def test_command_without_dashes(folder: Path) -> None:
    """The ``--`` may be left out."""
    ran = ended([*RHEOSTAT, "run", "--config", "rheostat.yaml", "sh", "-c", "exit 3"], folder)

    assert (3, "") == (ran.returncode, ran.stderr)


def test_environment_and_path_are_almost_untouched(folder: Path) -> None:
    """The application sees its own ``sys.path``; its environment differs only in what the launcher has to add."""
    (folder / "app.py").write_text(
        "import json, os, sys\nprint(json.dumps([sys.path, sys.argv, sys.flags.safe_path, dict(os.environ)]))\n"
    )
    site = str(folder / "site")
    plain = ended([sys.executable, "app.py"], folder, {"PYTHONPATH": site})
    under = ended(run(sys.executable, "app.py"), folder, {"PYTHONPATH": site})
    path, argv, safe, before = json.loads(plain.stdout)
    assert [path, argv, safe] == json.loads(under.stdout)[:3]

    after = json.loads(under.stdout)[3]
    assert after.pop("PYTHONPATH").endswith(f"{os.pathsep}{before.pop('PYTHONPATH')}")
    assert before == {name: value for name, value in after.items() if not name.startswith("RHEOSTAT_")}


def test_relative_configuration_survives_a_change_of_folder(folder: Path) -> None:
    """The configuration is found though the application leaves the folder before it is read."""
    (folder / "app.py").write_text(f"import os\nos.chdir('/')\n{APP}")
    with governed(folder) as child:
        running(child)
        assert 7 == child.finish()


def test_python_below_a_shell_is_governed(folder: Path) -> None:
    """A command that is no Python works, and the Python processes below it are governed, each by itself."""
    script = '"$0" app.py; echo "left $?"; "$0" app.py; exit 3'
    with governed(folder, "sh", "-c", script, sys.executable) as child:
        assert child.out.next() != f"up {child.process.pid}"
        first = running(child)
        assert 3 == child.finish()
        pids = [int(line.split()[1]) for line in child.out.rest() if line.startswith("up")]
        assert "left 7" in child.out.seen
    assert first["pid"] == pids[0] != child.process.pid


def test_children_are_governed(folder: Path) -> None:
    """A Python that the application starts has a session and a sequence of its own."""
    (folder / "app.py").write_text(
        "import subprocess, sys\nif len(sys.argv) == 1:\n    subprocess.run([sys.executable, __file__, 'child'])\n"
        + APP
    )
    with governed(folder) as child:
        events = [running(child), running(child)]
        assert 7 == child.finish()
    assert [1, 1] == [event["seq"] for event in events]
    assert child.process.pid in {event["pid"] for event in events}
    assert 2 == len({event["pid"] for event in events})


FORKING = """\
import os
import sys

if {wait}:
    sys.stdin.readline()
child = os.fork()
print("up", os.getpid(), flush=True)
if child:
    assert os.waitpid(child, 0) == (child, 0)
else:
    sys.stdin.read()
    os._exit(0)
"""


def test_fork_while_running(folder: Path) -> None:
    """A forked child leaves the parent's session behind and starts its own; the parent's goes on."""
    (folder / "app.py").write_text(FORKING.format(wait=True))
    with governed(folder, env={"PYTHONWARNINGS": "ignore"}) as child:
        assert child.process.pid == running(child)["pid"]
        child.tell("go on")
        forked = child.event("transition", to="stopped")
        assert ("running", "forked", "fork") == (forked["from"], forked["trigger"], forked["cause"]["kind"])
        assert forked["pid"] == running(child)["pid"] != child.process.pid
        assert 0 == child.finish()
        of_parent = [each for each in child.events() if each["pid"] == child.process.pid]
    assert [(1, "stopped", "running", "started"), (2, "running", "stopped", "stopped")] == moves(of_parent)


def test_fork_before_the_start(folder: Path) -> None:
    """A child that is forked before ``start_after`` is over, as a server forks its workers, is governed too."""
    (folder / "app.py").write_text(FORKING.format(wait=False))
    with governed(folder, env={"PYTHONWARNINGS": "ignore"}) as child:
        pids = {int((child.out.next() or "").split()[1]) for _ in range(2)}
        assert pids == {running(child)["pid"], running(child)["pid"]}
        assert 0 == child.finish()


IMPORTING = """\
import os
import signal
import threading

importing, forked = threading.Event(), threading.Event()
assert importing.wait(20)
child = os.fork()
if not child:
    signal.alarm(10)
    import slow

    os._exit(0)
forked.set()
print("the child ended with", os.waitpid(child, 0)[1], flush=True)
"""


def test_fork_while_a_plug_in_is_imported(folder: Path) -> None:
    """A child that is forked while a plug-in is imported can import the same module, instead of hanging for ever."""
    reconfigure(folder, "kind: yaml, path: flags.yaml, poll_interval: 10ms", "kind: 'slow:Source'")
    (folder / "slow.py").write_text("import __main__\n__main__.importing.set()\n__main__.forked.wait(0.2)\n")
    (folder / "app.py").write_text(IMPORTING)
    with governed(folder, env={"PYTHONWARNINGS": "ignore"}) as child:
        assert "the child ended with 0" == child.out.next()
        assert 0 == child.finish()


ASKING = """\
import sys
from importlib.machinery import PathFinder

import __main__
import rheostat


class Finder:
    def find_spec(name, path=None, target=None):
        if name != "rheostat._contract.hostobject":
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (__main__.importing.set(), __main__.forked.wait(0.2), execute(module))
        return spec


sys.meta_path.insert(0, Finder)


class Source:
    Options = dict
    poll_interval = 10.0

    def __init__(self, options, identity):
        pass

    def open(self, changed):
        pass

    def read(self, wanted):
        return rheostat.plugins.HostObject and rheostat.plugins.Reading({})

    def close(self):
        pass
"""


def test_fork_while_a_public_name_is_first_used(folder: Path) -> None:
    """Modules that a first use of a name of Rheostat's imports can be imported in a child forked meanwhile."""
    reconfigure(folder, "kind: yaml, path: flags.yaml, poll_interval: 10ms", "kind: 'asking:Source'")
    (folder / "asking.py").write_text(ASKING)
    (folder / "app.py").write_text(IMPORTING.replace("import slow", "import rheostat._contract.hostobject"))
    with governed(folder, env={"PYTHONWARNINGS": "ignore"}) as child:
        assert "the child ended with 0" == child.out.next()
        assert 0 == child.finish()


# What a shell would do


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_reaches_the_application(folder: Path, number: signal.Signals) -> None:
    """A signal to the pid that was started is handled by the application."""
    handler = f"import signal\nsignal.signal({int(number)}, lambda *_: sys.exit(5))\n"
    (folder / "app.py").write_text(APP.replace("import sys\n", f"import sys\n{handler}"))
    with governed(folder) as child:
        running(child)
        child.process.send_signal(number)
        assert 5 == child.process.wait(PATIENCE)
        assert [(1, "stopped", "running", "started"), (2, "running", "stopped", "stopped")] == moves(child.events())


def test_signal_that_is_not_handled_ends_it(folder: Path) -> None:
    """SIGTERM's default action is what it is without the launcher."""
    with governed(folder) as child:
        running(child)
        child.process.terminate()
        assert -signal.SIGTERM == child.process.wait(PATIENCE)


@pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
@pytest.mark.parametrize("broken", [False, True], ids=["good", "broken"])
def test_signals_are_ignored_as_without_the_launcher(folder: Path, broken: bool) -> None:
    """SIGPIPE and SIGXFSZ, which a Python ignores, have their default action in what is executed."""
    if broken:
        reconfigure(folder, "version: 1", "version: 2")
    ran = ended(run("grep", "SigIgn", "/proc/self/status"), folder)
    ignored = int(ran.stdout.split()[1], 16)

    assert 0 == ran.returncode
    assert [] == [each for each in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> each - 1 & 1]


@pytest.mark.parametrize("broken", [False, True], ids=["good", "broken"])
@pytest.mark.parametrize(
    ("command", "code"),
    [("nowhere-to-be-found", 127), ("./nowhere", 127), ("", 127), ("./app.py", 126), (".", 126), ("./app.py/x", 126)],
)
def test_command_that_cannot_be_executed(folder: Path, command: str, code: int, broken: bool) -> None:
    """The exit code is a shell's, and one line says what is wrong."""
    if broken:
        reconfigure(folder, "version: 1", "version: 2")
    ran = ended(run(command), folder)
    complaints = [line for line in ran.stderr.splitlines() if not parsed(line)]

    assert (code, "") == (ran.returncode, ran.stdout)
    assert 1 == len(complaints), ran.stderr
    assert complaints[0].startswith(f"rheostat: {command}: ")


@pytest.mark.parametrize("arguments", [[], ["--"], ["--log", "xml", "--", "true"], ["--tag", "x", "--", "true"]])
def test_wrong_usage(folder: Path, arguments: list[str]) -> None:
    """Without a command, or with a wrong option, it exits with 2 and a usage line."""
    ran = ended([*RHEOSTAT, "run", "--config", "rheostat.yaml", *arguments], folder)

    assert (2, "") == (ran.returncode, ran.stdout)
    assert ran.stderr.startswith("usage: rheostat run --config CONFIG ")


# Configurations that cannot be used


@pytest.mark.parametrize("log", ["text", "json", "none"])
def test_broken_configuration_never_stops_the_service(folder: Path, log: str) -> None:
    """There is one ERROR with every problem, and the command runs, with its own exit code."""
    reconfigure(folder, "version: 1\n", "version: 2\nversoin: 1\n")
    ran = ended(run("sh", "-c", "echo served; exit 7", log=log), folder)

    assert (7, "served\n") == (ran.returncode, ran.stdout)
    (error,) = errors(ran.stderr)
    assert "runs unprofiled" in error
    assert f"{folder / 'rheostat.yaml'}:1:10: version: found '2', expected one of 1" in ran.stderr
    assert f"{folder / 'rheostat.yaml'}:2:1: versoin: found an unknown key" in ran.stderr
    assert ran.stderr.count("\n") == (1 if log == "json" else 3)


def test_broken_configuration_as_json(folder: Path) -> None:
    """The line of JSON has the problems as a list."""
    reconfigure(folder, "version: 1\n", "version: 2\nversoin: 1\n")
    error = json.loads(ended(run("true"), folder).stderr)

    assert ("ERROR", "invalid_config") == (error["level"], error["event"])
    assert 2 == len(error["problems"])
    assert set() == {"application", "instance", "tags"} & error.keys()


def test_broken_configuration_leaves_the_application_alone(folder: Path) -> None:
    """Nothing is added to the application's environment, and it has no thread of ours."""
    reconfigure(folder, "version: 1", "version: 2")
    assert_untouched(folder)


def assert_untouched(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import json, os, sys, threading\nours = [name for name in sys.modules if name.startswith('rheostat')]\n"
        "env = [name for name in os.environ if name.startswith(('RHEOSTAT', 'PYTHONPATH'))]\n"
        "print(json.dumps([ours, env, [each.name for each in threading.enumerate()]]))\n"
    )
    ran = ended(run(sys.executable, "app.py"), folder)
    assert [[], [], ["MainThread"]] == json.loads(ran.stdout)


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("make", ["missing", "folder", "pipe", "binary", "huge"])
def test_file_that_cannot_be_a_configuration(folder: Path, make: str, strict: bool) -> None:
    """Whatever is in the file's place, the service runs, or with --strict it does not."""
    config = folder / "rheostat.yaml"
    config.unlink()
    if make == "folder":
        config.mkdir()
    elif make == "pipe":
        os.mkfifo(config)
    elif make == "binary":
        config.write_bytes(bytes(range(256)))
    elif make == "huge":
        config.write_bytes(b"#" * 2**20)
    ran = ended(run("sh", "-c", "echo served; exit 7", options=["--strict"] if strict else []), folder)

    assert (2, "") if strict else (7, "served\n") == (ran.returncode, ran.stdout)
    assert 1 == len(errors(ran.stderr))
    assert str(config) in ran.stderr


def test_strict_and_broken(folder: Path) -> None:
    """With --strict a broken configuration exits with 2, and the command does not run, which is what the log says."""
    reconfigure(folder, "version: 1", "version: 2")
    ran = ended(run("touch", "served", options=["--strict"]), folder)

    assert 2 == ran.returncode
    (error,) = errors(ran.stderr)
    assert "the service is not started" in error
    assert "runs unprofiled" not in error
    assert not (folder / "served").exists()


def test_strict_and_good(folder: Path) -> None:
    """With --strict a good configuration runs as without."""
    assert 7 == ended(run("sh", "-c", "exit 7", options=["--strict"]), folder).returncode


def test_working_directory_that_is_gone(folder: Path) -> None:
    """In a folder that was deleted the service runs all the same."""
    (folder / "gone").mkdir()
    script = 'cd gone && rmdir "$PWD" && exec "$@"'
    ran = ended(["sh", "-c", script, "sh", *run("sh", "-c", "echo served; exit 7")], folder)

    assert (7, "served\n") == (ran.returncode, ran.stdout)
    assert 1 == len(errors(ran.stderr))


# Root may read everything, unless what it executes lacks CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
UNPRIVILEGED = """\
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):
        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's capabilities")
def test_configuration_that_may_not_be_read(folder: Path) -> None:
    """Without permission to read the configuration the service runs unprofiled."""
    (folder / "rheostat.yaml").chmod(0)
    ran = ended([sys.executable, "-c", UNPRIVILEGED, *run("sh", "-c", "echo served; exit 7")], folder)

    assert (7, "served\n") == (ran.returncode, ran.stdout)
    assert 1 == len(errors(ran.stderr))
    assert f"{folder / 'rheostat.yaml'}: found Permission denied" in ran.stderr


def test_configuration_that_vanishes_before_it_is_read_again(folder: Path) -> None:
    """The application's process reads it for itself: if that fails there is one ERROR, and it runs unprofiled."""
    (folder / "app.py").write_text(f"import os\nos.unlink('rheostat.yaml')\n{APP}")
    with governed(folder) as child:
        error = child.event("invalid_config")
        assert ("ERROR", child.process.pid, "shop") == (error["level"], error["pid"], error["application"])
        assert 7 == child.finish()
        assert 1 == len(errors(child.err.rest()))


def test_disabled_leaves_the_application_alone(folder: Path) -> None:
    """With ``disabled: true`` nothing is added to the application's environment, and it has no thread of ours."""
    reconfigure(folder, "version: 1", "version: 1\ndisabled: true")
    assert_untouched(folder)
    assert "" == ended(run("true"), folder).stderr


def test_agent_that_is_not_installed(folder: Path) -> None:
    """The log names the exact command that installs it, once, and the service is unharmed."""
    reconfigure(folder, "noop", "pyroscope")
    (folder / "sitecustomize.py").write_text("import sys; sys.modules['pyroscope'] = None\n")
    with governed(folder, env={"PYTHONPATH": str(folder)}) as child:
        failed = child.event("start_failed")
        assert "pip install 'rheostat[pyroscope]'" in failed["message"]
        assert 7 == child.finish()
        assert [failed] == [each for each in child.events() if each["event"] == "start_failed"]


# A sitecustomize that was there before


def test_existing_sitecustomize_runs(folder: Path) -> None:
    """The sitecustomize that the bootstrap hides runs as ever, and is the one that the application sees."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import json as imported\nRAN = (__name__, __file__)\n")
    (folder / "app.py").write_text(f"import sitecustomize\nprint(*sitecustomize.RAN)\n{APP}")
    with governed(folder, env={"PYTHONPATH": str(site)}) as child:
        assert f"sitecustomize {site / 'sitecustomize.py'}" == child.out.next()
        running(child)
        assert 7 == child.finish()


@pytest.mark.parametrize(
    "raised", ["RuntimeError('boom')", "ImportError('boom')", "ImportError('b', name='sitecustomize')"]
)
def test_sitecustomize_that_raises(folder: Path, raised: str) -> None:
    """The interpreter treats a sitecustomize that raises as ever, and the process is governed."""
    # The launcher is a Python too; only the application's shall raise.
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"import sys\nif 'run' not in sys.orig_argv:\n    raise {raised}\n")
    plain = ended([sys.executable, "app.py"], folder, {"PYTHONPATH": str(site)})
    with governed(folder, env={"PYTHONPATH": str(site)}) as child:
        running(child)
        assert 7 == plain.returncode == child.finish()
        assert plain.stderr.splitlines() == [line for line in child.err.rest() if not parsed(line)]


def test_sitecustomize_that_exits(folder: Path) -> None:
    """A sitecustomize that leaves by SystemExit does what it does without the launcher."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys\nif 'run' not in sys.orig_argv:\n    raise SystemExit(9)\n")
    plain = ended([sys.executable, "app.py"], folder, {"PYTHONPATH": str(site)})
    under = ended(run(sys.executable, "app.py"), folder, {"PYTHONPATH": str(site)})

    assert (plain.returncode, plain.stdout) == (under.returncode, under.stdout)


# What a process pays


def test_short_lived_process_imports_nothing(folder: Path) -> None:
    """A process that ends before ``start_after`` has imported what waits, and nothing else of Rheostat."""
    reconfigure(folder, "start_after: 50ms", f"start_after: {LONG}")
    (folder / "app.py").write_text(
        "import atexit, json, sys\n"
        "ours = ('rheostat', 'rheostat_backends', 'rheostat_flagsources', 'yaml', 'transitions')\n"
        "@atexit.register\n"
        "def tell():\n"
        "    print(json.dumps([m for m in sys.modules if m.partition('.')[0] in ours]))\n"
    )
    ran = ended(run(sys.executable, "app.py"), folder)

    assert (0, "") == (ran.returncode, ran.stderr)
    waits = {f"rheostat._host.{each}" for each in ("native", "execution", "control_thread", "fork_warnings")}
    assert {*json.loads(ran.stdout)} <= {"rheostat", "rheostat._host", *waits}


@pytest.mark.parametrize(
    ("selection", "is_governed"),
    [
        ('{skip: ["*app.py*"]}', False),
        ('{skip: ["*other.py*", "ROLE=worker"]}', True),
        ('{skip: ["ROLE=*"]}', False),
        ('{match: ["*app.py"]}', True),
        ('{match: ["*gunicorn*"]}', False),
        ('{of: all, match: ["ROLE=api"], skip: ["*pip*"]}', True),
    ],
)
def test_processes_are_selected_by_command_line_and_environment(
    folder: Path, selection: str, is_governed: bool
) -> None:
    """One that is left alone has not even read the configuration; nothing is said of it."""
    reconfigure(folder, "policy: {", f"policy: {{processes: {selection}, ")
    (folder / "app.py").write_text(
        "import sys, threading, time\n"
        "time.sleep(0.1)\n"
        "while any(each.name == 'rheostat' for each in threading.enumerate()) and 'transitions' not in sys.modules:\n"
        "    time.sleep(0.01)\n"
        "print('transitions' in sys.modules, 'yaml' in sys.modules)\n"
    )
    ran = ended(run(sys.executable, "app.py"), folder, {"ROLE": "api"})
    assert f"{is_governed} {is_governed}\n" == ran.stdout
    assert is_governed or ran.stderr == ""


def test_waiting_thread_has_our_name(folder: Path) -> None:
    """Until ``start_after`` is over there is one thread more, a daemon named rheostat."""
    reconfigure(folder, "start_after: 50ms", f"start_after: {LONG}")
    (folder / "app.py").write_text(
        "import threading\nprint([(each.name, each.daemon) for each in threading.enumerate()])\n"
    )

    expected = [("MainThread", False), ("rheostat", True)]
    assert f"{expected}\n" == ended(run(sys.executable, "app.py"), folder).stdout


def test_one_thread_in_the_steady_state(folder: Path) -> None:
    """While it runs there is one thread more, named rheostat."""
    (folder / "app.py").write_text(
        "import sys, threading\nsys.stdin.readline()\nprint(sorted(each.name for each in threading.enumerate()))\n"
    )
    with governed(folder) as child:
        running(child)
        child.tell("go on")
        line = child.out.next()
        assert 0 == child.finish()
    assert line is not None
    # Those of a start and of a file that is written may just be ending.
    ending = ("rheostat-call", "rheostat-files")
    assert ["MainThread", "rheostat"] == [name for name in re.findall(r"'([\w-]+)'", line) if name not in ending]


def test_python_without_rheostat(folder: Path) -> None:
    """Another Python below, which lacks Rheostat, runs unprofiled and says so in one line of the chosen format."""
    reconfigure(folder, "application: shop\n", "application: shop\ntags: {role: api}\n")
    venv.create(folder / "other", with_pip=False, symlinks=True)
    with governed(folder, str(folder / "other" / "bin" / "python"), "app.py") as child:
        line = child.err.next()
        assert 7 == child.finish()
    assert line is not None
    assert "runs unprofiled" in line
    found = parsed(line)
    assert ("ERROR", child.process.pid) == (found.get("level"), found.get("pid"))
    assert ("shop", {"role": "api"}) == (found.get("application"), found.get("tags"))


def test_python_without_rheostat_tells_no_secret(folder: Path) -> None:
    """A secret that a tag holds, too, is masked in the one line of a process that cannot read the configuration."""
    reconfigure(folder, "{kind: noop}", '{kind: pyroscope, auth_token: "${TOKEN}"}')
    reconfigure(folder, "application: shop\n", 'application: shop\ntags: {token: "${TOKEN}"}\n')
    venv.create(folder / "other", with_pip=False, symlinks=True)
    with governed(folder, str(folder / "other/bin/python"), "app.py", env={"TOKEN": "hunter22"}) as child:
        assert {"token": "***"} == child.event("start_failed")["tags"]
        assert 7 == child.finish()


# The log

ALWAYS = {"time", "level", "event", "pid", "message", "application", "instance", "tags"}
OF_A_TRANSITION = {"seq", "from", "to", "trigger", "cause", "settings", "adjustments", "duration_ms"}


def test_flags_flip(folder: Path) -> None:
    """Edits of the flags file lead through running, restarting and running to stopped, each move logged once."""
    flip(folder, OFF)
    with governed(folder) as child:
        assert f"up {child.process.pid}" == child.out.next()
        flip(folder, ON)
        started = running(child)
        flip(folder, f"{ON}profiling_sample_rate: 97\n")
        restarting = child.event("transition", to="restarting")
        retuned = running(child)
        flip(folder, f"{OFF}profiling_sample_rate: 97\n")
        stopped = child.event("transition", to="stopped")
        assert 7 == child.finish()
        events = child.events()

    assert [
        (1, "stopped", "running", "started"),
        (2, "running", "restarting", "retune"),
        (3, "restarting", "running", "started"),
        (4, "running", "stopped", "stopped"),
    ] == moves(events)
    assert [{"sample_rate": 20}, {"sample_rate": 97}, {}] == [e["settings"] for e in (started, retuned, stopped)]
    change = {"kind": "flag", "flag": "profiling_sample_rate", "old": None, "new": 97, "detail": ""}
    assert change == restarting["cause"] == retuned["cause"]
    off = {"kind": "flag", "flag": "profiling_enabled", "old": True, "new": False, "detail": ""}
    assert off == stopped["cause"]
    assert {child.process.pid} == {each["pid"] for each in events}


def test_fields_of_the_json_log(folder: Path) -> None:
    """Every line is one JSON object with the documented fields, of the documented types."""
    flip(folder, f"{ON}profiling_sample_rate: 1000\n")
    with governed(folder) as child:
        running(child)
        assert 7 == child.finish()
        events = child.events()

    adjustment = {"setting": "sample_rate", "asked": 1000, "given": 250, "rule": "max 250 (clamp)"}
    assert ["adjusted", "transition", "transition", "closed"] == [event["event"] for event in events]
    adjusted, started, stopped, closed = events
    assert {**adjustment, "level": "WARNING"} == {k: adjusted[k] for k in adjusted if k not in ALWAYS - {"level"}}
    assert ALWAYS | OF_A_TRANSITION == set(started) == set(stopped)
    assert ALWAYS == set(closed)
    assert [adjustment] == started["adjustments"]
    assert {"sample_rate": 250} == started["settings"]
    assert ["kind", "flag", "old", "new", "detail"] == list(started["cause"])
    assert isinstance(started["duration_ms"], int | float)
    assert started["duration_ms"] >= 0
    assert ("close", {}, []) == (stopped["cause"]["kind"], stopped["settings"], stopped["adjustments"])
    for event in events:
        assert timedelta(0) == datetime.fromisoformat(event["time"]).utcoffset()
        assert event["time"].endswith("Z")
        assert child.process.pid == event["pid"]
        assert "\n" not in event["message"]


def test_lines_of_a_fleet_can_be_told_apart(folder: Path) -> None:
    """Each line of JSON says of which application and instance it is, with which tags, as the launcher was told."""
    reconfigure(folder, "application: shop\n", "application: shop\ninstance: a\ntags: {role: api}\n")
    options = ["--tag", "version=7", "--instance", "pod-3"]
    with Child(run(sys.executable, "app.py", options=options), folder) as child:
        running(child)
        assert 7 == child.finish()
        events = child.events()

    who = {"application": "shop", "instance": "pod-3", "tags": {"role": "api", "version": "7"}}
    assert [who] * len(events) == [{name: event[name] for name in who} for event in events]


def test_a_launcher_below_another_is_told_its_own_instance(folder: Path) -> None:
    """The arguments of the outer one are not for the inner one's service."""
    reconfigure(folder, "application: shop\n", "application: shop\ninstance: a\n")
    # The inner launcher has become its service before it would be governed itself.
    reconfigure(folder, "start_after: 50ms", "start_after: 1s")
    with Child(run(*run(sys.executable, "app.py"), options=["--instance", "pod-3"]), folder) as child:
        assert "a" == running(child)["instance"]
        assert 7 == child.finish()


def test_the_json_line_of_the_reference(folder: Path) -> None:
    """It has the fields that a real one has, in their order, and those of its parts."""
    text = (Path(__file__).parents[2] / "docs/reference.md").read_text()
    shown = json.loads(text.partition("```json\n")[2].partition("```")[0])
    flip(folder, f"{ON}profiling_sample_rate: 1000\n")
    with governed(folder) as child:
        made = running(child)
        assert 7 == child.finish()

    assert list(made) == list(shown)
    for name in ("cause", "settings"):
        assert made[name].keys() <= shown[name].keys()
    assert [list(each) for each in made["adjustments"]] == [list(each) for each in shown["adjustments"]]


def test_text_log(folder: Path) -> None:
    """The default is one line of text for each record, with time, level and pid."""
    command = [*RHEOSTAT, "run", "--config", "rheostat.yaml", "--", sys.executable, "app.py"]
    with Child(command, folder) as child:
        line = child.err.until(lambda line: "running" in line)
        assert 7 == child.finish()
    pattern = r"\d{4}-\d\d-\d\dT[0-9:.]+Z INFO rheostat\[(\d+)\]: stopped -> running \(\d+ ms\): (.*)"
    match = re.fullmatch(pattern, line)
    assert match is not None, line
    assert (str(child.process.pid), "profiling_enabled unset -> true; sample_rate=20") == match.groups()


LOGGING = """\
import logging
import os
import sys


class Handler(logging.Handler):
    def emit(self, record):
        event, to = getattr(record, "rheostat_event", ""), getattr(record, "rheostat_to", "")
        print(record.name, record.levelname, event, to, flush=True)


logger = logging.getLogger("rheostat")
logger.addHandler(Handler())
logger.setLevel("INFO")
sys.stdin.read()
"""


def test_log_none_is_the_application_s_own_logging(folder: Path) -> None:
    """With --log none the records go to the logger rheostat of the application, and nothing to stderr."""
    (folder / "app.py").write_text(LOGGING)
    with Child(run(sys.executable, "app.py", log="none"), folder) as child:
        child.out.until(lambda line: line == "rheostat INFO transition running")
        assert 0 == child.finish()
        assert ["rheostat INFO transition stopped", "rheostat INFO closed "] == child.out.rest()[-2:]
        assert [] == child.err.rest()


def test_log_survives_a_dict_config(folder: Path) -> None:
    """A host whose ``dictConfig`` disables every logger still gets the lines of --log json."""
    (folder / "app.py").write_text(
        "import logging, logging.config, sys\nsys.stdin.readline()\nlogging.config.dictConfig({'version': 1})\n"
        "print(logging.getLogger('rheostat').disabled, flush=True)\nsys.stdin.read()\n"
    )
    with governed(folder) as child:
        running(child)
        child.tell("configure logging")
        assert "True" == child.out.next()
        flip(folder, OFF)
        child.event("transition", to="stopped")
        assert 0 == child.finish()


# An application that starts Rheostat itself

STARTER = """\
import sys

import rheostat

print("up", flush=True)
found = []
for line in sys.stdin:
    try:
        found.append(rheostat.start(**eval(line)))
        status = found[-1].status()
        print(status.state, status.seq, found[-1] is found[0], flush=True)
    except rheostat.AlreadyRunning as error:
        print(f"AlreadyRunning: {error}", flush=True)
"""

EARLY = """\
import sys
import threading

(launcher,) = (each for each in threading.enumerate() if each.name == "rheostat")
import rheostat

mine = rheostat.start(**{{{asked}}})
launcher.join(20)
print(mine.status().state, flush=True)
sys.stdin.read()
"""

TOLD = ("--tag", "role=api", "--instance", "pod-3")
AS_TOLD = "'config': 'rheostat.yaml', 'tags': {'role': 'api'}, 'instance': 'pod-3'"


def test_start_in_a_governed_process_gives_what_governs_it(folder: Path) -> None:
    """With the launcher's file, tags and instance; with any other it is refused, and the profiler runs on."""
    (folder / "app.py").write_text(STARTER)
    with Child(run(sys.executable, "app.py", options=TOLD), folder) as child:
        running(child)
        child.out.until(lambda line: line == "up")
        for asked in (AS_TOLD, "'config': 'rheostat.yaml'", "'config': 'other.yaml'", AS_TOLD):
            child.tell(f"{{{asked}}}")
        said = [child.out.next() for _ in range(4)]
        assert 0 == child.finish()
        events = child.events()

    assert ["running 1 True"] * 2 == [said[0], said[3]]
    refused = f"AlreadyRunning: Rheostat already runs in this process with {folder / 'rheostat.yaml'}, tags "
    assert [True, True] == [str(each).startswith(refused) for each in said[1:3]]
    assert ["transition", "transition", "closed"] == [each["event"] for each in events]


@pytest.mark.parametrize(("asked", "said"), [(AS_TOLD, []), ("'config': 'rheostat.yaml'", ["already_running"])])
def test_start_before_the_launcher_s_is_the_one_that_counts(folder: Path, asked: str, said: list[str]) -> None:
    """The launcher, `start_after` later, leaves it alone, with a warning if it would have governed otherwise."""
    reconfigure(folder, "start_after: 50ms", "start_after: 2s")
    (folder / "app.py").write_text(EARLY.format(asked=asked))
    with Child(run(sys.executable, "app.py", options=TOLD), folder) as child:
        assert "running" == child.out.next()
        assert 0 == child.finish()
        assert [("WARNING", each) for each in said] == [(each["level"], each["event"]) for each in child.events()]


# Plug-ins of the application's own

THIRD_PARTY = """\
import json
import os
from pathlib import Path

from rheostat.plugins import Reading

HERE = Path(__file__).parent


class Switch:
    Options = dict
    poll_interval = 0.01

    def __init__(self, options, identity):
        self.file = HERE / options["file"]

    def open(self, changed):
        pass

    def read(self, wanted):
        return Reading({"profiling_enabled": self.file.exists()})

    def close(self):
        pass


class Unbuildable(Switch):
    def __init__(self, options, identity):
        print("tried", flush=True)
        raise RuntimeError("no route to the flags")


class Leaving(Switch):
    def __init__(self, options, identity):
        print("tried", flush=True)
        raise SystemExit(9)


class Unreadable(Switch):
    def read(self, wanted):
        print("tried", flush=True)
        raise KeyError("odd")


class Recorder:
    Options = dict
    parameters = None

    def __init__(self, options, identity):
        self.identity = identity

    def note(self, word):
        record = [word, dict(self.identity.tags), self.identity.application, self.identity.pid]
        (HERE / word).write_text(json.dumps(record))
        print(word, flush=True)

    def start(self, settings):
        self.note("start")

    def stop(self):
        self.note("stop")
"""


def third_party(folder: Path, source: str | None = None, backend: str | None = None) -> None:
    (folder / "third_party.py").write_text(THIRD_PARTY)
    if source is not None:
        reconfigure(folder, "kind: yaml, path: flags.yaml, poll_interval: 10ms", f"kind: '{source}', file: switch")
    if backend is not None:
        reconfigure(folder, "kind: noop", f"kind: '{backend}'")


@pytest.mark.parametrize("command_in", [as_script, as_module])
def test_plug_ins_beside_the_application(folder: Path, command_in: CommandIn) -> None:
    """A source and a backend that live beside the application are found from there."""
    third_party(folder, "third_party:Switch", "third_party:Recorder")
    with governed(folder, *command_in(folder)) as child:
        child.out.next()
        (folder / "switch").touch()
        running(child)
        assert "start" == json.loads((folder / "start").read_text())[0]
        (folder / "switch").unlink()
        child.event("transition", to="stopped")
        assert "stop" == json.loads((folder / "stop").read_text())[0]
        assert 7 == child.finish()


def test_tags_reach_the_backend(folder: Path) -> None:
    """Each --tag is added to the configuration's tags, and wins over one of the same name."""
    third_party(folder, backend="third_party:Recorder")
    reconfigure(folder, "application: shop", "application: shop\ntags: {role: api, region: us}")
    options = ["--tag", "region=eu", "--tag", "version=a=b c", "--tag", "empty=", "--tag", "ö=ü"]
    with Child(run(sys.executable, "app.py", options=options), folder) as child:
        running(child)
        assert 7 == child.finish()

    tags = {"role": "api", "region": "eu", "version": "a=b c", "empty": "", "ö": "ü"}
    assert ["start", tags, "shop", child.process.pid] == json.loads((folder / "start").read_text())


@pytest.mark.parametrize("take", ["sys.stderr = None", "sys.stderr.close()", "sys.stderr = open(os.devnull, 'w')"])
def test_application_may_do_anything_with_stderr(folder: Path, take: str) -> None:
    """An application that replaces or closes its ``sys.stderr`` is governed, and not harmed."""
    third_party(folder, backend="third_party:Recorder")
    (folder / "app.py").write_text(f"import os, sys\n{take}\n{APP}")
    with governed(folder) as child:
        child.out.until(lambda line: line == "start")
        flip(folder, OFF)
        child.out.until(lambda line: line == "stop")
        assert 7 == child.finish()


@pytest.mark.parametrize(
    "kind",
    ["nowhere:Source", "third_party:Nobody", "raiser:Source", "leaver:Source", "typo:Source", "third_party:Recorder"],
)
def test_class_that_cannot_be_used(folder: Path, kind: str) -> None:
    """A class that is missing, fails to import or is unfit is one ERROR with its place; the service is unharmed."""
    third_party(folder, kind)
    (folder / "raiser.py").write_text("raise RuntimeError('boom')\n")
    (folder / "leaver.py").write_text("import sys; sys.exit(9)\n")
    (folder / "typo.py").write_text("class Source\n")
    with governed(folder) as child:
        error = child.event("invalid_config")
        assert "ERROR" == error["level"]
        assert f"{folder / 'rheostat.yaml'}:3:16: source.kind: found '{kind}', which cannot be used" in error["message"]
        assert 7 == child.finish()
        assert 1 == len(errors(child.err.rest()))


@pytest.mark.parametrize(
    ("kind", "why"), [("Unbuildable", "RuntimeError: no route to the flags"), ("Leaving", "SystemExit: 9")]
)
def test_constructor_that_raises(folder: Path, kind: str, why: str) -> None:
    """A class whose constructor raises is tried again and again, with one ERROR; the service is unharmed."""
    third_party(folder, f"third_party:{kind}")
    with governed(folder) as child:
        for _ in range(3):
            child.out.until(lambda line: line == "tried")
        assert 7 == child.finish()
        (error,) = errors(child.err.rest())
    assert why in parsed(error)["message"]


def test_source_that_raises(folder: Path) -> None:
    """A source whose read raises is asked again and again, with one line; the service is unharmed and unprofiled."""
    third_party(folder, "third_party:Unreadable")
    with governed(folder) as child:
        for _ in range(3):
            child.out.until(lambda line: line == "tried")
        assert 7 == child.finish()
        events = child.events()
    assert ["source_unavailable", "closed"] == [event["event"] for event in events]
    assert "KeyError: 'odd'" in events[0]["message"]


@pytest.mark.parametrize("layer", ["Unbuildable", "Leaving"])
def test_a_simulation_says_what_a_process_says(folder: Path, monkeypatch: pytest.MonkeyPatch, layer: str) -> None:
    """With a layer that cannot be built both complain of it, with the same words, and run as the other layers say."""
    (folder / "third_party.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "third_party", raising=False)
    good = '{kind: "rheostat.testing:ScriptedSource", profiling_enabled: true, profiling_sample_rate: 9999}'
    reconfigure(
        folder,
        "{kind: yaml, path: flags.yaml, poll_interval: 10ms}",
        f"{{kind: layers, layers: [{{kind: 'third_party:{layer}', file: switch}}, {good}]}}",
    )
    reconfigure(folder, "kind: noop", 'kind: "rheostat.testing:ProbedBackend"')
    reconfigure(folder, "sample_rate: {", "rate: {")
    reconfigure(folder, "application: shop\n", "application: shop\ninstance: a\n")
    with governed(folder) as child:
        running(child)
        real = [parsed(line) for line in child.err.seen]
        assert 7 == child.finish()
    with Simulation((folder / "rheostat.yaml").read_text()) as it:
        it.advance(1.0)
        simulated = [{**line.fields, "event": line.event, "message": line.message} for line in it.log.lines]
        assert ({"rate": 250}, 1) == (it.backend.session, len(it.sources))

    assert ["source_unavailable", "adjusted", "transition"] == [each["event"] for each in real]
    assert "it could not be built" in real[0]["message"]
    assert [_lasting(each) for each in real] == [_lasting(each) for each in simulated]


def _lasting(event: Event) -> Event:
    """Without what differs from one process to the next."""
    message = re.sub(r"\(\d+ ms\)", "", event["message"])
    left_out = {"time", "level", "pid", "duration_ms"}
    return {name: value for name, value in event.items() if name not in left_out} | {"message": message}


def test_flags_file_that_comes_and_goes(folder: Path) -> None:
    """A service without its flags file is profiled when that comes; that it goes again is not said within a minute."""
    (folder / "flags.yaml").unlink()
    with governed(folder) as child:
        assert str(folder / "flags.yaml") in child.event("source_unavailable")["message"]
        flip(folder, ON)
        child.event("source_recovered")
        running(child)
        (folder / "flags.yaml").unlink()
        flip(folder, OFF)
        child.event("transition", to="stopped", seq=2)
        assert 7 == child.finish()
        assert 1 == [event["event"] for event in child.events()].count("source_unavailable")


def test_kill_switch(folder: Path) -> None:
    """While the file of the kill switch exists, profiling is off, and the log says why."""
    reconfigure(folder, "policy: {", "policy: {kill_switch: off.now, ")
    with governed(folder) as child:
        running(child)
        (folder / "off.now").touch()
        assert "kill_switch" == child.event("transition", to="stopped")["cause"]["kind"]
        (folder / "off.now").unlink()
        assert "kill_switch" == running(child)["cause"]["kind"]
        assert 7 == child.finish()
