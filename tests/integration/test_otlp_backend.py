"""Profiles by OTLP, from the real agent to a collector on loopback that holds the protocol's rules."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rheostat.plugins import (
    BackendError,
    Duration,
    FilePath,
    Identity,
    InvalidOptions,
    PermanentError,
    Secret,
    TemporaryError,
    Url,
)
from rheostat_backends.pyroscope import otlp_request
from rheostat_backends.pyroscope.otlp import OtlpBackend, OtlpOptions
from support.busy import eventually, spinning
from support.children import RHEOSTAT, Child, ended
from support.vendors.collector import PATH, Collector, Received
from support.vendors.http_document import Handler, packed_bomb

FAST = {"upload_interval": 1, "sample_rate": 100}
TOKEN = "Bearer c0llector-t0ken"

CONFIG = """\
version: 1
application: shop
tags: {{role: api}}
source: {{kind: yaml, path: flags.yaml, poll_interval: 20ms}}
backend: {{kind: otlp, endpoint: '{endpoint}', timeout: 1s}}
enabled: {{flag: profiling}}
settings: {{sample_rate: 100, upload_interval: 3600}}
policy: {{cooldown: 0s, start_after: 0s}}
"""

APP = """\
import sys

from support.busy import spin

for line in sys.stdin:
    spin()
    print("spun", flush=True)
"""


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers on loopback are asked without the proxy that the environment may have."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as opened:
        yield opened


def backend(endpoint: str, **options: Any) -> OtlpBackend:
    made = OtlpOptions(endpoint=Url(endpoint), timeout=Duration(0.5), **options)
    return OtlpBackend(made, Identity("shop", "host-1", {"role": "api"}, os.getpid()))


@pytest.fixture
def made(collector: Collector) -> Iterator[OtlpBackend]:
    made = backend(collector.endpoint, headers={"Authorization": Secret(TOKEN)})
    yield made
    made.stop()


def has_spun(profile: Received) -> bool:
    return any(frame.startswith("spin_in_here busy.py") for stack in profile.stacks for frame in stack)


def test_a_profile_says_who_worked_and_whose_it_is(made: OtlpBackend, collector: Collector) -> None:
    """By the names that OpenTelemetry has for it, with the credentials of the configuration."""
    with spinning():
        made.start(FAST)
        found = collector.wait_for(has_spun)
    assert ("cpu/nanoseconds", 10_000_000) == (found.sample_type, found.period)
    assert {
        "service.name": "shop",
        "service.instance.id": "host-1",
        "role": "api",
        "profiling_mode": "gil",
    }.items() <= (found.resource.items())
    assert "process.pid" not in found.resource
    assert 0 < sum(found.stacks.values()) <= 1.5e9 * max(1.0, found.seconds)
    path, headers = collector.asked[0]
    assert (PATH, TOKEN, "application/x-protobuf") == (path, headers["Authorization"], headers["Content-Type"])


def test_the_process_and_threads_can_be_named(collector: Collector) -> None:
    """Where that is asked for."""
    made = backend(collector.endpoint, report_pid=True, report_thread_name=True, tags={"zone": "eu"})
    with spinning():
        made.start(FAST)
        found = collector.wait_for(has_spun)
        made.stop()
    assert {"process.pid": os.getpid(), "zone": "eu"}.items() <= found.resource.items()
    assert any("thread_name" == key for key, _ in found.labels)


def test_each_type_of_sample_is_a_profile(made: OtlpBackend, collector: Collector) -> None:
    """As OTLP has it: what pprof has in one is told apart."""
    kept = []
    made.start({**FAST, "mem_enabled": True, "mem_heap_sample_size": 4096})
    kept.append(bytearray(5 * 2**20))
    collector.wait_for(lambda profile: profile.sample_type == "inuse_space/bytes" and sum(profile.stacks.values()) > 0)
    assert {"alloc_space/bytes", "inuse_objects/count"} <= {each.sample_type for each in collector.received()}


def redirected(handler: Handler) -> None:
    handler.give(307, Location=f"http://localhost:{handler.server.server_port}{PATH}")


FAULTS = {
    "hung": (lambda server: server.hang, "no answer within 0.5 s"),
    "dripping": (lambda server: server.drip, "no answer within 0.5 s"),
    "reset": (lambda server: server.reset, "Connection reset by peer"),
    "cut": (lambda server: server.cut, "the connection broke"),
    "a bomb": (lambda server: packed_bomb() and server.bomb, "what answers there is no OTLP collector"),
    "large": (lambda server: server.large, "what answers there is no OTLP collector"),
    "garbage": (lambda server: lambda handler: handler.give(200, b"<html>"), "what answers there is no OTLP collector"),
    "401": (lambda server: lambda handler: handler.give(401), "HTTP 401: are the credentials right?"),
    "404": (lambda server: lambda handler: handler.give(404), "HTTP 404: does it have a receiver for OTLP"),
    "500": (lambda server: lambda handler: handler.give(500), "HTTP 500"),
    "elsewhere": (lambda server: redirected, "HTTP 307"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_a_collector_that_does_not_take_profiles_is_said(
    made: OtlpBackend, collector: Collector, fault: Any, said: str
) -> None:
    """In one line, the same each time, without the credentials, which go nowhere else; and it recovers by itself."""
    collector.misbehave(fault(collector))
    assert said in refusal(made)
    assert refusal(made) == refusal(made)
    assert "c0llector" not in refusal(made)
    assert {PATH} == {path for path, _ in collector.asked}
    collector.mend()
    assert "" == refusal(made)


def test_a_collector_that_is_not_there_is_said() -> None:
    assert "http://***@127.0.0.1:1: Connection refused" == refusal(backend("http://user:s3cret@127.0.0.1:1"))


def refusal(made: OtlpBackend) -> str:
    try:
        made.reach(2)
    except BackendError as error:
        return str(error)
    return ""


def test_profiles_that_were_rejected_are_said(made: OtlpBackend, collector: Collector) -> None:
    """By a collector that takes the request, and not what is in it; the session goes on."""
    collector.rejects = 3
    with spinning():
        made.start(FAST)
        eventually(lambda: "the collector has rejected profiles: too many" in refusal(made))
        assert "healthy" == made.probe().status
        collector.rejects = 0
        eventually(lambda: refusal(made) == "")


def test_a_stop_is_bounded_though_the_collector_hangs(made: OtlpBackend, collector: Collector) -> None:
    """The last window is lost, and no thread is left."""
    with spinning():
        made.start(FAST)
        collector.wait_for(has_spun)
        collector.misbehave(collector.hang)
        asked = len(collector.asked)
        made.stop()
    assert len(collector.asked) <= asked + 2
    eventually(lambda: "rheostat-sink" not in {thread.name for thread in threading.enumerate()})


def test_other_versions_of_the_messages_are_found_out(made: OtlpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol is in development: what is not there any more is named, and nothing is started."""
    monkeypatch.setattr(otlp_request, "_NEEDED", {"Profile": ("samples", "sample_of_tomorrow")})
    with pytest.raises(PermanentError, match=r"no Profile\.sample_of_tomorrow: pip install --upgrade"):
        made.start(FAST)
    monkeypatch.setattr(otlp_request, "_NEEDED", {"ProfileOfTomorrow": ()})
    with pytest.raises(PermanentError, match="no ProfileOfTomorrow"):
        made.start(FAST)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"endpoint": Url("localhost:4318")}, "endpoint"),
        ({"headers": {"a b": Secret("c")}}, "headers"),
        ({"headers": {"a": Secret("b\nc")}}, "headers"),
        ({"timeout": Duration(0.0)}, "timeout"),
        ({"tags": {"1": "x"}}, "tags"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidOptions, match=named):
        OtlpOptions(**options)


