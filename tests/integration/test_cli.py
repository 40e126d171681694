import fcntl
import importlib.util
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

import rheostat
from rheostat._cli.commands import main
from support.children import MODULE, PATIENCE, RHEOSTAT, ended, environment

FINE, FINDING, INVALID = 0, 1, 2

CONFIG = """\
version: 1
application: shop
source: {kind: yaml, path: flags.yaml}
backend: {kind: noop}
enabled: {flag: profiling_enabled, default: false}
settings:
  sample_rate: {flag: profiling_sample_rate, default: 20, clamp: {min: 1, max: 250}}
  mode: {flag: profiling_mode, default: gil, clamp: {choices: [gil, cpu, wall], otherwise: default}}
  upload_interval: 10
"""

THIRD_PARTY = """\
from pathlib import Path

from rheostat.plugins import Reading, SourceUnavailable


class Source:
    Options = dict
    poll_interval = None

    def __init__(self, options, identity):
        self.log = Path(__file__).with_name("log")

    def note(self, word):
        with self.log.open("a") as file:
            file.write(word + "\\n")

    def open(self, changed):
        self.note("open")

    def read(self, wanted):
        self.note("read")
        return Reading({"profiling_enabled": True})

    def close(self):
        self.note("close")


class Targeted(Source):
    def __init__(self, options, identity):
        super().__init__(options, identity)
        self.identity = identity

    def read(self, wanted):
        tags = self.identity.tags
        return Reading({"profiling_enabled": tags.get("role") == "api", "profiling_mode": self.identity.instance})


class Knowing(Source):
    def known_flags(self):
        self.note("known_flags")
        return ["profiling_sample_rat", "profiling_mode", 7]


class Silent(Knowing):
    poll_interval = 60

    def read(self, wanted):
        raise SourceUnavailable("no route to the flags")


class Unknowing(Knowing):
    def known_flags(self):
        raise SystemExit("no list of flags")


class Unbuildable(Source):
    def __init__(self, options, identity):
        raise RuntimeError("no route to the flags")


class Unreadable(Source):
    def read(self, wanted):
        raise KeyError("odd")


class Unopenable(Source):
    def open(self, changed):
        raise OSError("no socket left")


class Sampler:
    Options = dict
    parameters = None

    def __init__(self, options, identity):
        self.log = Path(__file__).with_name("log")

    def start(self, settings):
        self.log.write_text("start")

    def stop(self):
        self.log.write_text("stop")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good configuration and flags that switch profiling on."""
    (tmp_path / "rheostat.yaml").write_text(CONFIG)
    (tmp_path / "flags.yaml").write_text("profiling_enabled: true\nprofiling_sample_rate: 97\n")
    return tmp_path


def reconfigure(folder: Path, old: str, new: str) -> None:
    config = folder / "rheostat.yaml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def source_is(folder: Path, kind: str) -> None:
    (folder / "third_party.py").write_text(THIRD_PARTY)
    reconfigure(folder, "kind: yaml, path: flags.yaml", f"kind: 'third_party:{kind}'")


def rows(text: str) -> dict[str, list[str]]:
    """The table of a plan: the cells of each row, by the setting."""
    head, *body = text.partition("\n\n")[0].splitlines()
    starts = [head.index(word) for word in ("setting", "flag", "asked", "given", "rule", "reason")]
    cells = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in body]
    return {row[0]: row[1:] for row in cells}


# The command


