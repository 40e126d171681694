"""Distributions built as whoever publishes them would, in an environment that the build makes for itself."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .children import Child

ROOT: Final = Path(__file__).parents[2]
UV: Final = (sys.executable, "-m", "uv")

PATIENCE: Final = 150.0
"""Seconds for one command, which may download what it installs."""


def printed_by(command: Sequence[str | Path], folder: Path) -> str:
    """The output of a command that succeeds."""
    with Child(command, folder, {"FLAGS_TOKEN": "s3cr3t"}) as child:
        code = child.process.wait(PATIENCE)
        said = "\n".join([*child.out.rest(), *child.err.rest()])
    assert 0 == code, said
    return said


def wheel_of(source: Path, folder: Path) -> Path:
    """The wheel of a source tree, or of a source distribution."""
    printed_by([*UV, "build", "--quiet", "--wheel", "--out-dir", folder, source], ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel
