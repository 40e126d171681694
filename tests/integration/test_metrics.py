"""Metrics in the application's own libraries, from real processes; and what is drawn of them exists."""

import json
import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from rheostat._report.prometheus_metrics import _registered
from support.children import PATIENCE, RHEOSTAT, Child, ended

ROOT = Path(__file__).parents[2]

CONFIG = """\
version: 1
application: shop
instance: host-1
state_dir: state
metrics: [{metrics}]
source: {{kind: yaml, path: flags.yaml, poll_interval: 50ms}}
backend: {{kind: noop}}
enabled: {{flag: "on", default: false}}
settings: {{rate: {{flag: rate, default: 20, clamp: {{max: 250}}}}}}
policy: {{cooldown: 0s, start_after: 0s, processes: {processes}}}
"""

APP = """\
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

def app(environ, start_response):
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [generate_latest(registry)]
"""

HOOK = """\
from prometheus_client import multiprocess

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)

def when_ready(server):
    print(server.LISTENERS[0].getsockname()[1], flush=True)
"""

COLLECTED = """\
import json, sys, threading
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
logs, provider = InMemoryLogRecordExporter(), LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
set_logger_provider(provider)

import rheostat

moved = threading.Semaphore(0)
with rheostat.start("config.yaml", observers=[lambda made: moved.release()]) as reconciler:
    assert moved.acquire(timeout=20)
    points = [
        (metric.name, metric.unit, dict(point.attributes), point.value)
        for scope in json_free(reader) for metric in scope.metrics for point in metric.data.data_points
    ]
    events = [(each.log_record.event_name, dict(each.log_record.attributes)) for each in logs.get_finished_logs()]
print(json.dumps([points, events]))
""".replace("json_free(reader)", "reader.get_metrics_data().resource_metrics[0].scope_metrics")


def prepare(folder: Path, metrics: str, processes: str = "all") -> None:
    (folder / "config.yaml").write_text(CONFIG.format(metrics=metrics, processes=processes))
    (folder / "flags.yaml").write_text("on: true\nrate: 9999\n")


def test_a_gunicorn_in_multiprocess_mode_shows_the_states_of_its_workers(tmp_path: Path) -> None:
    """Scraped from any of them: so many run, so often they have changed, and no worker of the past counts."""
    prepare(tmp_path, "prometheus", "workers")
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "hook.py").write_text(HOOK)
    (tmp_path / "shared").mkdir()
    gunicorn = [sys.executable, "-m", "gunicorn", "-w", "3", "-b", "127.0.0.1:0", "-c", "hook.py", "app:app"]
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", *gunicorn]
    with Child(command, tmp_path, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")}) as child:
        port = child.out.next()
        for _ in range(3):
            killed = child.event("transition", to="running")["pid"]
        found = _scraped(port, {("state", "running"): 3})
        assert 3 == found["transitions_total", "running"]
        assert 3 == found["adjustments_total", "rate"]
        os.kill(killed, signal.SIGKILL)
        child.event("transition", to="running")
        _scraped(port, {("state", "running"): 3})
        (tmp_path / "flags.yaml").write_text("on: false\n")
        _scraped(port, {("state", "running"): 0, ("state", "stopped"): 3})


def _scraped(port: str | None, wanted: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """The figures by name and last label's value, once they are as wanted."""
    until = time.monotonic() + PATIENCE
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        lines = re.findall(r'^rheostat_profiler_(\w+)\{.*?(?:state|to|setting)="(\w+)"\} (\S+)$', text, re.MULTILINE)
        figures = {(name, label): float(value) for name, label, value in lines}
        if wanted.items() <= figures.items():
            return figures
        assert time.monotonic() < until, text


def test_opentelemetry_gets_the_state_the_counts_and_the_event_of_each_transition(tmp_path: Path) -> None:
    """By names of its conventions; the event says which flag it was."""
    prepare(tmp_path, "opentelemetry")
    ran = ended([sys.executable, "-c", COLLECTED], tmp_path)
    assert 0 == ran.returncode, ran.stderr
    points, events = json.loads(ran.stdout)
    found = {(name, attributes.get("rheostat.state", "")): value for name, _, attributes, value in points}
    assert 1 == found["rheostat.profiler.state", "running"]
    assert 0 == found["rheostat.profiler.state", "stopped"]
    assert 0 == found["rheostat.profiler.source.stale", ""]
    assert 1 == found["rheostat.profiler.transitions", ""]
    assert 1 == found["rheostat.profiler.adjustments", ""]
    [(name, attributes)] = events
    assert "rheostat.profiler.transition" == name
    assert {"feature_flag.key": "on", "feature_flag.result.value": "True"}.items() <= attributes.items()


def test_a_library_that_is_not_there_is_said_and_costs_nothing_else(tmp_path: Path) -> None:
    """With the command that installs it, by the log and by `check`."""
    prepare(tmp_path, "prometheus")
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('not here')\n")
    (tmp_path / "app.py").write_text("import sys; sys.stdin.read()\n")
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(command, tmp_path, {"PYTHONPATH": str(tmp_path)}) as child:
        assert "pip install 'rheostat[prometheus]'" in child.event("not_measured")["message"]
        child.event("transition", to="running")
        assert 0 == child.finish()


def test_without_metrics_no_library_is_imported(tmp_path: Path) -> None:
    """Nor with them any other than what is named."""
    code = (
        "import rheostat, sys, threading\nmoved = threading.Event()\n"
        "with rheostat.start('config.yaml', observers=[lambda made: moved.set()]):\n    assert moved.wait(20)\n"
        "print([each for each in ('opentelemetry', 'prometheus_client') if each in sys.modules])\n"
    )
    for metrics, expected in (("", "[]"), ("prometheus", "['prometheus_client']")):
        prepare(tmp_path, metrics)
        assert expected == ended([sys.executable, "-c", code], tmp_path).stdout.strip()


def _expressions() -> Iterator[str]:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    yield from (
        target["expr"].replace("$application", ".*") for panel in dashboard["panels"] for target in panel["targets"]
    )
    alerts = yaml.safe_load((ROOT / "deploy/grafana/alerts.yaml").read_text())
    yield from (rule["expr"] for group in alerts["groups"] for rule in group["rules"])


@pytest.mark.parametrize("expression", list(_expressions()))
def test_what_is_drawn_and_alerted_on_exists(expression: str) -> None:
    """Each is PromQL, and of metrics that there are."""
    promql_parser.parse(expression)
    registered: Any = _registered()
    names = {metric.name for each in registered for metric in each.describe()}
    known = names | {f"{name}_total" for name in names}
    used = set(re.findall(r"\brheostat_\w+", expression))
    assert used
    assert used <= known
