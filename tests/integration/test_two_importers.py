"""An application that imports Rheostat, or a part of it, at the moment at which the launcher's thread does."""

import ast
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path
from typing import Final

import pytest

from support.children import RHEOSTAT, Child

AT_ONCE: Final = 4
"""Processes that run side by side: most of them wait."""

CONFIG = """\
version: 1
application: shop
source: {kind: yaml, path: flags.yaml}
backend: {kind: noop}
enabled: {flag: profiling_enabled, default: false}
policy: {start_after: 50ms}
"""

# One thread stays at one import until the other has its own or, by then, waits for the first one.
HOLDING = """\
import sys
import threading

WHO, WHERE, STATEMENT = sys.argv[1:]
reached, imported = threading.Event(), threading.Event()


def hold(event, arguments):
    if event == "import" and arguments[0] == WHERE and not reached.is_set():
        is_main = threading.current_thread() is threading.main_thread()
        if is_main == (WHO == "application"):
            reached.set()
            imported.wait(0.7 if is_main else 0.2)


sys.addaudithook(hold)
if WHO == "launcher":
    assert reached.wait(20)
exec(STATEMENT)
imported.set()
print("imported", flush=True)
sys.stdin.read()
"""

STATEMENTS = [
    "import rheostat",
    "from rheostat import State, start; from rheostat.plugins import Reading",
    "import rheostat.testing",
    "import rheostat.testing.plugin",
    "from rheostat._config.config import load_config",
    "from rheostat._cli.commands import main",
]

MOMENTS = [
    "rheostat._contract.backend",
    "rheostat._config.document",
    "rheostat._config.config",
    "rheostat._lifecycle.controller",
    "transitions",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rheostat.yaml").write_text(CONFIG)
    (tmp_path / "flags.yaml").write_text("profiling_enabled: true\n")
    (tmp_path / "app.py").write_text(HOLDING)
    return tmp_path


def outcome(folder: Path, held: str, moment: str, statement: str) -> str:
    """The failure, nothing if the application has what it imported and the process is governed."""
    command = [*RHEOSTAT, "run", "--config", "rheostat.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child([*command, held, moment, statement], folder) as child:
        if child.out.next() != "imported":
            return "\n".join(child.err.rest())
        try:
            child.event("transition", to="running")
        except AssertionError as error:
            return str(error)
        return "" if child.finish() == 0 else "\n".join(child.err.rest())


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_import_beside_the_launcher_s(folder: Path, statement: str) -> None:
    """Whatever the launcher's thread is importing, the application's import succeeds, and the process is governed."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = pool.map(lambda moment: outcome(folder, "launcher", moment, statement), MOMENTS)
        assert dict.fromkeys(MOMENTS, "") == dict(zip(MOMENTS, outcomes, strict=True))


def test_the_launcher_s_import_beside_an_application_s(folder: Path) -> None:
    """Wherever the application is in an import of its own, the launcher's succeeds, and the process is governed."""
    held = [
        ("rheostat._config.document", "import rheostat._config.config"),
        ("rheostat._config.problem", "from rheostat import start"),
        ("transitions", "import transitions"),
        ("yaml", "import yaml"),
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = pool.map(lambda each: outcome(folder, "application", *each), held)
        assert dict.fromkeys(held, "") == dict(zip(held, outcomes, strict=True))


def test_a_plug_in_within_the_application_s_package(folder: Path) -> None:
    """A class in a package that the application is importing, and that imports the module itself, is waited for."""
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text("from .goods import GOODS\nfrom .profiling import Backend\n")
    (folder / "shop" / "goods.py").write_text("GOODS = 7\n")
    (folder / "shop" / "profiling.py").write_text(
        "from rheostat_backends.noop import NoopBackend\nfrom shop import GOODS\nclass Backend(NoopBackend): pass\n"
    )
    config = folder / "rheostat.yaml"
    config.write_text(config.read_text().replace("noop", "'shop.profiling:Backend'"))
    assert "" == outcome(folder, "application", "shop.goods", "import shop")


PACKAGES = {
    each: Path(str(import_module(each).__file__)).parent
    for each in ("rheostat", "rheostat_backends", "rheostat_flagsources")
}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(each for each in parts if each != "__init__")])] = file
    return found


def imported_with(module: str, file: Path) -> Iterator[str]:
    """The modules that its import imports, its packages included; not those that a function of it imports."""
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    yield from parents(module)
    left = ast.parse(file.read_text()).body
    while left:
        statement = left.pop()
        if isinstance(statement, ast.Import):
            for each in statement.names:
                yield from (each.name, *parents(each.name))
        elif isinstance(statement, ast.ImportFrom):
            found = resolve_name("." * statement.level + (statement.module or ""), package)
            yield from (found, *parents(found), *(f"{found}.{each.name}" for each in statement.names))
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            left += statement.orelse
        elif isinstance(statement, ast.If | ast.Try):
            left += [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.stmt)]


def parents(module: str) -> list[str]:
    return [module[: dot.start()] for dot in re.finditer(r"\.", module)]


def test_no_module_needs_what_needs_it() -> None:
    """A module's import never waits for one that waits for it, as a package's may that imports its own modules."""
    known = modules()
    needs = {each: {*imported_with(each, file)} & {*known} - {each} for each, file in known.items()}
    assert {"rheostat", "rheostat._contract.values"} <= needs["rheostat._core.rules"]
    TopologicalSorter(needs).prepare()
