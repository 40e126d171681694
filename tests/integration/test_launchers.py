"""Other launchers and start-up hooks above and below ``rheostat run``: all of them work, each exactly once."""

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

import rheostat
import rheostat_backends
import rheostat_flagsources
from support.children import RHEOSTAT, Child, ended, parsed

CONFIG = """\
version: 1
application: shop
source: {kind: yaml, path: flags.yaml, poll_interval: 10ms}
backend: {kind: noop}
enabled: {flag: profiling_enabled, default: false}
policy: {start_after: 50ms}
"""

APP = """\
import logging
import sys
import threading


class Handler(logging.Handler):
    def emit(self, record):
        begun.set()


begun = threading.Event()
logging.getLogger("rheostat.noop").addHandler(Handler())
logging.getLogger("rheostat.noop").setLevel("INFO")
with open("flags.yaml", "w") as flags:
    flags.write("profiling_enabled: true")
begun.wait(15)
print(EFFECT, flush=True)
sys.stdin.read()
"""

SCRIPTS = Path(sys.executable).parent
RUN = [*RHEOSTAT, "run", "--config", "rheostat.yaml", "--log", "json", "--"]

OPENTELEMETRY = [str(SCRIPTS / "opentelemetry-instrument")]
QUIET = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
PROVIDER = "type(__import__('opentelemetry.trace').trace.get_tracer_provider()).__module__"
SDK = "opentelemetry.sdk.trace"

BARE = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
COPIED = os.pathsep.join(
    [
        *(str(Path(str(each.__file__)).parents[1]) for each in (rheostat, rheostat_backends, rheostat_flagsources)),
        sysconfig.get_path("purelib"),
    ]
)
"""The path of an interpreter that has Rheostat as an image's layer, not installed: no ``.pth`` is read there."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rheostat.yaml").write_text(CONFIG)
    (tmp_path / "flags.yaml").write_text("profiling_enabled: false\n")
    return tmp_path


def seen(folder: Path, command: list[str], effect: str, env: Mapping[str, str] | None = None) -> tuple[str, int]:
    """The other's effect on the application, and how often Rheostat started the profiler for it."""
    (folder / "app.py").write_text(APP.replace("EFFECT", effect))
    with Child(command, folder, env) as child:
        shown = child.out.next()
        assert 0 == child.finish()
        events = child.events()
    assert [] == [each for each in events if each["level"] in ("WARNING", "ERROR")]
    return str(shown), [each.get("to") for each in events].count("running")


def test_opentelemetry_below(folder: Path) -> None:
    """OpenTelemetry's sitecustomize, which comes before Rheostat's and ends there, hides nothing."""
    command = [*RUN, *OPENTELEMETRY, sys.executable, "app.py"]
    assert (SDK, 1) == seen(folder, command, PROVIDER, QUIET)


def test_opentelemetry_above(folder: Path) -> None:
    """A service below both is instrumented and governed."""
    command = [*OPENTELEMETRY, "--", *RUN, sys.executable, "app.py"]
    assert (SDK, 1) == seen(folder, command, PROVIDER, QUIET)


def test_a_launcher_above_that_withdraws(folder: Path) -> None:
    """One that takes itself off the path in the first Python it meets, as OpenTelemetry's did, reaches the service."""
    other = folder / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import os\nSERVED = os.environ.pop('PYTHONPATH')\n")
    effect = "__import__('sitecustomize').SERVED.count('other')"
    assert ("1", 1) == seen(folder, [*RUN, sys.executable, "app.py"], effect, {"PYTHONPATH": str(other)})


def test_opentelemetry_above_where_rheostat_is_not_installed(folder: Path) -> None:
    """A Rheostat that was only copied needs no more than PYTHONPATH while nothing comes before it."""
    command = [*OPENTELEMETRY, "--", *RUN, BARE, "app.py"]
    assert (SDK, 1) == seen(folder, command, PROVIDER, {**QUIET, "PYTHONPATH": COPIED})


def test_one_that_hides_rheostat_where_it_is_not_installed(folder: Path) -> None:
    """One line says that the service runs unprofiled, and what to do."""
    (folder / "app.py").write_text("print('served')\n")
    command = [*RUN, BARE, *OPENTELEMETRY, BARE, "app.py"]
    ran = ended(command, folder, {**QUIET, "PYTHONPATH": COPIED})
    assert (0, "served\n") == (ran.returncode, ran.stdout)
    (said,) = (each for each in map(parsed, ran.stderr.splitlines()) if each["level"] == "ERROR")
    assert "opentelemetry-instrument hides Rheostat" in said["message"]
    assert "opentelemetry-instrument -- rheostat run" in said["message"]