@pytest.mark.parametrize("command", [RHEOSTAT, MODULE], ids=["script", "module"])
def test_version(tmp_path: Path, command: tuple[str, ...]) -> None:
    """--version names program and version, as a script and as a module."""
    ran = ended([*command, "--version"], tmp_path)

    assert (FINE, f"rheostat {rheostat.__version__}\n", "") == (ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.parametrize(
    "arguments",
    [[], ["chekc", "rheostat.yaml"], ["check"], ["plan"], ["check", "--log", "json", "rheostat.yaml"], ["run"]],
    ids=" ".join,
)
def test_wrong_usage(folder: Path, arguments: list[str]) -> None:
    """Wrong usage exits with 2, with a usage line on stderr and nothing on stdout."""
    ran = ended([*RHEOSTAT, *arguments], folder)

    assert (INVALID, "") == (ran.returncode, ran.stdout)
    assert ran.stderr.startswith("usage: rheostat")
    assert "rheostat run" in ran.stderr or "error: " in ran.stderr


def test_help_names_every_command(tmp_path: Path) -> None:
    """--help lists the commands."""
    ran = ended([*RHEOSTAT, "--help"], tmp_path)

    assert FINE == ran.returncode
    assert {"run", "check", "plan", "diagram", "demo"} <= set(re.findall(r"^    (\w+) ", ran.stdout, re.MULTILINE))


@pytest.mark.parametrize(
    "arguments", [["diagram"], ["check", "rheostat.yaml"], ["plan", "rheostat.yaml"]], ids=" ".join
)
def test_reader_that_goes_away(folder: Path, arguments: list[str]) -> None:
    """When nobody reads stdout any more, as behind ``| head``, it ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = ended([*RHEOSTAT, *arguments], folder, stdout=writer)
    finally:
        os.close(writer)

    assert (FINE, "") == (ran.returncode, ran.stderr)


# check


def test_help_says_that_online_sends_something(tmp_path: Path) -> None:
    """Who must not let a check write to a server learns from --help and the reference that there is a request."""
    help = " ".join(ended([*RHEOSTAT, "check", "--help"], tmp_path).stdout.split())
    reference = (Path(__file__).parents[2] / "docs/reference.md").read_text()

    sends = "send{} the profiler's server one empty push, with the configured credentials"
    assert sends.format("") in help
    assert sends.format("s") in reference


def test_check_of_a_good_configuration(folder: Path) -> None:
    """A good configuration is called fine, by its full path, and exits with 0."""
    ran = ended([*RHEOSTAT, "check", "rheostat.yaml"], folder)

    assert (FINE, f"{folder / 'rheostat.yaml'}: fine\n", "") == (ran.returncode, ran.stdout, ran.stderr)


def test_check_tells_all_problems_at_once(folder: Path) -> None:
    """Each problem is one line on stderr: file, line, column, path, what was found and expected, the nearest name."""
    (folder / "rheostat.yaml").write_text(
        """\
version: 2
application: shop
aplication: shop
source: {kind: yml, path: flags.yaml}
backend: {kind: pyroscope, server_address: localhost, tenant: me}
enabled: {flag: profiling_enabled, default: maybe}
settings:
  sample_rate: {flag: rate, clamp: {min: 9, max: 3}}
  sample_rat: 3
policy: {cooldown: soon}
"""
    )
    ran = ended([*RHEOSTAT, "check", "rheostat.yaml"], folder)
    found = [line.removeprefix(f"{folder / 'rheostat.yaml'}:") for line in ran.stderr.splitlines()]

    assert (INVALID, "") == (ran.returncode, ran.stdout)
    assert [
        ("1:10", "version", ""),
        ("3:1", "aplication", " (did you mean 'application'?)"),
        ("4:16", "source.kind", " (did you mean 'yaml'?)"),
        ("5:44", "backend.server_address", ""),
        ("5:55", "backend.tenant", " (did you mean 'tenant_id'?)"),
        ("6:45", "enabled.default", ""),
        ("8:42", "settings.sample_rate.clamp.min", ""),
        ("9:3", "settings.sample_rat", " (did you mean 'sample_rate'?)"),
        ("10:20", "policy.cooldown", ""),
    ] == [(*line.split(": ")[:2], (re.findall(r" \(did you mean .*\)$", line) or [""])[0]) for line in found]
    assert all(re.fullmatch(r"[^ ]+: [^ ]+: found .+, expected .+", line) for line in found)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("version: 1\napplication: [", ":"),
        ("", ""),
        ("version: 1\nversion: 1\n", ":2:1"),
        ("application: &a x\ninstance: *a\n", ":2:11"),
    ],
    ids=["syntax", "empty", "duplicate", "alias"],
)
def test_check_of_a_broken_file(folder: Path, content: str, place: str) -> None:
    """A file that is no usable YAML is one line that names the place, and exits with 2."""
    (folder / "rheostat.yaml").write_text(content)
    ran = ended([*RHEOSTAT, "check", "rheostat.yaml"], folder)

    (line,) = ran.stderr.splitlines()
    assert (INVALID, "") == (ran.returncode, ran.stdout)
    assert line.startswith(f"{folder / 'rheostat.yaml'}{place}")
    assert re.search(r": found .+, expected .+", line)


@pytest.mark.parametrize("command", ["check", "plan"])
def test_missing_configuration(tmp_path: Path, command: str) -> None:
    """A configuration that is not there is one line that names it, and exits with 2."""
    ran = ended([*RHEOSTAT, command, "rheostat.yaml"], tmp_path)

    expected = f"{tmp_path / 'rheostat.yaml'}: found No such file or directory, expected a readable file\n"
    assert (INVALID, "", expected) == (ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.parametrize("command", [["check"], ["plan"], ["run", "--strict", "--config"]], ids=" ".join)
def test_working_directory_that_is_gone(tmp_path: Path, command: list[str]) -> None:
    """In a folder that was deleted a relative path is an error in one line, not a traceback."""
    gone = tmp_path / "gone"
    gone.mkdir()
    after = ["--", "true"] if "run" in command else []
    script = 'cd gone && rmdir "$PWD" && exec "$@"'
    ran = ended(["sh", "-c", script, "sh", *RHEOSTAT, *command, "rheostat.yaml", *after], tmp_path)

    assert INVALID == ran.returncode
    assert "Traceback" not in ran.stderr
    assert "rheostat.yaml: found No such file or directory" in ran.stderr


@pytest.mark.parametrize("command", ["check", "plan"])
def test_pipe_as_a_configuration(tmp_path: Path, command: str) -> None:
    """A pipe nobody writes into is refused instead of waited for."""
    os.mkfifo(tmp_path / "rheostat.yaml")
    ran = ended([*RHEOSTAT, command, "rheostat.yaml"], tmp_path)

    assert INVALID == ran.returncode
    assert "expected a regular file" in ran.stderr


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ("server_address: 'ftp://me:hunter2@host'", "server_address"),
        ("server_address: 'me:hunter2@host'", "server_address"),
        ("auth_token: [hunter2]", "auth_token"),
        ("auth_token: hunter2, basic_auth_username: me", "auth_token"),
        ("http_headers: {'A B': hunter2}", "http_headers"),
        ("http_headers: hunter2", "http_headers"),
        ("basic_auth_password: hunter2", "basic_auth_password"),
    ],
)
def test_check_masks_secrets(folder: Path, options: str, wrong: str) -> None:
    """Neither a password in a URL nor a key is shown, however wrong its option is."""
    reconfigure(folder, "{kind: noop}", f"{{kind: pyroscope, {options}}}")
    ran = ended([*RHEOSTAT, "check", "rheostat.yaml"], folder)

    assert INVALID == ran.returncode
    assert f" backend.{wrong}: found " in ran.stderr
    assert "hunter2" not in ran.stdout + ran.stderr


def test_check_names_the_missing_package(folder: Path) -> None:
    """Where the agent is not installed, the finding is the exact command that installs it."""
    reconfigure(folder, "noop", "pyroscope")
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys; sys.modules['pyroscope'] = None\n")
    ran = ended([*RHEOSTAT, "check", "rheostat.yaml"], folder, {"PYTHONPATH": str(site)})

    expected = "backend.kind: the package 'pyroscope' is not installed: pip install 'rheostat[pyroscope]'"
    assert (FINDING, f"{folder / 'rheostat.yaml'}: {expected}\n", "") == (ran.returncode, ran.stdout, ran.stderr)


def test_check_looks_for_the_package_without_importing_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the agent is installed is found out without importing it."""
    reconfigure(folder, "noop", "pyroscope")
    asked: list[str] = []
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        asked.append(name)
        return None if name == "pyroscope" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setitem(sys.modules, "pyroscope", None)

    assert FINDING == main(["check", str(folder / "rheostat.yaml")])
    assert "pip install 'rheostat[pyroscope]'" in capsys.readouterr().out
    assert "pyroscope" in asked


@pytest.mark.parametrize("command", [RHEOSTAT, MODULE], ids=["script", "module"])
def test_check_finds_a_class_beside_the_application(folder: Path, command: tuple[str, ...]) -> None:
    """A class of the application's own is found from its folder, as the application will find it."""
    source_is(folder, "Source")
    ran = ended([*command, "check", "rheostat.yaml"], folder)

    assert (FINE, "") == (ran.returncode, ran.stderr)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("third_party:Nobody", "AttributeError: module 'third_party' has no attribute 'Nobody'"),
        ("nowhere:Source", "ModuleNotFoundError: No module named 'nowhere'"),
        ("third_party:NOBODY", "AttributeError"),
        ("leaver:Source", "SystemExit: 7"),
        ("third_party:Sampler", "it has no open, read, close"),
        ("yml", "layers, ofrep, openfeature, redis, unleash, yaml, or package.module:Class (did you mean 'yaml'?)"),
    ],
)
def test_check_of_a_class_that_cannot_be_used(folder: Path, kind: str, why: str) -> None:
    """A class that is missing or unfit is a problem with its place and the reason."""
    source_is(folder, "Source")
    (folder / "leaver.py").write_text("raise SystemExit(7)\n")
    reconfigure(folder, "third_party:Source", kind)
    ran = ended([*MODULE, "check", "rheostat.yaml"], folder)

    assert (INVALID, "") == (ran.returncode, ran.stdout)
    assert ran.stderr.startswith(f"{folder / 'rheostat.yaml'}:3:16: source.kind: found ")
    assert why in ran.stderr


