"""One client of a flag product for a host: a file that is true, and that says when it no longer is."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.children import PATIENCE, RHEOSTAT, Child, ended

SOURCE = """\
version: 1
application: shop
source: {source}
backend: {{kind: noop}}
enabled: {{flag: "on", default: false}}
settings:
  rate: {{flag: rate, default: 20, clamp: {{max: 250}}}}
  mode: {{flag: mode, default: gil, clamp: {{choices: [gil, cpu], otherwise: default}}}}
policy: {{cooldown: 0s, start_after: 0s, hold_last_good: 1s}}
"""

FINE, INVALID = 0, 2


def flip(path: Path, flags: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(flags)
    new.replace(path)


@contextmanager
def mirror(folder: Path, *options: str) -> Iterator[Child]:
    """Of the file of flags that stands for a product, into ``mirrored.yaml``."""
    (folder / "product.yaml").write_text(
        SOURCE.format(source="{kind: yaml, path: product-flags.yaml, poll_interval: 50ms}")
    )
    command = [*RHEOSTAT, "mirror", "--config", "product.yaml", "--to", "mirrored.yaml", "--log", "json"]
    with Child([*command, *(options or ("--heartbeat", "100ms"))], folder) as child:
        yield child


@contextmanager
def reader(folder: Path) -> Iterator[Child]:
    source = "{kind: yaml, path: mirrored.yaml, poll_interval: 50ms, max_age: 1s}"
    (folder / "config.yaml").write_text(SOURCE.format(source=source))
    (folder / "app.py").write_text("import sys\nsys.stdin.read()\n")
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(command, folder) as child:
        yield child


def test_a_flip_goes_through_the_mirror_and_its_end_starts_the_lease(tmp_path: Path) -> None:
    """The readers need no client of the product; a mirror that is dead is an outage to them, and its return the end."""
    flags = tmp_path / "product-flags.yaml"
    flip(flags, "on: true\nrate: 9999\nmode: banana\nsecret_flag: yes\n")
    with mirror(tmp_path) as mirrored, reader(tmp_path) as child:
        assert {"rate": 250, "mode": "gil"} == child.event("transition", to="running")["settings"]
        assert "secret_flag" not in (tmp_path / "mirrored.yaml").read_text()
        assert "# line 2" in (tmp_path / "mirrored.yaml").read_text()
        flip(flags, "on: true\nrate: 30\n")
        assert 30 == child.event("transition", to="running")["settings"]["rate"]
        mirrored.process.kill()
        assert "is its writer still there?" in child.event("source_unavailable")["message"]
        assert "lease" == child.event("transition", to="stopped")["cause"]["kind"]
        with mirror(tmp_path):
            child.event("source_recovered")
            child.event("transition", to="running")
            assert FINE == child.finish()


def test_while_the_source_is_silent_nobody_touches_the_file(tmp_path: Path) -> None:
    """A fresh date would say that it answers; the last good values stay for as long as their readers want."""
    flags = tmp_path / "product-flags.yaml"
    flip(flags, "on: true\n")
    with mirror(tmp_path) as child, reader(tmp_path) as reading:
        reading.event("transition", to="running")
        flags.unlink()
        child.event("source_unavailable")
        before = (tmp_path / "mirrored.yaml").read_text()
        reading.event("source_unavailable")
        assert before == (tmp_path / "mirrored.yaml").read_text()


def test_it_ends_in_order_and_leaves_the_file(tmp_path: Path) -> None:
    """By the signals that a supervisor sends, and with no draft left behind."""
    flip(tmp_path / "product-flags.yaml", "on: true\n")
    for number in (signal.SIGTERM, signal.SIGINT):
        with mirror(tmp_path) as child:
            _until(tmp_path / "mirrored.yaml")
            child.process.send_signal(number)
            assert (FINE, []) == (child.process.wait(PATIENCE), child.err.rest())
        assert "true" in (tmp_path / "mirrored.yaml").read_text()
        (tmp_path / "mirrored.yaml").unlink()
    assert {"product.yaml", "product-flags.yaml"} == {each.name for each in tmp_path.iterdir()}


def test_a_file_that_cannot_be_written_is_said_and_tried_again(tmp_path: Path) -> None:
    """Its folder may be mounted later."""
    flip(tmp_path / "product-flags.yaml", "on: true\n")
    with mirror(tmp_path, "--heartbeat", "100ms", "--to", "later/mirrored.yaml") as child:
        assert "the file cannot be written" in child.event("source_unavailable")["message"]
        (tmp_path / "later").mkdir()
        child.event("source_recovered")
        assert "true" in (tmp_path / "later/mirrored.yaml").read_text()


def test_bad_usage_is_said(tmp_path: Path) -> None:
    for heartbeat in ("soon", "10 parsecs", ""):
        command = [*RHEOSTAT, "mirror", "--config", "none.yaml", "--to", "f", "--heartbeat", heartbeat]
        ran = ended(command, tmp_path)
        assert INVALID == ran.returncode
        assert "expected a duration like 10s" in ran.stderr
    ran = ended([*RHEOSTAT, "mirror", "--config", "none.yaml", "--to", "f"], tmp_path)
    assert (INVALID, True) == (ran.returncode, "none.yaml" in ran.stderr)


def _until(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
