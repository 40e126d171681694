"""The budget of processor time and of memory, with the real agent and many threads."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.children import PATIENCE, RHEOSTAT, Child, parsed

HOST = """\
import json
import sys
import threading
import time

import rheostat

forever = threading.Event()


def deep(frames):
    deep(frames - 1) if frames else forever.wait()


for _ in range(200):
    threading.Thread(target=deep, args=(10,), daemon=True).start()
began = time.monotonic()


def say(made):
    line = {"to": str(made.to_state), "cause": made.cause.kind, "rate": made.settings.get("sample_rate")}
    print(json.dumps({**line, "at": time.monotonic() - began, "used": time.process_time()}), flush=True)


reconciler = rheostat.start("config.yaml", observers=[say])
forever.wait()
"""

CONFIG = """\
version: 1
application: shop
source: {{kind: yaml, path: flags.yaml}}
backend: {{kind: pyroscope, server_address: "http://127.0.0.1:9", sampler: pyspy}}
enabled: {{flag: "on", default: false}}
settings: {{mode: {mode}, sample_rate: 100}}
policy: {{budget: {{{budget}}}, cooldown: 0s, reach: 0s}}
"""
PROCESSOR = "cpu: 20%, burst: 1s"


@contextmanager
def host(folder: Path, mode: str, budget: str = PROCESSOR) -> Iterator[Child]:
    (folder / "config.yaml").write_text(CONFIG.format(mode=mode, budget=budget))
    (folder / "flags.yaml").write_text("on: true\n")
    (folder / "host.py").write_text(HOST)
    with Child([sys.executable, "host.py"], folder) as child:
        yield child


def test_the_budget_pauses_a_session_that_costs_too_much_and_lowers_its_rate(tmp_path: Path) -> None:
    """100 Hz take a core with 200 threads: a fifth of one is there again some seconds later, for a lower rate."""
    with host(tmp_path, "cpu") as child:
        first, paused, second = (json.loads(child.out.next() or "") for _ in range(3))
    assert ("running", 100) == (first["to"], first["rate"])
    assert ("stopped", "budget") == (paused["to"], paused["cause"])
    assert ("running", "budget") == (second["to"], second["cause"])
    assert 1 <= second["rate"] < 60
    assert second["used"] - first["used"] <= 0.2 * (second["at"] - first["at"]) + 0.2 + PATIENCE / 10


def test_the_first_rate_is_what_may_fit(tmp_path: Path) -> None:
    """As the backend guesses by the threads that there are: nobody has measured yet."""
    with host(tmp_path, "wall") as child:
        first = json.loads(child.out.next() or "")
    assert ("running", 4) == (first["to"], first["rate"])


def test_a_session_that_brings_more_memory_than_it_may_ends(tmp_path: Path) -> None:
    """Some seconds after its start, by what the process has grown since before it."""
    with host(tmp_path, "gil", "rss: 4KiB") as child:
        first, ended = (json.loads(child.out.next() or "") for _ in range(2))
    assert ("running", "stopped", "budget") == (first["to"], ended["to"], ended["cause"])


def test_a_budget_that_cannot_be_kept_is_said_once(tmp_path: Path) -> None:
    """A backend without threads of its own goes on, and nothing is made up."""
    config = CONFIG.format(mode="wall", budget=PROCESSOR).replace(
        'kind: pyroscope, server_address: "http://127.0.0.1:9", sampler: pyspy', "kind: noop"
    )
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "flags.yaml").write_text("on: true\n")
    (tmp_path / "app.py").write_text("import sys; sys.stdin.read()\n")
    run = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(run, tmp_path) as child:
        assert "the budget is not kept" in child.event("not_measured")["message"]
        (tmp_path / "flags.yaml").write_text("on: false\n")
        child.event("transition", to="stopped")
        assert child.finish() == 0
        assert not [line for line in child.err.seen if parsed(line).get("event") == "adjusted"]
        assert 1 == sum(parsed(line).get("event") == "not_measured" for line in child.err.seen)
