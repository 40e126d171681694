"""Interpreters below ``rheostat run`` that cannot be governed: untouched, and not in silence."""

import os
import re
import shutil
import sys
import venv
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from subprocess import run as run_to_its_end

import pytest

from support.children import RHEOSTAT, Child, ended, parsed

CONFIG = """\
version: 1
application: shop
source: {kind: yaml, path: flags.yaml}
backend: {kind: noop}
enabled: {flag: profiling_enabled, default: false}
policy: {start_after: 0s}
"""

RUN = [*RHEOSTAT, "run", "--config", "rheostat.yaml", "--log", "json", "--"]
# Ends once the launcher's thread has said what it has to say, whatever that is.
APP = """\
import sys
import threading

print("served")
for each in threading.enumerate():
    if each.name == "rheostat":
        each.join(20)
sys.exit(7)
"""


def others() -> list[str]:
    """Interpreters that are too old, of those that this machine has."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*root.glob("[23].*/bin/python"), *map(Path, ("/usr/bin/python2.7", "/usr/bin/python3"))]
    return [str(each) for each in found if each.exists() and is_old(each)]


def is_old(python: Path) -> bool:
    code = "import sys; sys.exit(not ((2, 7) <= sys.version_info < (3, 11)))"
    return run_to_its_end([python, "-c", code], capture_output=True).returncode == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rheostat.yaml").write_text(CONFIG)
    (tmp_path / "flags.yaml").write_text("profiling_enabled: true\n")
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.fixture
def bare(folder: Path) -> str:
    """A Python without Rheostat."""
    venv.create(folder / "bare", with_pip=False, symlinks=True)
    return str(folder / "bare" / "bin" / "python")


def said(stderr: str) -> list[str]:
    return [str(each["message"]) for each in map(parsed, stderr.splitlines()) if each.get("level") == "ERROR"]


def test_one_that_lacks_rheostat_says_what_to_do(folder: Path, bare: str) -> None:
    """It runs as ever, and one line has the command that installs Rheostat there."""
    ran = ended([*RUN, bare, "app.py"], folder, {"TMPDIR": str(folder / "tmp")})
    assert (7, "served\n") == (ran.returncode, ran.stdout)
    (message,) = said(ran.stderr)
    assert f"{bare} -m pip install rheostat" in message
    assert message.endswith("this process runs unprofiled")


@pytest.mark.parametrize("has_folder", [True, False], ids=["", "no place for the mark"])
def test_children_do_not_say_it_again(folder: Path, bare: str, has_folder: bool) -> None:
    """Children of a process that has said it do not say it too, even where no file can be made."""
    (folder / "parent.py").write_text(
        "import subprocess, sys\nexec(open('app.py').read().replace('sys.exit(7)', ''))\n"
        "sys.exit(subprocess.call([sys.executable, 'app.py']))\n"
    )
    env = {"TMPDIR": str(folder / ("tmp" if has_folder else "nowhere"))}
    ran = ended([*RUN, bare, "parent.py"], folder, env)
    assert (7, "served\nserved\n") == (ran.returncode, ran.stdout)
    assert 1 == len(said(ran.stderr))


def test_siblings_say_it_once(folder: Path, bare: str) -> None:
    """Of the processes that a shell starts, together or one after the other, one says it; of the next command too."""
    env = {"TMPDIR": str(folder / "tmp")}
    script = '"$0" app.py & "$0" app.py & wait; "$0" app.py; "$0" app.py'
    for _ in range(2):
        ran = ended([*RUN, "sh", "-c", script, bare], folder, env)
        assert (7, 4) == (ran.returncode, ran.stdout.count("served"))
        assert 1 == len(said(ran.stderr))


def test_a_mark_that_is_left_of_another_process(folder: Path, bare: str) -> None:
    """Pids come again: a file that a process of the same pid has left does not keep this command silent."""
    script = "import os, sys; mark = sys.argv[1].replace('PID', str(os.getpid())); open(mark, 'w').close(); "
    name = f"rheostat-{os.uname().nodename}-{os.getuid()}-PID"
    starts = [sys.executable, "-c", f"{script}os.execvp(sys.argv[2], sys.argv[2:])", str(folder / "tmp" / name)]
    ran = ended([*starts, *RUN, bare, "app.py"], folder, {"TMPDIR": str(folder / "tmp")})
    assert 1 == len(said(ran.stderr))


def test_the_mark_follows_no_link(folder: Path, bare: str) -> None:
    """Whatever somebody else has put into the temporary folder, nothing is made elsewhere."""
    target = folder / "made"
    (folder / "link.py").write_text(
        f"import os\nos.symlink({str(target)!r}, os.environ['RHEOSTAT_SAID'])\n"
        f"os.execv({bare!r}, [{bare!r}, 'app.py'])\n"
    )
    ran = ended([*RUN, bare, "-S", "link.py"], folder, {"TMPDIR": str(folder / "tmp")})
    assert 7 == ran.returncode
    assert not target.exists()


NONE_HERE = pytest.param("", marks=pytest.mark.skip("no Python before 3.11 on this machine"))


@pytest.fixture(params=others() or [NONE_HERE])  # type: ignore[list-item]
def old(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_old_python_says_so(folder: Path, old: str) -> None:
    """It runs as it does without, and one line says which version it is and what is needed."""
    env = {"TMPDIR": str(folder / "tmp")}
    ran = ended([*RUN, "sh", "-c", '"$0" app.py; "$0" app.py', old], folder, env)
    assert (7, "served\nserved\n") == (ran.returncode, ran.stdout)
    (message,) = said(ran.stderr)
    assert re.search(
        r"needs CPython 3\.11 or later, and .* is \w+ [23]\.\d+: .*; this process runs unprofiled", message
    )


def test_an_old_python_runs_its_own_sitecustomize(folder: Path, old: str) -> None:
    """The one that the launcher's place on the path hides, once, and as the module that the application sees."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import json\nprint(__name__)\n")
    (folder / "app.py").write_text("print('up')\nimport sitecustomize\nprint(sorted(vars(sitecustomize))[-1])\n")
    env = {"PYTHONPATH": str(site), "TMPDIR": str(folder / "tmp")}
    ran = ended([*RUN, old, "app.py"], folder, env)
    launcher, application, *rest = ran.stdout.splitlines()
    assert ["sitecustomize"] * 2 == [launcher, application]
    assert ["up", "json"] == rest


