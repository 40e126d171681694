"""The pages in docs/ are true: each file in it is fine, and each command gives what stands there.

YAML that begins with ``source:`` is that section.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, fields
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest

from rheostat._config.registry import LAYERS, SOURCES
from rheostat.plugins import Duration, FlagSource, KnowsFlags, parse_flags
from rheostat.testing import FlagSourceContract
from support.children import RHEOSTAT, Child, ended, parsed
from support.pages import DOCS, Block, blocks, install, log_lines, unpack, with_secrets
from support.vendors.faults import Fault
from support.vendors.growthbook import GrowthBookServer
from support.vendors.launchdarkly import LaunchDarklyServer, ruled_flag

ROOT = DOCS.parent
PAGES = sorted(DOCS.rglob("*.md"))
SOURCE_PAGES = sorted((DOCS / "sources").glob("*.md"))
OWN_SOURCE = DOCS / "write-a-flag-source.md"

WANTED = {"profiling_enabled": bool, "profiling_sample_rate": int, "profiling_mode": str}
KEYS = {
    "GROWTHBOOK_CLIENT_KEY": "sdk-test",
    "LAUNCHDARKLY_SDK_KEY": "sdk-00000000-0000-0000-0000-000000000000",
    "no_proxy": "127.0.0.1",
}

FEATURES = {
    "profiling_enabled": {
        "defaultValue": False,
        "rules": [{"id": "fr_api", "condition": {"role": "api"}, "force": True}],
    },
    "profiling_sample_rate": {"defaultValue": 400},
    "profiling_mode": {"defaultValue": "gil"},
}

APP = """\
import sys
import threading

for line in sys.stdin:
    if line == "import\\n":
        import flags
    print(*sorted(thread.name for thread in threading.enumerate()), sep=",", flush=True)
"""


def plans(page: Path) -> list[Block]:
    """The commands of the page that make a plan."""
    return [block for block in blocks(page, "console") if "plan" in block.text.partition("\n")[0]]


def with_option(text: str, kind: str, option: str) -> str:
    """The sources of that kind with one more option, in flow or in block style."""
    text, count = re.subn(rf"kind: {kind}(,?\s+)", rf"kind: {kind}\g<1>{option}\g<1>", text)
    assert 1 == count
    return text


def amend(folder: Path, kind: str, *options: str) -> None:
    config = folder / "config.yaml"
    text = config.read_text()
    for option in options:
        text = with_option(text, kind, option)
    config.write_text(text)


def quicken(folder: Path) -> None:
    """Govern at once, and profile nothing."""
    config = folder / "config.yaml"
    text = config.read_text().replace("kind: pyroscope", "kind: noop")
    config.write_text(text + "policy: {start_after: 50ms, cooldown: 0s}\n")
    (folder / "app.py").write_text(APP)


@contextmanager
def governed(folder: Path) -> Iterator[Child]:
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(command, folder, KEYS) as child:
        yield child


def vague(line: str) -> str:
    """Without what differs from one run to the next."""
    for varying in (r"\d+ ms", r"in \d+ s", r"rheostat\[\d+\]", r"Errno \d+"):
        line = re.sub(varying, re.sub(r"\\d\+", "0", varying).replace("\\", ""), line)
    return line


def threads_of(child: Child) -> set[str]:
    """Those that the source has begun; others come and go."""
    child.tell("threads")
    line = child.out.next()
    assert line is not None
    others = ("MainThread", "rheostat-call", "rheostat-files", "openfeature-event-handler")
    return {name for name in line.split(",") if name != "rheostat" and not name.startswith(others)}


@pytest.fixture
def growthbook() -> Iterator[GrowthBookServer]:
    with GrowthBookServer() as server:
        server.set_features(FEATURES)
        yield server


@pytest.fixture
def launchdarkly() -> Iterator[LaunchDarklyServer]:
    with LaunchDarklyServer() as server:
        server.set_flags({"profiling_sample_rate": 400})
        server.set_raw("profiling_enabled", ruled_flag("role", ["api"], True, False))
        yield server


# What each page has to be


def test_every_source_has_a_page() -> None:
    """Those that ship with Rheostat, and layers."""
    assert {*SOURCES.builtins, LAYERS} == {page.stem for page in SOURCE_PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link is one to a file of the project."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [] == [link for link in links if not (page.parent / link).is_file()]


@pytest.mark.parametrize("block", [each for page in PAGES for each in blocks(page, "yaml")], ids=str)
def test_yaml_is_fine(block: Block, tmp_path: Path) -> None:
    """A configuration, or a source section in the place of the page's own, passes `rheostat check`; flags are flags."""
    unpack(block.page, tmp_path)
    if block.text.startswith("source:"):
        section = with_secrets(block.text, tmp_path)
        whole = (tmp_path / "config.yaml").read_text()
        (tmp_path / "config.yaml").write_text(re.sub(r"^source:.*\n(?:  .*\n)*", section, whole, flags=re.MULTILINE))
    elif "config.yaml" != block.name:
        assert parse_flags(block.text.encode(), block.name, WANTED).values
        return
    checked = ended([*RHEOSTAT, "check", "config.yaml"], tmp_path, KEYS)
    assert (0, f"{tmp_path}/config.yaml: fine\n", "") == (checked.returncode, checked.stdout, checked.stderr)


@pytest.mark.parametrize("kind", sorted(SOURCES.builtins))
def test_option_tables_are_complete(kind: str) -> None:
    """They have every option that there is, no other, and the default of each."""
    section = (DOCS / "sources" / f"{kind}.md").read_text().partition("## Options")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| `?(.+?)`? \|", section, re.MULTILINE))
    options = SOURCES.resolve(kind).Options
    assert {each.name: in_words(each) for each in fields(options)} == shown


def in_words(field: Any) -> str:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    if default is MISSING:
        return "required"
    if default is None:
        return "none"
    if field.type is Duration:
        return f"{default:g}s"
    if isinstance(default, Mapping):
        return "{}" if not default else str(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


# What the sources do


def test_plan_with_yaml(tmp_path: Path) -> None:
    """The plan is the one of the page."""
    (block,) = plans(DOCS / "sources/yaml.md")
    unpack(block.page, tmp_path)
    assert block.output == ended(block.command, tmp_path).stdout


def test_plan_with_growthbook(growthbook: GrowthBookServer, tmp_path: Path) -> None:
    """The plan is the one of the page."""
    (block,) = plans(DOCS / "sources/growthbook.md")
    unpack(block.page, tmp_path)
    amend(tmp_path, "growthbook", f"api_host: {growthbook.url}")
    assert block.output == ended(block.command, tmp_path, KEYS).stdout


def test_plan_with_launchdarkly(launchdarkly: LaunchDarklyServer, tmp_path: Path) -> None:
    """The plan is the one of the page."""
    (block,) = plans(DOCS / "sources/launchdarkly.md")
    unpack(block.page, tmp_path)
    amend(tmp_path, "launchdarkly", f"relay: {launchdarkly.url}")
    assert block.output == ended(block.command, tmp_path, KEYS).stdout


def test_plan_with_openfeature(tmp_path: Path) -> None:
    """The plan is the one of the page, with flagd's own provider."""
    (block,) = plans(DOCS / "sources/openfeature.md")
    unpack(block.page, tmp_path)
    assert block.output == ended(block.command, tmp_path).stdout


def test_plan_with_layers(growthbook: GrowthBookServer, tmp_path: Path) -> None:
    """The plans are those of the page, with and without an answer of the layer in the middle."""
    answered, unanswered = plans(DOCS / "sources/layers.md")
    unpack(answered.page, tmp_path)
    amend(tmp_path, "growthbook", f"api_host: {growthbook.url}")
    growthbook.set_flags({"profiling_enabled": True, "profiling_sample_rate": 400})
    assert answered.output == ended(answered.command, tmp_path, KEYS).stdout
    growthbook.fault = Fault.REFUSED
    refused = ended(unanswered.command, tmp_path, KEYS)
    assert (1, unanswered.output) == (
        refused.returncode,
        refused.stdout.replace(growthbook.url, "https://cdn.growthbook.io"),
    )


def test_outage_of_yaml(tmp_path: Path) -> None:
    """The log is that of the page, the session goes on, and there is no thread."""
    failed, recovered = log_lines(DOCS / "sources/yaml.md")
    unpack(DOCS / "sources/yaml.md", tmp_path, {"path: flags.yaml": "path: flags.yaml, poll_interval: 50ms"})
    quicken(tmp_path)
    flags = tmp_path / "flags.yaml"
    with governed(tmp_path) as child:
        child.event("transition", to="running")
        assert set() == threads_of(child)
        flags.rename(tmp_path / "away.yaml")
        assert failed == child.event("source_unavailable")["message"].replace(str(tmp_path), "/etc/profiling")
        (tmp_path / "away.yaml").rename(flags)
        assert recovered == child.event("source_recovered")["message"]
        assert 0 == child.finish()
        assert 2 == len([each for each in child.events() if each["event"] == "transition"])


def test_outage_of_growthbook(growthbook: GrowthBookServer, tmp_path: Path) -> None:
    """The log is that of the page, the session goes on, and the threads are those of the page."""
    page = DOCS / "sources/growthbook.md"
    failed, recovered = log_lines(page)
    unpack(page, tmp_path)
    amend(tmp_path, "growthbook", f"api_host: {growthbook.url}", "poll_interval: 1s")
    quicken(tmp_path)
    with governed(tmp_path) as child:
        child.event("transition", to="running")
        growthbook.wait_for(lambda: growthbook.streams)
        threads = threads_of(child)
        assert {"rheostat-growthbook", "rheostat-growthbook-stream"} == threads
        assert [] == [name for name in threads if f"`{name}`" not in page.read_text()]
        growthbook.fault = Fault.REFUSED
        # A request that was in the midst of it may say something else first.
        message = parsed(child.err.until(lambda line: "refused" in line))["message"]
        assert vague(failed) == vague(message.replace(growthbook.url, "https://cdn.growthbook.io"))
        growthbook.mend()
        assert recovered == child.event("source_recovered")["message"]
        assert 0 == child.finish()
        assert 2 == len([each for each in child.events() if each["event"] == "transition"])


def test_outage_of_a_layer(growthbook: GrowthBookServer, tmp_path: Path) -> None:
    """The log names the layer, as on the page."""
    page = DOCS / "sources/layers.md"
    failed, recovered = log_lines(page)
    unpack(page, tmp_path)
    amend(tmp_path, "growthbook", f"api_host: {growthbook.url}", "poll_interval: 1s")
    quicken(tmp_path)
    growthbook.fault = Fault.REFUSED
    with governed(tmp_path) as child:
        # A request that was in the midst of it may say something else first.
        message = parsed(child.err.until(lambda line: "refused" in line))["message"]
        assert vague(failed) == vague(message.replace(growthbook.url, "https://cdn.growthbook.io"))
        growthbook.mend()
        assert recovered == child.event("source_recovered")["message"]


def test_a_fallback_may_turn_on(growthbook: GrowthBookServer, tmp_path: Path) -> None:
    """As the page warns: while the product is silent, and only then."""
    unpack(DOCS / "sources/layers.md", tmp_path)
    (tmp_path / "fallback.yaml").write_text("profiling_enabled: true\n")
    amend(tmp_path, "growthbook", f"api_host: {growthbook.url}", "poll_interval: 1s")
    quicken(tmp_path)
    growthbook.set_flags({"profiling_enabled": False}, push=False)
    growthbook.fault = Fault.HANG
    with governed(tmp_path) as child:
        child.event("transition", to="running")
        growthbook.mend()
        child.event("transition", to="stopped")


def test_refusal_by_launchdarkly(launchdarkly: LaunchDarklyServer, tmp_path: Path) -> None:
    """The log is that of the page, and the one thread is the SDK's."""
    page = DOCS / "sources/launchdarkly.md"
    failed, recovered = log_lines(page)
    unpack(page, tmp_path)
    amend(tmp_path, "launchdarkly", f"relay: {launchdarkly.url}")
    quicken(tmp_path)
    with governed(tmp_path) as child:
        child.event("transition", to="running")
        assert 1 == len(threads_of(child))
        launchdarkly.fault = Fault.REFUSED
        child.event("source_unavailable")
        launchdarkly.mend()
        assert recovered == child.event("source_recovered")["message"]
        launchdarkly.fault = Fault.STATUS_401
        line = child.err.until(lambda line: "HTTP 401" in line)
        assert vague(failed) == vague(parsed(line)["message"].replace(launchdarkly.url, "LaunchDarkly"))


def test_a_provider_that_comes_late(tmp_path: Path) -> None:
    """The log is that of the page until the application has imported the module, and the thread is named there."""
    page = DOCS / "sources/openfeature.md"
    failed, recovered = log_lines(page)
    unpack(page, tmp_path)
    amend(tmp_path, "openfeature", "start_wait: 1s")
    quicken(tmp_path)
    with governed(tmp_path) as child:
        assert failed == child.event("source_unavailable")["message"]
        assert {"rheostat-openfeature"} == threads_of(child)
        child.tell("import")
        assert recovered == child.event("source_recovered")["message"]
        child.event("transition", to="running")


# A source of one's own

KIT_PATIENCE = 50.0
"""Seconds for the whole kit, which starts processes of its own."""


def own(begins: str) -> Block:
    """The one command of the page that begins like this."""
    (found,) = [block for block in blocks(OWN_SOURCE, "console") if block.text.startswith(f"$ {begins}")]
    return found


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[int]:
    """By the page's command, but at a port that is free."""
    command = [str(port) if word == "8000" else word for word in own("python -m http.server").command]
    with Child(command, folder, {"PYTHONUNBUFFERED": "1"}) as server:
        found = re.search(r"port (\d+)", server.out.until(lambda line: line.startswith("Serving HTTP")))
        assert found is not None
        yield int(found[1])


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    """The file that the page serves, as its own command writes it."""
    folder = tmp_path / "served"
    folder.mkdir()
    line = own("echo").text.partition("\n")[0].removeprefix("$ ")
    assert 0 == ended(["sh", "-c", line], folder).returncode
    return folder / "flags.json"


def unpack_own(folder: Path, port: int) -> None:
    unpack(OWN_SOURCE, folder, {"localhost:8000": f"127.0.0.1:{port}", "poll_interval: 1s": "poll_interval: 50ms"})


def test_the_contract_is_complete() -> None:
    """The table has each name of the contract, and no other."""
    table = re.findall(r"^\| `(\w+)[`(]", OWN_SOURCE.read_text().partition("## The source")[0], re.MULTILINE)
    assert sorted(
        name for name in vars(FlagSource) | vars(KnowsFlags) | {"Options": 0} if not name.startswith("_")
    ) == sorted(table)


def test_what_the_page_installs_is_here() -> None:
    """Rheostat has that extra, and each requirement of it is met.

    The command itself would fetch what was published last, and not test what is here.
    """
    assert ["pip", "install", "rheostat[testing]"] == own("pip install").command
    testing = [each for each in requires("rheostat") or () if each.endswith("extra == 'testing'")]
    names = [name[0] for each in testing if (name := re.match(r"[\w-]+", each))]
    assert {"hypothesis", "pytest"} == set(names)
    assert all(version(name) for name in names)


def test_check_and_plan_with_an_own_source(flags: Path, tmp_path: Path) -> None:
    """Both say what stands on the page."""
    check, plan = own("rheostat check"), own("rheostat plan")
    with serving(flags.parent) as port:
        unpack_own(tmp_path, port)
        assert check.output == ended(check.command, tmp_path).stdout.replace(str(tmp_path), "/home/you/httpflags")
        assert plan.output == ended(plan.command, tmp_path, KEYS).stdout


def test_the_kit_is_green_for_an_own_source(tmp_path: Path) -> None:
    """The page's own tests pass, none is skipped, and every warning is an error."""
    unpack(OWN_SOURCE, tmp_path)
    command = [*own("python -m pytest").command, "-W", "error", "-p", "no:cacheprovider"]
    with Child(command, tmp_path, KEYS) as child:
        tested = child.process.wait(KIT_PATIENCE)
        printed = child.out.rest()
    assert 0 == tested, printed
    kit = [name for name in vars(FlagSourceContract) if name.startswith("test_")]
    expected = len(kit) + len(re.findall("def test_", OWN_SOURCE.read_text()))
    assert re.fullmatch(rf"{expected} passed in .*", printed[-1]), printed


def test_an_own_source_governs(flags: Path, tmp_path: Path) -> None:
    """The log is that of the page: values hold while the endpoint is away, and a flip after its return is seen."""
    run = own("rheostat run").command
    separator = run.index("--")
    with ExitStack() as stack:
        with serving(flags.parent) as port:
            unpack_own(tmp_path, port)
            quicken(tmp_path)
            child = stack.enter_context(
                Child([*run[:separator], "--log", "json", *run[separator:]], tmp_path, KEYS),
            )
            child.event("transition", to="running")
        child.err.until(lambda line: "refused" in line)
        with serving(flags.parent, port):
            child.event("source_recovered")
            flags.write_text(flags.read_text().replace("true", "false"))
            child.event("transition", to="stopped")
            child.process.terminate()
            said = [
                f"{each['level']} rheostat[{each['pid']}]: {each['message']}"
                for each in child.events()
                # A request that was in the midst of it may say something else first.
                if each["event"] != "source_unavailable" or "refused" in each["message"]
            ]
    shown = [line.replace("localhost:8000", f"127.0.0.1:{port}") for line in log_lines(OWN_SOURCE)]
    assert [vague(line) for line in shown] == [vague(line) for line in said]


def test_an_own_source_by_entry_point(tmp_path: Path) -> None:
    """The entry point in pyproject.toml makes its short name work, once installed."""
    unpack(OWN_SOURCE, tmp_path, {"kind: httpflags:HttpSource": "kind: httpflags"})
    before = ended([*RHEOSTAT, "check", "config.yaml"], tmp_path, {"PYTHONPATH": str(tmp_path)})
    assert "found 'httpflags'" in before.stderr
    install(tmp_path)
    checked = ended([*RHEOSTAT, "check", "config.yaml"], tmp_path, {"PYTHONPATH": str(tmp_path)})
    assert (0, "") == (checked.returncode, checked.stderr)


def test_no_command_of_the_page_is_left_out() -> None:
    """Each is one that a test here runs."""
    ran = ("pip install", "rheostat check", "rheostat plan", "rheostat run", "echo", "python -m http.server")
    lines = [block.text.removeprefix("$ ") for block in blocks(OWN_SOURCE, "console")]
    assert [] == [line for line in lines if not line.startswith((*ran, "python -m pytest"))]