COUNTING = 'import os; os.write(2, b\'{"event": "site"}\\n\')\n'


@pytest.mark.parametrize("nested", [1, 2])
def test_each_sitecustomize_once(folder: Path, nested: int) -> None:
    """Below one launcher or two, the environment's own sitecustomize runs once, and Rheostat begins once."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("with open('runs', 'a') as runs:\n    runs.write('once ')\n")
    command = [*RUN * nested, sys.executable, "app.py"]
    # Each launcher is a Python too.
    assert (str(nested + 1), 1) == seen(folder, command, "open('runs').read().count('once')", {"PYTHONPATH": str(site)})


def test_two_installations(folder: Path) -> None:
    """Below the launchers of two installations the process is governed once."""
    other = folder / "other"
    other.mkdir()
    bootstrap = Path(str(rheostat.__file__)).parent / "bootstrap" / "sitecustomize.py"
    (other / "sitecustomize.py").write_text(bootstrap.read_text())
    (folder / "app.py").write_text(
        "import sys, threading\nprint([each.name for each in threading.enumerate()].count('rheostat'))\n"
        f"print({str(other)!r} in sys.path)\n"
    )
    config = (folder / "rheostat.yaml").read_text()
    (folder / "rheostat.yaml").write_text(config.replace("50ms", "1h"))
    ran = ended([*RUN, sys.executable, "app.py"], folder, {"PYTHONPATH": str(other)})
    assert "1\nFalse\n" == ran.stdout


@pytest.mark.parametrize("order", ["above", "below"])
def test_ddtrace(folder: Path, order: str) -> None:
    """Datadog's launcher, which forgets the modules that were imported while it began, works above and below."""
    config = folder / "rheostat.yaml"
    config.write_text(config.read_text().replace("50ms", "3s"))
    dd = [str(Path(sys.executable).parent / "ddtrace-run")]
    command = [*dd, *RUN] if order == "above" else [*RUN, *dd]
    off = ("DD_TRACE_ENABLED", "DD_INSTRUMENTATION_TELEMETRY_ENABLED", "DD_REMOTE_CONFIGURATION_ENABLED")
    env = dict.fromkeys(off, "false")
    effect = "sys.modules['ddtrace.bootstrap.sitecustomize'].loaded"
    assert ("True", 1) == seen(folder, [*command, sys.executable, "app.py"], effect, env)


def test_usercustomize(folder: Path) -> None:
    """A user's own start-up module runs as ever."""
    packages = Path(sysconfig.get_path("purelib", "posix_user", {"userbase": str(folder / "user")}))
    packages.mkdir(parents=True)
    (packages / "usercustomize.py").write_text("RUNS = 1\n")
    env = {"PYTHONPATH": COPIED, "PYTHONUSERBASE": str(folder / "user")}
    command = [*RUN, BARE, "app.py"]
    assert ("1", 1) == seen(folder, command, "__import__('usercustomize').RUNS", env)


def test_coverage(folder: Path) -> None:
    """The measurement that coverage.py's ``.pth`` starts works in the governed process, and is written once."""
    (folder / "coverage.ini").write_text("[run]\nparallel = true\ndata_file = measured\n")
    env = {"COVERAGE_PROCESS_START": str(folder / "coverage.ini")}
    command = [*RUN, sys.executable, "app.py"]
    assert ("True", 1) == seen(folder, command, "'coverage' in sys.modules", env)
    assert 1 == len([*folder.glob("measured*")])


@pytest.mark.parametrize("option", ["-I", "-E"])
def test_isolated_interpreters_are_left_alone(folder: Path, option: str) -> None:
    """An interpreter that is told to ignore the environment is not governed, installed or not."""
    (folder / "app.py").write_text(
        "import sys, threading\nprint(threading.active_count(), 'bootstrap' in sys.path[0])\n"
    )
    ran = ended([*RUN, sys.executable, option, "app.py"], folder)
    assert (0, "1 False\n") == (ran.returncode, ran.stdout)


def test_the_hook_does_nothing_without_a_launcher() -> None:
    """Elsewhere the interpreters of the environment load no module more, and nothing is on their path."""
    code = (
        "import sys; print([each for each in sys.modules if 'rheostat' in each or each == 'sitecustomize'],"
        " [each for each in sys.path if 'bootstrap' in each])"
    )
    assert "[] []\n" == ended([sys.executable, "-c", code], Path.cwd()).stdout