def test_check_of_a_constructor_that_raises(folder: Path) -> None:
    """A class whose constructor raises is a finding, without a traceback."""
    source_is(folder, "Unbuildable")
    ran = ended([*MODULE, "check", "rheostat.yaml"], folder)

    expected = "source: it cannot be built: RuntimeError: no route to the flags"
    assert (FINDING, f"{folder / 'rheostat.yaml'}: {expected}\n", "") == (ran.returncode, ran.stdout, ran.stderr)


def test_check_starts_nothing(folder: Path) -> None:
    """Neither is the source opened nor the profiler started."""
    source_is(folder, "Source")
    reconfigure(folder, "kind: noop", "kind: 'third_party:Sampler'")
    ran = ended([*MODULE, "check", "rheostat.yaml"], folder)

    assert FINE == ran.returncode, ran.stderr
    assert not (folder / "log").exists()


# plan


def test_plan_of_flags_that_are_taken_as_they_are(folder: Path) -> None:
    """Where nothing is adjusted, the table has no rules, the verdict says what would run, and the exit code is 0."""
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert (FINE, "") == (ran.returncode, ran.stderr)
    assert {
        "enabled": ["profiling_enabled", "true", "true", "", "line 1"],
        "sample_rate": ["profiling_sample_rate", "97", "97", "", "line 2"],
        "mode": ["profiling_mode", "(not defined)", "gil", "", ""],
        "upload_interval": ["(constant)", "", "10", "", ""],
    } == rows(ran.stdout)
    assert ran.stdout.endswith("\n\nIt would run noop: sample_rate=97 mode=gil upload_interval=10\n")