def test_an_authority_that_is_no_file_is_said(tmp_path: Path) -> None:
    made = backend("https://127.0.0.1:1", ca_file=FilePath(str(tmp_path / "missing.pem")))
    with pytest.raises(TemporaryError, match="No such file"):
        made.reach(1)


def test_a_service_is_profiled_while_a_flag_is_on(tmp_path: Path, collector: Collector) -> None:
    """Its whole session arrives when the flag is turned off; `check --online` asks the collector."""
    (tmp_path / "config.yaml").write_text(CONFIG.format(endpoint=collector.endpoint))
    (tmp_path / "app.py").write_text(APP)
    env = {"no_proxy": "127.0.0.1", "PYTHONPATH": str(Path(__file__).parents[1])}
    flags = tmp_path / "flags.yaml"
    flags.write_text("profiling: true\n")
    assert 0 == ended([*RHEOSTAT, "check", "--online", "config.yaml"], tmp_path, env).returncode
    assert "It would run otlp: sample_rate=100" in ended([*RHEOSTAT, "plan", "config.yaml"], tmp_path, env).stdout
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(command, tmp_path, env) as child:
        child.event("transition", to="running")
        child.tell("spin")
        assert "spun" == child.out.next()
        flags.write_text("profiling: false\n")
        child.event("transition", to="stopped")
        assert has_spun(collector.wait_for(has_spun))
        assert 0 == child.finish()
    collector.misbehave(lambda handler: handler.give(401))
    refused = ended([*RHEOSTAT, "check", "--online", "config.yaml"], tmp_path, env)
    assert 1 == refused.returncode
    assert "HTTP 401: are the credentials right?" in refused.stdout + refused.stderr
