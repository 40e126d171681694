"""Datadog's profiler, by the real library: to an agent on loopback, over TCP and a Unix socket, and to files."""

import ctypes
import ctypes.util
import json
import os
import re
import shutil
import socket
import socketserver
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import pytest

from rheostat import Value
from rheostat.plugins import (
    BackendError,
    Bytes,
    Duration,
    FilePath,
    Identity,
    InvalidOptions,
    PermanentError,
    TemporaryError,
    Url,
    parse_pprof,
)
from rheostat.testing import BackendContract
from rheostat_backends.datadog.backend import DatadogBackend, DatadogOptions
from support.busy import eventually, spin
from support.children import PATIENCE, RHEOSTAT, Child, ended
from support.pages import DOCS, command
from support.pages import unpack as unpack_page

PAGE = DOCS / "backends" / "datadog.md"
NOBODY = "http://127.0.0.1:1"
SAMPLER = "rheostat-dd"
TAGS = {"role": "api", "env": "prod", "version": "1.2"}
TESTS = Path(__file__).parents[1]
INFO = {"version": "7.60.0", "endpoints": ["/v0.4/traces", "/profiling/v1/input"]}
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a session's threads are only known on Linux")

CONFIG = """\
version: 1
application: shop
source: {{kind: yaml, path: flags.yaml, poll_interval: 20ms}}
backend: {{kind: datadog, {options}}}
enabled: {{flag: profiling}}
settings:
  sample_rate: {{flag: rate, default: 20, clamp: {{min: 1, max: 250}}}}
  mode: {{flag: mode, default: gil, clamp: {{choices: [gil, cpu, wall]}}}}
policy: {{cooldown: 0s, start_after: 0s, exit_deadline: 500ms}}
"""

SPENT = 1.5
"""Seconds of processor time that are spent in a session."""

APP = f"""\
import sys

from support.busy import spin

for line in sys.stdin:
    spin({SPENT})
    print("spun", flush=True)
"""


# The kit


class _OfDatadog(BackendContract):
    """The real library; a session of somebody else's is in its way."""

    # Something is to be collected, whichever else is off.
    settings: ClassVar[Mapping[str, Value]] = {"memory": True}
    other: Any = None

    @pytest.fixture(autouse=True)
    def others_session(self) -> Iterator[None]:
        yield
        self.mend()

    def is_profiling(self) -> bool:
        """By the threads, as the kernel calls them; the other's has no sampler."""
        names = list(_threads())
        return SAMPLER in names or names.count("Scheduler") > (self.other is not None)

    def break_down(self) -> None:
        self.other = others_profiler()
        self.other.start()

    def mend(self) -> None:
        if self.other is not None:
            self.other.stop(flush=False)
            self.other = None


@ON_LINUX
class TestDatadog(_OfDatadog):
    """Nobody takes anything from it."""

    def section(self) -> str:
        return f"{{kind: datadog, url: '{NOBODY}'}}"


@ON_LINUX
class TestDatadogWithFiles(_OfDatadog):
    """The folder is there."""

    @pytest.fixture(autouse=True)
    def profiles(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "profiles"

    def section(self) -> str:
        return f"{{kind: datadog, output: '{self.folder}'}}"


def _threads() -> Iterator[str]:
    for task in os.listdir("/proc/self/task"):
        # It may have ended since.
        with suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
            yield file.read().strip()


def others_profiler() -> Any:
    """One that the application has made, that uploads nothing."""
    tracer = import_module("rheostat_backends.datadog.session").Untraced(NOBODY)
    return import_module("ddtrace.profiling").Profiler(tracer=tracer, _stack_collector_enabled=False)


# What an agent gets


class Profile(NamedTuple):
    """What one upload tells: its event, and the seconds of processor time by function, wherever that is on a stack."""

    event: Mapping[str, Any]
    seconds: Mapping[str, float]

    @property
    def tags(self) -> Mapping[str, str]:
        return dict(tag.split(":", 1) for tag in self.event["tags_profiler"].split(","))


class Handler(BaseHTTPRequestHandler):
    server: "Agent"

    def do_GET(self) -> None:
        self.give(*self.server.info)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        if self.path.endswith("/profiling/v1/input"):
            self.server.uploads.append(f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body)
        self.give(self.server.status, {})

    def give(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "somebody"

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class Agent(ThreadingHTTPServer):
    """Takes profiles from the entry to the exit of a `with` block; at a path it is a Unix socket."""

    daemon_threads = True

    def __init__(self, path: Path | None = None) -> None:
        self.uploads: list[bytes] = []
        self.asked: list[str] = []
        self.status = 200
        self.info: tuple[int, object] = (200, INFO)
        if path is not None:
            self.address_family = socket.AF_UNIX
        super().__init__(("127.0.0.1", 0) if path is None else str(path), Handler)  # type: ignore[arg-type]
        self.url = f"http://127.0.0.1:{self.server_address[1]}" if path is None else f"unix://{path}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="agent", daemon=True)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "agent", 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join(PATIENCE)
        self.server_close()

    def profiles(self) -> list[Profile]:
        return [uploaded(each) for each in list(self.uploads)]


def uploaded(message: bytes) -> Profile:
    """Raises if it is not what Datadog's intake wants: an event, and the files that it names."""
    parts: dict[Any, Any] = {
        part.get_filename(): part.get_payload(decode=True) for part in message_from_bytes(message).walk()
    }
    event = json.loads(parts["event.json"])
    assert set(event["attachments"]) <= set(parts)
    (name,) = [each for each in event["attachments"] if each.endswith(".pprof")]
    return Profile(event, seconds_of(parts[name]))


def seconds_of(content: bytes) -> Mapping[str, float]:
    profile = parse_pprof(unpacked(content))
    text = profile.string_table
    at = [text[each.type] for each in profile.sample_type].index("cpu-time")
    names = {each.id: text[each.name] for each in profile.function}
    functions = {each.id: {names[line.function_id] for line in each.line} for each in profile.location}
    found: dict[str, float] = {}
    for sample in profile.sample:
        for name in set().union(*(functions[each] for each in sample.location_id)):
            found[name] = found.get(name, 0.0) + sample.value[at] / 1e9
    return found


def has_most_of(profiles: Iterable[Mapping[str, float]]) -> bool:
    """Of the time that was spent: there are ten samples a second, and the first and the last of it are lost."""
    return 0.7 * SPENT < sum(each.get("spin_in_here", 0.0) for each in profiles) < 1.1 * SPENT


def unpacked(content: bytes) -> bytes:
    """By the system's zstd, which the standard library lacks before 3.14."""
    name = ctypes.util.find_library("zstd")
    assert name is not None, "the tests need libzstd"
    library = ctypes.CDLL(name)
    library.ZSTD_decompress.restype = ctypes.c_size_t
    plain = ctypes.create_string_buffer(32 * 2**20)
    size = library.ZSTD_decompress(plain, ctypes.c_size_t(len(plain)), content, ctypes.c_size_t(len(content)))
    assert not library.ZSTD_isError(ctypes.c_size_t(size)), "no zstd"
    return plain.raw[:size]


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as opened:
        yield opened


@pytest.fixture
def made() -> Iterator[list[DatadogBackend]]:
    """Those that are to be stopped."""
    backends: list[DatadogBackend] = []
    yield backends
    for each in backends:
        with suppress(BackendError):
            each.stop()


def backend(made: list[DatadogBackend], of: Mapping[str, str] = TAGS, **options: Any) -> DatadogBackend:
    each = DatadogBackend(DatadogOptions(**options), Identity("shop", "host-1", of, os.getpid()))
    made.append(each)
    return each


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("shop-*.pprof.zst"))


def test_an_agent_gets_the_truth(agent: Agent, made: list[DatadogBackend]) -> None:
    """Each interval uploads a profile that says who worked, under the names that Datadog knows a service by."""
    each = backend(made, url=Url(agent.url), tags={"team": "pay"})
    each.start({"upload_interval": 1})
    spin(SPENT)
    eventually(lambda: len(agent.uploads) > 1)
    each.stop()
    first = agent.profiles()[0]
    assert "python" == first.event["family"]
    told = {"service": "shop", "instance": "host-1", "role": "api", "env": "prod", "version": "1.2", "team": "pay"}
    assert told.items() <= first.tags.items()
    assert has_most_of(profile.seconds for profile in agent.profiles())


def test_options_name_the_service(agent: Agent, made: list[DatadogBackend]) -> None:
    """They count for more than the application's name and tags."""
    each = backend(made, url=Url(agent.url), service="till", env="stage", version="2")
    each.start({})
    each.stop()
    (profile,) = agent.profiles()
    assert {"service": "till", "env": "stage", "version": "2"}.items() <= profile.tags.items()


def test_an_agent_at_a_unix_socket(made: list[DatadogBackend]) -> None:
    """It is asked, and gets profiles, as one at a port."""
    with tempfile.TemporaryDirectory() as folder, Agent(Path(folder) / "apm.socket") as agent:
        each = backend(made, url=Url(agent.url))
        each.reach(PATIENCE)
        each.start({})
        each.stop()
        assert 1 == len(agent.profiles())


def test_a_path_of_the_url_comes_first(agent: Agent, made: list[DatadogBackend]) -> None:
    """An agent behind a proxy that takes requests below a path."""
    each = backend(made, url=Url(f"{agent.url}/dd/"))
    each.start({})
    each.stop()
    assert ["/dd/profiling/v1/input"] == agent.asked


def test_memory_alone(agent: Agent, made: list[DatadogBackend]) -> None:
    """Without stack there is no sampler, and a profile of what was allocated."""
    each = backend(made, url=Url(agent.url))
    each.start({"stack": False, "memory": True})
    assert SAMPLER not in list(_threads())
    assert "healthy" == each.probe().status
    each.stop()
    assert 1 == len(agent.profiles())


def test_nothing_to_collect(made: list[DatadogBackend]) -> None:
    """A session that would collect nothing does not start, until the flags change."""
    with pytest.raises(PermanentError, match="expected one of stack, memory, lock and exception"):
        backend(made).start({"stack": False})


# Reaching it


@pytest.mark.parametrize(
    ("info", "error", "says"),
    [
        ((404, {}), PermanentError, "HTTP 404: is it a Datadog agent"),
        ((503, {}), TemporaryError, "HTTP 503"),
        ((200, {"endpoints": ["/v0.4/traces"]}), PermanentError, "the agent takes no profiles"),
        ((200, ["hello"]), PermanentError, "what answers there is no Datadog agent"),
    ],
)
def test_an_agent_that_takes_no_profiles(
    agent: Agent, made: list[DatadogBackend], info: tuple[int, object], error: type[BackendError], says: str
) -> None:
    """It is told what the agent says of itself, without a profile being sent."""
    each = backend(made, url=Url(agent.url))
    each.reach(PATIENCE)
    agent.info = info
    with pytest.raises(error, match=says):
        each.reach(PATIENCE)
    assert [] == agent.asked


def test_nobody_is_there(made: list[DatadogBackend]) -> None:
    """The system's words say so."""
    with pytest.raises(TemporaryError, match=f"{NOBODY}: Connection refused"):
        backend(made, url=Url(NOBODY)).reach(PATIENCE)


def test_an_agent_that_says_nothing(made: list[DatadogBackend]) -> None:
    """It is given up when the time is over."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        each = backend(made, url=Url(f"http://127.0.0.1:{mute.getsockname()[1]}"))
        with pytest.raises(TemporaryError, match=r"no answer within 0\.1 s"):
            each.reach(0.1)


def test_a_refused_profile_is_told(agent: Agent, made: list[DatadogBackend]) -> None:
    """ddtrace would write it to stderr, and say nothing; it is over with the next that is taken."""
    each = backend(made, url=Url(agent.url))
    agent.status = 413
    each.start({"upload_interval": 1})
    eventually(lambda: agent.uploads)
    with pytest.raises(PermanentError, match="HTTP 413"):
        eventually(lambda: each.reach(PATIENCE))
    agent.status = 200
    eventually(lambda: len(agent.uploads) > 1)
    eventually(lambda: reaches(each))


def reaches(each: DatadogBackend) -> bool:
    try:
        each.reach(PATIENCE)
    except BackendError:
        return False
    return True


# Files


def test_a_session_leaves_a_file(made: list[DatadogBackend], tmp_path: Path) -> None:
    """It says who worked, and no agent is asked for anything."""
    each = backend(made, output=FilePath(str(tmp_path)), url=Url(NOBODY))
    each.start({})
    spin(SPENT)
    each.stop()
    each.reach(PATIENCE)
    (file,) = files(tmp_path)
    assert file.name.startswith(f"shop-{os.getpid()}-")
    assert has_most_of([seconds_of(file.read_bytes())])


def test_files_are_bounded(made: list[DatadogBackend], tmp_path: Path) -> None:
    """Those of the application that are too old are deleted, and no other."""
    old = tmp_path / "shop-7-20250101T000000000000Z.pprof.zst"
    foreign = tmp_path / "till-7-20250101T000000000000Z.pprof.zst"
    for file in (old, foreign):
        file.write_bytes(b"x")
        os.utime(file, (0, 0))
    each = backend(made, output=FilePath(str(tmp_path)), max_age=Duration(60.0))
    each.start({})
    each.stop()
    assert 1 == len(files(tmp_path))
    assert (False, True) == (old.exists(), foreign.exists())


def test_a_folder_that_is_in_the_way(made: list[DatadogBackend], tmp_path: Path) -> None:
    """Without one to write to no session begins; one that is lost meanwhile is told."""
    folder = tmp_path / "profiles"
    each = backend(made, output=FilePath(str(folder)))
    folder.write_text("in the way")
    with pytest.raises(TemporaryError, match=r"profiles: .*; expected a folder"):
        each.start({})
    folder.unlink()
    each.start({})
    shutil.rmtree(folder)
    folder.write_text("in the way")
    each.stop()
    with pytest.raises(TemporaryError, match=r"profiles: .*; expected a folder"):
        each.reach(PATIENCE)


# Sessions


def test_threads_begin_as_before(made: list[DatadogBackend], tmp_path: Path) -> None:
    """However many sessions there were: ddtrace wraps what begins a thread once more at each start."""
    before = threading.Thread._bootstrap_inner
    each = backend(made, output=FilePath(str(tmp_path)))
    for _ in range(3):
        each.start({})
        assert before is not threading.Thread._bootstrap_inner
        each.stop()
        assert before is threading.Thread._bootstrap_inner


def test_starts_beside_threads_that_come_and_go(made: list[DatadogBackend], tmp_path: Path) -> None:
    """ddtrace's own start fails if a thread begins or ends meanwhile, and so does every later one."""
    each = backend(made, output=FilePath(str(tmp_path)))
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            for thread in [threading.Thread(target=over.wait, args=(0.001,)) for _ in range(10)]:
                thread.start()

    churning = [threading.Thread(target=churn) for _ in range(2)]
    for thread in churning:
        thread.start()
    try:
        for _ in range(5):
            each.start({})
            each.stop()
    finally:
        over.set()
        for thread in churning:
            thread.join(PATIENCE)


@ON_LINUX
def test_a_start_that_fails_halfway(
    made: list[DatadogBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Native code that has begun to sample by then is stopped, and the next start works."""
    each = backend(made, output=FilePath(str(tmp_path)))
    each.start({})
    each.stop()

    def fail() -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patched:
        patched.setattr("ddtrace.profiling.collector.threading.init_stack", fail)
        with pytest.raises(TemporaryError, match="could not start what it collects with stack"):
            each.start({})
    eventually(lambda: SAMPLER not in list(_threads()))
    each.start({})
    assert "healthy" == each.probe().status


@ON_LINUX
def test_a_sampler_that_has_ended(made: list[DatadogBackend], tmp_path: Path) -> None:
    """The probe looks for its thread, whatever ddtrace says."""
    each = backend(made, output=FilePath(str(tmp_path)))
    each.start({})
    assert "healthy" == each.probe().status
    import_module("ddtrace.internal.datadog.profiling.stack").stop()
    eventually(lambda: "failed" == each.probe().status)
    assert "does not sample" in each.probe().detail


@ON_LINUX
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_stop_just_after_a_fork(made: list[DatadogBackend], tmp_path: Path) -> None:
    """ddtrace begins its threads anew a moment after a fork, and would leave one for ever, that uploads to nobody."""
    each = backend(made, output=FilePath(str(tmp_path)))
    each.start({})
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    each.stop()
    module = import_module("ddtrace.internal.threads")
    eventually(lambda: module.ThreadRestartTimer._instance is None)
    eventually(lambda: "ThreadRestartTi" not in list(_threads()))
    assert "Scheduler" not in list(_threads())


def test_settings_of_the_application_stay(made: list[DatadogBackend], tmp_path: Path) -> None:
    """ddtrace has one set of settings for the process, which are ours only while a session starts."""
    each = backend(made, output=FilePath(str(tmp_path)))
    each.start({})
    each.stop()
    settings = import_module("ddtrace.profiling.profiler").profiling_config
    settings.output_pprof = "elsewhere"
    before = settings.dump_settings()
    try:
        each.start({"overhead": 7.0, "lock": True, "max_threads": 3})
        assert before == settings.dump_settings()
        each.stop()
    finally:
        settings.output_pprof = None
    assert 2 == len(files(tmp_path))


def test_what_it_costs_and_will_not_show() -> None:
    """The guess grows with the threads and the overhead; the rate is said to be ddtrace's."""
    assert 0.003 < DatadogBackend.estimate({"overhead": 0.1}, 5) < 0.004
    assert 0.01 < DatadogBackend.estimate({}, 50) < 0.013
    assert 0.06 < DatadogBackend.estimate({"max_threads": 0}, 200) < 0.08
    assert 0.2 == DatadogBackend.estimate({"overhead": 20.0}, 5)
    (rate,) = DatadogBackend.remarks({"overhead": 2.0})
    assert "The rate cannot be set" in rate
    assert "2 %" in rate
    assert 3 == len(list(DatadogBackend.remarks({"lock": True, "exception": True})))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"url": Url("https://localhost:8126")}, "url"),
        ({"url": Url("http://user:pw@localhost:8126")}, "url"),
        ({"url": Url("http://localhost:0")}, "url"),
        ({"service": "a,b"}, "service"),
        ({"tags": {"env": "prod"}}, "tags"),
        ({"tags": {"runtime-id": "1"}}, "tags"),
        ({"tags": {"a b": "1"}}, "tags"),
        ({"tags": {"team": ""}}, "tags"),
        ({"max_total_size": Bytes(1)}, "max_total_size"),
        ({"max_age": Duration(1.0)}, "max_age"),
    ],
)
def test_options_that_cannot_be_meant(options: Mapping[str, Any], named: str) -> None:
    """Each is refused by name: ddtrace would start, and silently deliver nothing."""
    with pytest.raises(InvalidOptions, match=named):
        DatadogOptions(**options)


def test_tags_of_the_application_that_cannot_be_sent() -> None:
    """They are told before anything starts."""
    with pytest.raises(PermanentError, match="without a comma as the value of role"):
        backend([], of={"role": "a,b"})


# The process that it lives in

ALONE = """\
import logging, os, subprocess, sys, threading, time
from rheostat.plugins import FilePath, Identity
from rheostat_backends.datadog.backend import DatadogBackend, DatadogOptions

def tasks():
    return sorted(os.listdir("/proc/self/task"))

def apart(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()

before, hook, environment = len(tasks()), sys.excepthook, dict(os.environ)
backend = DatadogBackend(DatadogOptions(output=FilePath("profiles")), Identity("shop", "host-1", {}, os.getpid()))
"""

QUIET = f"""\
{ALONE}
def start():
    backend.start({{}})
    print("DD_INSTRUMENTATION_TELEMETRY_ENABLED" in os.environ)

apart(start)
apart(backend.stop)
print(sys.excepthook is hook, dict(os.environ) == environment, logging.getLogger("ddtrace").handlers)
until = time.monotonic() + 5
while len(tasks()) > before and time.monotonic() < until:
    time.sleep(0.01)
print(len(tasks()) - before)
sys.stdin.readline()
from ddtrace import tracer
with tracer.trace("work"):
    pass
tracer.flush()
"""