def test_plan_of_flags_that_are_adjusted(folder: Path) -> None:
    """Each adjusted value comes with the rule that decided and the source's reason, and the exit code is 1."""
    (folder / "flags.yaml").write_text(
        "profiling_enabled: true\nprofiling_sample_rate: 1000\nprofiling_mode: wal\nother: 1\n"
    )
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert (FINDING, "") == (ran.returncode, ran.stderr)
    refused = "choices gil, cpu, wall (clamp); otherwise the default"
    assert {
        "enabled": ["profiling_enabled", "true", "true", "", "line 1"],
        "sample_rate": ["profiling_sample_rate", "1000", "250", "max 250 (clamp)", "line 2"],
        "mode": ["profiling_mode", "wal", "gil", refused, "line 3"],
        "upload_interval": ["(constant)", "", "10", "", ""],
    } == rows(ran.stdout)
    assert ran.stdout.endswith("\n\nIt would run noop: sample_rate=250 mode=gil upload_interval=10\n")


def test_plan_of_a_flag_that_is_a_list(folder: Path) -> None:
    """A list as a flag's value is shown as one, with its place, and spoils no other flag."""
    (folder / "flags.yaml").write_text("profiling_enabled: true\nprofiling_sample_rate: [1, 2]\n")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert FINDING == ran.returncode
    _, asked, given, rule, reason = rows(ran.stdout)["sample_rate"]
    assert ("a list", "20") == (asked, given)
    found = f"{folder / 'flags.yaml'}:2:24: found a list, expected a plain value"
    assert f"the source says: {found}; otherwise the default" == rule
    assert "line 2" == reason


