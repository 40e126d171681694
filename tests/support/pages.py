"""The contents of a page of docs/: its files, its commands with their output, and the logs that it shows.

A code block is a file if its first line is a comment with the name, or, where the language has no comments, if the
name stands after the language. ``console`` is a command with its output, ``text`` is what the log says.
"""

import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from .children import RHEOSTAT

DOCS: Final = Path(__file__).parents[2] / "docs"


class Block(NamedTuple):
    """A code block of a page; `name` is that of the file that it is, if it is one."""

    page: Path
    number: int
    """Of its first line on the page."""
    language: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(DOCS)}:{self.number}"

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
    text = page.read_text()
    found = []
    for match in re.finditer(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        first = re.match(r"# ([\w.-]+\.\w+)\n", match[3])
        name = match[2] or (first[1] if first else "")
        found.append(Block(page, text[: match.start()].count("\n") + 1, match[1], name, match[3]))
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
    """Write the page's files, with some texts replaced, and the secrets that they refer to."""
    assert [] == [old for old in replaced or {} if old not in page.read_text()]
    for block in blocks(page):
        if block.name:
            text = block.text
            for old, new in (replaced or {}).items():
                text = text.replace(old, new)
            (folder / block.name).write_text(with_secrets(text, folder))


def with_secrets(text: str, folder: Path) -> str:
    """The text with its secret files in the folder, which are made."""
    for file in re.findall(r"_file: /var/run/secrets/([\w/-]+)", text):
        secret = folder / "secrets" / file
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("sdk-test\n")
    return text.replace("/var/run/secrets", str(folder / "secrets"))


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