@ON_LINUX
def test_the_import_leaves_the_process_alone(agent: Agent, tmp_path: Path) -> None:
    """No telemetry, hook, log handler, variable or thread is left of it, and the tracer works once it is used."""
    env = {"DD_TRACE_AGENT_URL": agent.url, "no_proxy": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    with Child([sys.executable, "-c", QUIET], tmp_path, env) as child:
        assert ["False", "True True []", "0"] == [child.out.next() for _ in range(3)]
        assert [] == agent.asked
        child.tell("")
        assert 0 == child.finish()
        assert [] == child.err.rest()
    eventually(lambda: any(each.endswith("/traces") for each in agent.asked))
    assert not [each for each in agent.asked if "telemetry" in each]


BY_DDTRACE_RUN = f"""\
{ALONE}
import ddtrace.profiling.bootstrap
theirs = getattr(ddtrace.profiling.bootstrap, "profiler", None)
tracer, url = ddtrace.tracer, ddtrace.tracer.agent_trace_url

def start():
    try:
        backend.start({{}})
        print("started", backend.probe().status)
        backend.stop()
    except Exception as error:
        print(type(error).__name__, error)

apart(start)
print(theirs and theirs.status.name, ddtrace.tracer is tracer, tracer.agent_trace_url == url, tracer.enabled)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("profiles", "says", "after"),
    [
        ("true", "TemporaryError ddtrace's profiler runs already", "RUNNING True True True"),
        ("false", "started healthy", "None True True True"),
    ],
)
def test_below_ddtrace_run(tmp_path: Path, profiles: str, says: str, after: str) -> None:
    """A profiler that it has started is left alone, and so is the application's tracer."""
    script = tmp_path / "app.py"
    script.write_text(BY_DDTRACE_RUN)
    env = {
        "DD_PROFILING_ENABLED": profiles,
        "DD_TRACE_AGENT_URL": NOBODY,
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "PYTHONUNBUFFERED": "1",
    }
    ran = ended([str(Path(sys.executable).parent / "ddtrace-run"), sys.executable, str(script)], tmp_path, env)
    first, second = ran.stdout.splitlines()
    assert first.startswith(says), ran
    assert after == second


GREEN = f"""\
import sys
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()
{ALONE}
try:
    backend.start({{}})
except Exception as error:
    print(type(error).__name__, error)
print("ddtrace" in sys.modules)
"""


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_among_green_threads_it_does_not_start(tmp_path: Path, library: str) -> None:
    """Its profiles would charge one thread with the work of others."""
    ran = ended([sys.executable, "-W", "ignore", "-c", GREEN, library], tmp_path)
    refusal, imported = ran.stdout.splitlines()
    assert refusal.startswith(f"PermanentError under {library} ddtrace takes Rheostat's thread for the main one")
    assert "False" == imported


# Under Rheostat


def unpack(folder: Path, options: str, flags: str) -> Sequence[str]:
    (folder / "config.yaml").write_text(CONFIG.format(options=options))
    (folder / "flags.yaml").write_text(flags)
    (folder / "app.py").write_text(APP)
    return [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]


def test_plan_says_that_there_is_no_rate(tmp_path: Path) -> None:
    """The flags of other backends are no errors, and have no effect."""
    unpack(tmp_path, "output: profiles", "{profiling: true, rate: 100, mode: cpu}")
    ran = ended([*RHEOSTAT, "plan", "config.yaml"], tmp_path)
    assert "It would run datadog" in ran.stdout
    assert "sample_rate has no effect: ddtrace chooses the rate by itself" in ran.stdout
    assert "mode has no effect: ddtrace samples the time on the wall clock and on the processor" in ran.stdout
    assert "The rate cannot be set" in ran.stdout
    assert 0 == ran.returncode


def test_check_asks_the_agent(agent: Agent, tmp_path: Path) -> None:
    """With --online, and says what is wrong with it."""
    unpack(tmp_path, f"url: '{agent.url}'", "profiling: true")
    check = [*RHEOSTAT, "check", "--online", "config.yaml"]
    assert 0 == ended(check, tmp_path).returncode
    agent.info = (404, {})
    ran = ended(check, tmp_path)
    assert 1 == ran.returncode
    assert "HTTP 404: is it a Datadog agent" in ran.stdout + ran.stderr


def test_a_flip_leaves_a_file(tmp_path: Path) -> None:
    """A governed process profiles while the flag is on; another rate begins no other session."""
    run = unpack(tmp_path, "output: profiles", "{profiling: true, rate: 20}")
    with Child(run, tmp_path, {"PYTHONPATH": str(TESTS)}) as child:
        child.event("transition", to="running")
        (tmp_path / "flags.yaml").write_text("{profiling: true, rate: 100}")
        child.tell("spin")
        assert "spun" == child.out.next()
        (tmp_path / "flags.yaml").write_text("{profiling: false, rate: 100}")
        stopped = child.event("transition", to="stopped")
        assert ("running", 2) == (stopped["from"], stopped["seq"])
        assert 0 == child.finish()
    (file,) = files(tmp_path / "profiles")
    assert has_most_of([seconds_of(file.read_bytes())])


def test_a_hung_agent_delays_no_exit(tmp_path: Path) -> None:
    """Neither does what ddtrace would do at exit, which takes ten seconds; and nothing is written to stderr."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        options = f"url: 'http://127.0.0.1:{mute.getsockname()[1]}'"
        with Child(unpack(tmp_path, options, "profiling: true"), tmp_path, {"PYTHONPATH": str(TESTS)}) as child:
            child.event("transition", to="running")
            began = time.monotonic()
            assert 0 == child.finish()
            assert time.monotonic() - began < 3.0
            # Each line that it has written is an event of ours.
            assert "transition" in {each["event"] for each in child.events()}


# The page


def table(heading: str) -> dict[str, str]:
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|([^|]*)\|", section, re.MULTILINE)
    return {name: default.strip(" `") for names, default in rows for name in re.findall(r"\w+", names)}


def test_its_tables_are_complete() -> None:
    """Each option and each setting is there, with the default that it has."""
    options = {each.name: each.default for each in fields(DatadogOptions)}
    shown = table("Options")
    assert options.keys() == shown.keys()
    assert ("none", "false") == (shown["output"], shown["code_provenance"])
    assert DatadogOptions().url.reveal() == shown["url"]
    parameters = DatadogBackend.parameters or {}
    settings = {name: json.dumps(each.default) for name, each in parameters.items()}
    assert {**settings, **dict.fromkeys(DatadogBackend.without_effect, "")} == table("Settings")


def test_its_plan_is_true(tmp_path: Path) -> None:
    """With the files of the page the plan says what stands there."""
    unpack_page(PAGE, tmp_path)
    block = command(PAGE, "rheostat plan")
    assert block.output == ended(block.command, tmp_path).stdout