def test_plan_of_otherwise_off(folder: Path) -> None:
    """A value whose rule turns profiling off is shown so, and the verdict is off."""
    reconfigure(folder, "otherwise: default", "otherwise: off")
    (folder / "flags.yaml").write_text("profiling_enabled: true\nprofiling_mode: wal\n")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert FINDING == ran.returncode
    assert "off" == rows(ran.stdout)["mode"][2]
    assert ran.stdout.endswith("\n\nIt would stay off.\n")


def test_plan_of_flags_that_say_off(folder: Path) -> None:
    """Flags that say off are no finding."""
    (folder / "flags.yaml").write_text("profiling_enabled: no\n")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert FINE == ran.returncode
    assert "false" == rows(ran.stdout)["enabled"][1]
    assert ran.stdout.endswith("\n\nIt would stay off.\n")


def test_plan_without_the_flags_file(folder: Path) -> None:
    """A flags file that is not there is a finding that names it."""
    (folder / "flags.yaml").unlink()
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert (FINDING, "") == (ran.returncode, ran.stderr)
    assert f"{folder / 'flags.yaml'}: No such file or directory" in ran.stdout
    assert ran.stdout.endswith("\n\nIt would stay off.\n")


def test_plan_of_an_invalid_flags_file(folder: Path) -> None:
    """A flags file that is no YAML is a finding with its place."""
    (folder / "flags.yaml").write_text("profiling_enabled: true\nprofiling_mode: 'wal")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert (FINDING, "") == (ran.returncode, ran.stderr)
    assert f"{folder / 'flags.yaml'}:2:" in ran.stdout


def test_plan_of_an_invalid_configuration(folder: Path) -> None:
    """An invalid configuration exits with 2, as check does."""
    reconfigure(folder, "default: false", "default: maybe")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert (INVALID, "") == (ran.returncode, ran.stdout)
    assert ran.stderr.startswith(f"{folder / 'rheostat.yaml'}:5:45: enabled.default: found 'maybe'")


def test_plan_knows_disabled(folder: Path) -> None:
    """With ``disabled: true`` nothing would happen, whatever the flags say."""
    reconfigure(folder, "version: 1\n", "version: 1\ndisabled: true\n")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert FINE == ran.returncode
    assert ran.stdout.endswith("\n\nIt would do nothing: disabled is true.\n")


def test_plan_knows_the_kill_switch(folder: Path) -> None:
    """While the kill switch is set it would stay off, whatever the flags say, and the plan says why."""
    reconfigure(folder, "settings:\n", "policy: {kill_switch: off.now}\nsettings:\n")
    assert "It would run noop" in ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder).stdout

    (folder / "off.now").touch()
    _, deciders, verdict = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder).stdout.split("\n\n")
    assert [
        "who decides",
        "kill switch",
        "new source",
        "lease",
        "silent source",
        "flags",
    ] == [line.partition("  ")[0] for line in deciders.splitlines()]
    assert re.search("^kill switch +off: the kill switch is set$", deciders, re.MULTILINE)
    assert "It would stay off: the kill switch is set.\n" == verdict


def test_plan_says_that_a_budget_is_less_than_the_least_rate_costs(folder: Path) -> None:
    """And nothing of one that is not."""
    (folder / "flags.yaml").write_text("profiling_enabled: true\n")
    for budget, expected in (("0.01%", True), ("2%", False)):
        (folder / "cheap.yaml").write_text(
            "version: 1\napplication: shop\nsource: {kind: yaml, path: flags.yaml}\nbackend: {kind: pyroscope}\n"
            "enabled: {flag: profiling_enabled}\nsettings: {sample_rate: 100}\n"
            f"policy: {{budget: {{cpu: {budget}}}}}\n"
        )
        ran = ended([*RHEOSTAT, "plan", "cheap.yaml"], folder)
        assert FINE == ran.returncode, ran.stderr
        assert expected is ("is less than sample_rate=1 costs" in ran.stdout), ran.stdout


def test_plan_reads_once_and_lets_go(folder: Path) -> None:
    """The source is opened, read once and closed, and the profiler is not touched."""
    source_is(folder, "Source")
    reconfigure(folder, "kind: noop", "kind: 'third_party:Sampler'")
    ran = ended([*MODULE, "plan", "rheostat.yaml"], folder)

    assert FINE == ran.returncode, ran.stderr
    assert ["open", "read", "close"] == (folder / "log").read_text().split()


def test_plan_of_a_service_with_other_tags_and_another_instance(folder: Path) -> None:
    """Flags that are targeted are those of the service that the tags and the instance describe, as `run` is told."""
    source_is(folder, "Targeted")
    reconfigure(folder, "application: shop\n", "application: shop\ninstance: wall\ntags: {role: worker}\n")
    as_configured = rows(ended([*MODULE, "plan", "rheostat.yaml"], folder).stdout)
    options = ["--tag", "role=api", "--instance", "cpu"]
    as_told = rows(ended([*MODULE, "plan", *options, "rheostat.yaml"], folder).stdout)

    assert ["false", "wall"] == [as_configured[name][1] for name in ("enabled", "mode")]
    assert ["true", "cpu"] == [as_told[name][1] for name in ("enabled", "mode")]


def test_check_of_a_service_with_other_tags(folder: Path) -> None:
    """A tag that the backend cannot have is found, wherever it comes from."""
    reconfigure(folder, "{kind: noop}", "{kind: pyroscope}")
    ran = ended([*RHEOSTAT, "check", "--tag", "a b=c", "rheostat.yaml"], folder)

    assert FINDING == ran.returncode
    assert "backend: it cannot be built: PermanentError: tags: " in ran.stdout


@pytest.mark.parametrize("command", ["check", "plan"])
@pytest.mark.parametrize(("option", "value"), [("--tag", "role"), ("--tag", "=api"), ("--instance", " ")])
def test_tags_and_an_instance_that_are_none(folder: Path, command: str, option: str, value: str) -> None:
    """They are wrong usage."""
    ran = ended([*RHEOSTAT, command, option, value, "rheostat.yaml"], folder)

    assert INVALID == ran.returncode
    assert f"argument {option}: found " in ran.stderr


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("Unbuildable", "RuntimeError: no route to the flags"),
        ("Unopenable", "OSError: no socket left"),
        ("Unreadable", "KeyError: 'odd'"),
    ],
)
def test_plan_of_a_source_that_raises(folder: Path, kind: str, why: str) -> None:
    """A source that raises is a finding in one line, without a traceback."""
    source_is(folder, kind)
    ran = ended([*MODULE, "plan", "rheostat.yaml"], folder)

    assert FINDING == ran.returncode
    assert why in ran.stdout
    assert "Traceback" not in ran.stderr


NASTY = r"\e[31mred\a\r\n\u202e"


