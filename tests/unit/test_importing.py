"""Importing in the background of a process that computes."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rheostat._host.importing import import_apart
from support.children import PATIENCE

USUAL = 0.005
ITS_OWN = 0.001
SHORT = 0.0001
MICROSECOND = 2e-6


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; what is imported from it is forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_thread_that_computes_gives_way_sooner_meanwhile(modules: Path) -> None:
    """The switch interval is short while a module is imported, and as before afterwards."""
    (modules / "seen_within.py").write_text("import sys\n\nseen = sys.getswitchinterval()\n")
    assert import_apart("seen_within").seen < USUAL / 2
    assert USUAL == sys.getswitchinterval()


@pytest.mark.parametrize("raised", ["ImportError", "KeyboardInterrupt", "SystemExit"])
def test_whatever_an_import_raises_the_interval_is_restored(raised: str, modules: Path) -> None:
    """A module that cannot be imported leaves nothing behind."""
    (modules / f"raises_{raised.lower()}.py").write_text(f"raise {raised}\n")
    with pytest.raises((ImportError, KeyboardInterrupt, SystemExit)):
        import_apart(f"raises_{raised.lower()}")
    assert USUAL == sys.getswitchinterval()


@pytest.mark.parametrize("set_meanwhile", [SHORT, ITS_OWN, 0.02])
def test_what_the_application_sets_meanwhile_stays(set_meanwhile: float, modules: Path) -> None:
    """It wins, whatever it sets."""
    (modules / "sets_it.py").write_text(f"import sys\n\nsys.setswitchinterval({set_meanwhile})\n")
    import_apart("sets_it")
    assert pytest.approx(set_meanwhile, abs=MICROSECOND) == sys.getswitchinterval()


def test_an_application_that_is_quicker_is_left_alone(modules: Path) -> None:
    """An interval that is short already is not prolonged, neither within nor afterwards."""
    sys.setswitchinterval(SHORT)
    (modules / "seen_short.py").write_text("import sys\n\nseen = sys.getswitchinterval()\n")
    assert pytest.approx(SHORT, abs=MICROSECOND) == import_apart("seen_short").seen
    assert pytest.approx(SHORT, abs=MICROSECOND) == sys.getswitchinterval()


def test_the_last_of_two_imports_restores_it(modules: Path) -> None:
    """Two threads import at once: the interval is short until both are done."""
    (modules / "waits.py").write_text(WAITS)
    (modules / "seen_second.py").write_text("import sys\n\nseen = sys.getswitchinterval()\n")
    first = threading.Thread(target=import_apart, args=("waits",))
    first.start()
    until(lambda: hasattr(sys.modules.get("waits"), "may_end"))
    second = threading.Thread(target=import_apart, args=("seen_second",))
    second.start()
    second.join(PATIENCE)
    assert sys.getswitchinterval() < USUAL / 2
    sys.modules["waits"].may_end.set()
    first.join(PATIENCE)
    assert USUAL == sys.getswitchinterval()


WAITS = """
import threading

may_end = threading.Event()
assert may_end.wait(10)
"""


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
