"""Whatever bytes a file holds: a documented error, within 100 ms and 50 MB, and no secret in any message."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from support.children import environment

Record = Callable[[str, object], None]

TESTS: Final = str(Path(__file__).parents[1])

IN_CI: Final = 5_000
IN_SOAK: Final = 100_000
"""Inputs for each of the two readers."""


def fuzz(reader: str, folder: Path, *, seed: int, count: int, within: float) -> dict[str, int]:
    """Read that many inputs in a process of their own, which may crash or hang."""
    file = folder / "file.yaml"
    # What is traced takes longer.
    env = {name: value for name, value in environment().items() if not name.startswith("COVERAGE")}
    env["PYTHONPATH"] = TESTS
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "support.fuzzing",
        reader,
        str(seed),
        "0",
        str(count),
        str(file),
    ]
    try:
        ended = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", timeout=within)
    except subprocess.TimeoutExpired as expired:
        raise AssertionError(f"it hangs; {last(file)}; before: {expired.stdout!r}") from None
    lines = ended.stdout.splitlines()
    found = "\n".join([*lines, ended.stderr])
    assert 0 == ended.returncode, found if ended.returncode == 1 else f"it crashed; {last(file)}; {found}"
    summary: dict[str, int] = json.loads(lines[-1])
    return summary


def last(file: Path) -> str:
    return f"the last input was {file.read_bytes()!r:.3000}" if file.exists() else "before the first input"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("reader", ["config", "flags"])
def test_damaged_files_are_refused_soon_and_in_words(reader: str, tmp_path: Path) -> None:
    """The shipped files damaged in many ways, and hostile ones around the limits of size."""
    found = fuzz(reader, tmp_path, seed=1, count=IN_CI, within=250)
    assert IN_CI == found["read"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("reader", ["config", "flags"])
def test_a_great_many_damaged_files(reader: str, tmp_path: Path, record_property: Record) -> None:
    """Others each time; the seed is in the report, and in what a failure prints."""
    seed = random.SystemRandom().randrange(2**32)
    record_property("seed", seed)
    found = fuzz(reader, tmp_path, seed=seed, count=IN_SOAK, within=1700)
    assert IN_SOAK == found["read"]
    record_property("peak", found["peak"])