def on_a_terminal(command: list[str], folder: Path, columns: int) -> list[str]:
    """The lines that a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in environment().items() if name != "COLUMNS"}
    with subprocess.Popen(command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        # Linux tells the end of a terminal by an error.
        with suppress(OSError):
            while part := os.read(ours, 4096):
                written += part
        process.wait(PATIENCE)
    os.close(ours)
    return written.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [80, 100])
def test_plan_fits_the_terminal(folder: Path, columns: int) -> None:
    """However long a value or a path is, each line of the table fits, and what is cut ends with an ellipsis."""
    (folder / "flags.yaml").write_text(f"profiling_enabled: true\nprofiling_mode: {'x' * 500}\n")
    lines = on_a_terminal([*RHEOSTAT, "plan", "rheostat.yaml"], folder, columns)
    table = lines[: lines.index("")]

    assert 5 == len(table)
    assert columns >= max(map(len, table)) > columns - 10
    assert {"enabled", "sample_rate", "mode"} < rows("\n".join(table)).keys()
    assert "…" in rows("\n".join(table))["mode"][1]


def test_plan_in_a_pipe_is_not_cut(folder: Path) -> None:
    """Another program gets the rule and the reason in full, whatever the terminal is."""
    (folder / "flags.yaml").write_text("profiling_enabled: true\nprofiling_sample_rate: [1, 2]\n")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder, {"COLUMNS": "60"})

    found = f"{folder / 'flags.yaml'}:2:24: found a list, expected a plain value"
    assert f"the source says: {found}; otherwise the default" == rows(ran.stdout)["sample_rate"][3]


@pytest.mark.parametrize("place", ["flag", "default", "constant", "setting"])
def test_nothing_in_a_plan_commands_the_terminal(folder: Path, place: str) -> None:
    """Escape sequences are shown, not obeyed, whether a flag, a default or a name has them."""
    if place == "flag":
        reconfigure(folder, "default: gil, clamp: {choices: [gil, cpu, wall], otherwise: default}", "default: gil")
        (folder / "flags.yaml").write_text(f'profiling_enabled: true\nprofiling_mode: "{NASTY}"\n')
    elif place == "default":
        reconfigure(
            folder, "default: gil, clamp: {choices: [gil, cpu, wall], otherwise: default}", f'default: "{NASTY}"'
        )
    elif place == "constant":
        reconfigure(folder, "upload_interval: 10", f'upload_interval: "{NASTY}"')
    else:
        reconfigure(folder, "upload_interval: 10", f'"{NASTY}": 10')
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert "\\x1b[31mred" in ran.stdout
    assert [] == [line for line in ran.stdout.split("\n") if not line.isprintable()]


def test_plan_tells_the_nearest_flag_that_the_source_knows(folder: Path) -> None:
    """A flag that the source does not define may be misspelt there or here; one that is wanted anyway is not meant."""
    (folder / "flags.yaml").write_text("profiling_enabled: true\nprofiling_sample_rat: 97\nother: 1\n")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder)

    assert FINE == ran.returncode
    assert "did you mean 'profiling_sample_rat'?" == rows(ran.stdout)["sample_rate"][4]
    assert ["", "line 1"] == [rows(ran.stdout)[name][4] for name in ("mode", "enabled")]


@pytest.mark.parametrize(("kind", "hint"), [("Knowing", "did you mean 'profiling_sample_rat'?"), ("Unknowing", "")])
def test_plan_with_a_class_that_may_know_flags(folder: Path, kind: str, hint: str) -> None:
    """Its word is taken with care, and its exceptions are ignored."""
    source_is(folder, kind)
    ran = ended([*MODULE, "plan", "rheostat.yaml"], folder)

    assert (FINE, "") == (ran.returncode, ran.stderr)
    assert ["", hint] == [rows(ran.stdout)[name][4] for name in ("mode", "sample_rate")]


def test_a_layer_below_knows_flags_too(folder: Path) -> None:
    """One that cannot be built knows none."""
    (folder / "third_party.py").write_text(THIRD_PARTY)
    layers = ("third_party:Unbuildable", "third_party:Source", "third_party:Knowing")
    listed = ", ".join(f"{{kind: '{each}'}}" for each in layers)
    reconfigure(folder, "{kind: yaml, path: flags.yaml}", f"{{kind: layers, layers: [{listed}]}}")
    ran = ended([*MODULE, "plan", "rheostat.yaml"], folder)

    assert "did you mean 'profiling_sample_rat'?" == rows(ran.stdout)["sample_rate"][4]


def test_known_flags_are_not_asked_for_without_need(folder: Path) -> None:
    """Where every flag is defined nobody asks."""
    source_is(folder, "Knowing")
    config = folder / "rheostat.yaml"
    config.write_text(config.read_text().partition("settings:")[0])
    assert FINE == ended([*MODULE, "plan", "rheostat.yaml"], folder).returncode
    assert ["open", "read", "close"] == (folder / "log").read_text().split()


def test_known_flags_are_not_asked_for_before_an_answer(folder: Path) -> None:
    """A source that does not answer is not asked, though it is a layer above one that does."""
    (folder / "third_party.py").write_text(THIRD_PARTY)
    listed = ", ".join(f"{{kind: '{each}'}}" for each in ("third_party:Silent", "third_party:Source"))
    reconfigure(folder, "{kind: yaml, path: flags.yaml}", f"{{kind: layers, layers: [{listed}]}}")
    assert FINDING == ended([*MODULE, "plan", "rheostat.yaml"], folder).returncode
    assert "known_flags" not in (folder / "log").read_text().split()


def test_plan_where_output_is_ascii(folder: Path) -> None:
    """A value that the terminal cannot show is escaped, not a traceback."""
    (folder / "flags.yaml").write_text("profiling_enabled: true\nprofiling_mode: größe\n", "utf-8")
    ran = ended([*RHEOSTAT, "plan", "rheostat.yaml"], folder, {"PYTHONIOENCODING": "ascii"})

    assert (FINDING, "") == (ran.returncode, ran.stderr)
    assert "gr\\xf6\\xdfe" == rows(ran.stdout)["mode"][1]


# diagram


def test_diagram_has_exactly_the_machine_s_moves(tmp_path: Path) -> None:
    """The Mermaid diagram starts at stopped and has one arrow for each move, and no other."""
    ran = ended([*RHEOSTAT, "diagram"], tmp_path)
    first, *rest = ran.stdout.splitlines()
    moves = set()
    for line in rest:
        match = re.fullmatch(r"    (\S+) --> (\w+)(?:: (.+))?", line)
        assert match is not None, line
        moves |= {(match[1], match[2], name) for name in (match[3] or "").split(" | ")}

    assert (FINE, "") == (ran.returncode, ran.stderr)
    assert "stateDiagram-v2" == first
    assert {
        ("[*]", "stopped", ""),
        ("stopped", "running", "started"),
        ("restarting", "running", "started"),
        ("running", "restarting", "retune"),
        ("running", "stopped", "stopped"),
        ("restarting", "stopped", "stopped"),
        ("restarting", "stopped", "failed"),
        ("running", "stopped", "died"),
        ("stopped", "stopped", "forked"),
        ("running", "stopped", "forked"),
        ("restarting", "stopped", "forked"),
    } == moves


MISTAKEN = "version: 1\napplication: shop\nsource: {kind: yaml, pth: x}\nbackend: {kind: noop}\nenabled: true\n"


def test_check_takes_many_files_and_folders(folder: Path) -> None:
    """All configurations at any depth, and nothing else that is YAML; the worst of them decides the exit code."""
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/mistaken.yml").write_text(MISTAKEN)
    (folder / "deep/other.yaml").write_text("on: true\n")
    (folder / "deep/broken.yaml").write_text("{{{")
    ran = ended([*RHEOSTAT, "check", "."], folder)
    assert INVALID == ran.returncode
    [line] = ran.stdout.splitlines()
    assert line.endswith("rheostat.yaml: fine")
    assert "source.pth: found an unknown key" in ran.stderr
    assert FINE == ended([*RHEOSTAT, "check", "rheostat.yaml", "rheostat.yaml"], folder).returncode
    (folder / "none").mkdir()
    ran = ended([*RHEOSTAT, "check", "none"], folder)
    assert INVALID == ran.returncode
    assert "none: found none, expected a configuration" in ran.stderr


def test_check_speaks_to_programs_and_workflows(folder: Path) -> None:
    """As JSON with each part of a problem, and as annotations that no text can break out of."""
    (folder / "mistaken.yaml").write_text(MISTAKEN.replace("kind: noop", 'kind: "50%,\\nno"'))
    ran = ended([*RHEOSTAT, "check", "rheostat.yaml", "mistaken.yaml", "--format", "json"], folder)
    assert (INVALID, "") == (ran.returncode, ran.stderr)
    fine, mistaken = json.loads(ran.stdout)
    assert ([], []) == (fine["problems"], fine["findings"])
    assert [3, 3, 4] == sorted(each["line"] for each in mistaken["problems"])
    assert "this key, it is required" in [each["expected"] for each in mistaken["problems"]]
    ran = ended([*RHEOSTAT, "check", "mistaken.yaml", "--format", "github"], folder)
    assert INVALID == ran.returncode
    lines = ran.stdout.splitlines()
    found = [line.partition(",col=")[0] for line in lines]
    assert [f"::error file=mistaken.yaml,line={line}" for line in (3, 3, 4)] == sorted(found)
    assert "50%25" in ran.stdout


def test_the_schema_is_printed(folder: Path) -> None:
    assert "Rheostat" == json.loads(ended([*RHEOSTAT, "schema"], folder).stdout)["title"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_that_its_shell_accepts(folder: Path, shell: str) -> None:
    """It knows the commands."""
    ran = ended([*RHEOSTAT, "completion", shell], folder)
    assert FINE == ran.returncode
    assert "explain" in ran.stdout
    if shutil.which(shell):
        assert 0 == ended([shell, "-n"], folder, input=ran.stdout).returncode