def test_an_old_python_without_a_sitecustomize(folder: Path, old: str) -> None:
    """That there is none to run is no error: the one line is about its version."""
    ran = ended([*RUN, old, "-c", "print('served')"], folder, {"TMPDIR": str(folder / "tmp")})
    assert (0, "served\n", 1) == (ran.returncode, ran.stdout, ran.stderr.count("\n"))


@pytest.fixture
def foreign(folder: Path) -> Path:
    """The agent's package as a wheel for another Python leaves it."""
    import pyroscope

    package = Path(str(pyroscope.__file__)).parent
    shutil.copytree(package, folder / "site" / "pyroscope", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (extension,) = package.glob("_native.*.so")
    tags = extension.name.split(".")[1]
    other = folder / "site" / "pyroscope" / extension.name.replace(tags, "cpython-310-x86_64-linux-gnu")
    other.symlink_to(extension)
    config = folder / "rheostat.yaml"
    config.write_text(CONFIG.replace("noop", "pyroscope"))
    return other


def tags() -> str:
    return EXTENSION_SUFFIXES[0].split(".")[1]


def test_an_agent_that_is_built_for_another_python(folder: Path, foreign: Path) -> None:
    """The service is told that the agent's build is wrong, not that the agent is missing; `check` finds it too."""
    env = {"PYTHONPATH": str(foreign.parents[1])}
    (folder / "app.py").write_text("import sys\nsys.stdin.read()\n")
    with Child([*RUN, sys.executable, "app.py"], folder, env) as child:
        message = str(child.event("start_failed")["message"])
        assert 0 == child.finish()
    checked = ended([*RHEOSTAT, "check", "rheostat.yaml"], folder, env)
    for each in (message, checked.stdout):
        assert f"pyroscope/{foreign.name} is built for another Python than {tags()}" in each
        assert f"{sys.executable} -m pip install --force-reinstall 'rheostat[pyroscope]'" in each
    assert 1 == checked.returncode
