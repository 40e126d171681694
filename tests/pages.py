"""What stands on a page of docs/: its files, its commands with their output, and the logs that it shows.

A code block is a file if its first line is a comment with the name. ``console`` is a command with its output, ``text``
is what the log says.
"""

import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from children import RHEOSTAT

DOCS: Final = Path(__file__).parents[1] / "docs"


class Block(NamedTuple):
    """A code block of a page; `name` is that of the file that it is, if it is one."""

    language: str
    name: str
    text: str

    @property
    def line(self) -> str:
        """The command as it is typed."""
        return self.text.partition("\n")[0].removeprefix("$ ")

    @property
    def command(self) -> list[str]:
        """Its words, with the programs that are tested."""
        real = {"rheostat": RHEOSTAT, "python": (sys.executable,)}
        return [part for word in shlex.split(self.line) for part in real.get(word, (word,))]

    @property
    def output(self) -> str:
        return self.text.partition("\n")[2]


def blocks(page: Path, language: str = "") -> list[Block]:
    """The page's code blocks, or those in one language."""
    found = []
    for match in re.finditer(r"^```(\w+)\n((?:.*\n)*?)```$", page.read_text(), re.MULTILINE):
        name = re.match(r"# ([\w.-]+\.\w+)\n", match[2])
        found.append(Block(match[1], name[1] if name else "", match[2]))
    return [block for block in found if language in ("", block.language)]


def command(page: Path, begins: str) -> Block:
    """The one command that begins like this."""
    (found,) = [block for block in blocks(page, "console") if block.line.startswith(begins)]
    return found


def log_lines(page: Path) -> list[str]:
    """The one block in which the page shows a log."""
    (block,) = blocks(page, "text")
    return block.text.splitlines()


def unpack(page: Path, folder: Path, replaced: Mapping[str, str] | None = None) -> None:
    """Write the page's files, with some texts replaced."""
    assert [] == [old for old in replaced or {} if old not in page.read_text()]
    for block in blocks(page):
        if block.name:
            text = block.text
            for old, new in (replaced or {}).items():
                text = text.replace(old, new)
            (folder / block.name).write_text(text)


def install(folder: Path) -> None:
    """Let a Python that has the folder on its path find in it what its pyproject.toml would install."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    (info := folder / f"{name}-{version}.dist-info").mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in targets.items())
        for group, targets in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(groups))


def vague(line: str) -> str:
    """Without what differs from one run to the next."""
    return re.sub(r"rheostat\[\d+\]|\d+ ms| \d+$", "…", line)
