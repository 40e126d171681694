"""docs/write-a-backend.md leads from an empty folder to a backend that passes the kit, file by file as it stands."""

import re
import shutil
import sys
import time
from pathlib import Path

from rheostat.plugins import Backend, Probing, Reachable
from support.children import RHEOSTAT, Child, ended
from support.pages import DOCS, blocks, command, install, log_lines, unpack, vague

PAGE = DOCS / "write-a-backend.md"

KIT_PATIENCE = 50.0
"""Seconds for the whole kit, which starts processes of its own."""


def test_the_contract_is_complete() -> None:
    """The table has each name of the contract, and no other."""
    table = re.findall(r"^\| `(\w+)[`(]", PAGE.read_text().partition("\n## The backend")[0], re.MULTILINE)
    names = {name for each in (Backend, Probing, Reachable) for name in (*vars(each), *each.__annotations__)}
    assert sorted(name for name in names if not name.startswith("_")) == sorted(table)


def test_check_and_plan_say_what_the_page_says(tmp_path: Path) -> None:
    """The configuration is fine, and the plan is the one of the page."""
    unpack(PAGE, tmp_path)
    check, plan = command(PAGE, "rheostat check"), command(PAGE, "rheostat plan")
    assert check.output == ended(check.command, tmp_path).stdout.replace(str(tmp_path), "/home/you/stackfiles")
    assert plan.output == ended(plan.command, tmp_path).stdout


def test_it_profiles_by_flag(tmp_path: Path) -> None:
    """The log is that of the page, and the file that is left has the stack of the page on top."""
    unpack(PAGE, tmp_path, {"poll_interval: 1s": "poll_interval: 50ms"})
    with (tmp_path / "config.yaml").open("a") as config:
        config.write("policy: {start_after: 50ms}\n")
    run, read = command(PAGE, "rheostat run"), command(PAGE, "sort")
    separator = run.command.index("--")
    with Child([*run.command[:separator], "--log", "json", *run.command[separator:]], tmp_path) as child:
        child.event("transition", to="running")
        profiled_until = time.monotonic() + 1.0
        while time.monotonic() < profiled_until:
            child.out.next()
        flags = tmp_path / "flags.yaml"
        flags.write_text(flags.read_text().replace("true", "false"))
        child.event("transition", to="stopped")
        child.process.terminate()
        said = [f"{each['level']} rheostat[{each['pid']}]: {each['message']}" for each in child.events()]
    assert [vague(line) for line in log_lines(PAGE)] == [vague(line) for line in said]
    assert vague(read.output.strip()) == vague(ended(["sh", "-c", read.line], tmp_path).stdout.strip())


def test_the_kit_is_green(tmp_path: Path) -> None:
    """The page's own tests pass, none is skipped, and every warning is an error."""
    unpack(PAGE, tmp_path)
    with Child(
        [*command(PAGE, "python -m pytest").command, "-W", "error", "-p", "no:cacheprovider"], tmp_path
    ) as child:
        tested = child.process.wait(KIT_PATIENCE)
        printed = child.out.rest()
    assert 0 == tested, printed
    assert re.fullmatch(r"\d+ passed in .*", printed[-1]), printed


def test_its_short_name_comes_with_the_package(tmp_path: Path) -> None:
    """Once what pyproject.toml says is installed, `kind: stacks` names the backend."""
    unpack(PAGE, tmp_path, {"kind: stackfiles:StackBackend": "kind: stacks"})
    before = ended([*RHEOSTAT, "check", "config.yaml"], tmp_path, {"PYTHONPATH": str(tmp_path)})
    assert "found 'stacks'" in before.stderr
    install(tmp_path)
    checked = ended([*RHEOSTAT, "check", "config.yaml"], tmp_path, {"PYTHONPATH": str(tmp_path)})
    assert (0, "") == (checked.returncode, checked.stderr)


def test_no_command_is_left_out() -> None:
    """Each command of the page is one that a test here runs, and each program is there."""
    ran = ("rheostat check", "rheostat plan", "rheostat run", "sort", "python -m pytest")
    assert [] == [block.line for block in blocks(PAGE, "console") if not block.line.startswith(ran)]
    assert all(shutil.which(name) for name in ("sort", "head", sys.executable))
