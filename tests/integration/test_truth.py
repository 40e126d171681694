"""Whether a session really samples, whether a server would take what it delivers, and who else profiles."""

import base64
import cProfile
import http.server
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyroscope
import pytest

import rheostat
from rheostat import State
from rheostat._cli.commands import main
from rheostat._host.runtime import other_profilers
from rheostat.plugins import Identity, InvalidOptions, Secret, TemporaryError, Url
from rheostat.receive.receiver import Receiver
from rheostat_backends.pyroscope.backend import PyroscopeBackend, PyroscopeOptions
from rheostat_backends.pyroscope.server import PUSH
from support.children import PATIENCE, RHEOSTAT, Child, ended, environment, parsed

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the session's threads are only known on Linux")

CONFIG = """\
version: 1
application: shop
source: {{kind: yaml, path: flags.yaml}}
backend: {backend}
enabled: {{flag: on, default: false}}
policy: {{resync: 1s, cooldown: 0s, backoff: {{initial: 200ms, max: 1s}}, exit_deadline: 500ms}}
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def backend(address: str, **options: Any) -> PyroscopeBackend:
    made = PyroscopeOptions(server_address=Url(address), **options)
    return PyroscopeBackend(made, Identity("shop", "host-1", {}, os.getpid()))


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)


def prepare(folder: Path, backend: str) -> Path:
    (folder / "flags.yaml").write_text("on: true\n")
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(backend=backend))
    return config


# The probe


@ON_LINUX
@pytest.mark.parametrize("mode", ["gil", "cpu", "wall"])
@pytest.mark.parametrize("memory", [False, True])
def test_a_real_session_is_healthy(receiver: Receiver, mode: str, memory: bool) -> None:
    """Its threads are there, time and again, in every mode, and once more after a restart."""
    made = backend(receiver.address)
    for _ in range(2):
        made.start({"mode": mode, "mem_enabled": memory})
        try:
            found = [made.probe() for _ in range(3)]
        finally:
            made.stop()
        assert {"healthy"} == {each.status for each in found}, found
        assert "failed" == made.probe().status


@ON_LINUX
def test_a_session_that_panicked_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An address that the agent cannot take ends its session's thread, though configure says True."""
    real = pyroscope.configure

    def at_a_bad_address(**arguments: Any) -> bool:
        return bool(real(**{**arguments, "server_address": "localhost:4040", "upload_interval": 1}))

    monkeypatch.setattr(pyroscope, "configure", at_a_bad_address)
    made = backend("http://127.0.0.1:1")
    made.start({"sample_rate": 100})
    try:
        spin_until(lambda: made.probe().status == "failed")
        assert "of the agent's session are left: it does not sample" in made.probe().detail
    finally:
        made.stop()
    assert "panicked" in capfd.readouterr().err


def spin_until(holds: Callable[[], object]) -> None:
    """As an idle process has nothing to upload, the agent would not notice."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        sum(range(20000))


@ON_LINUX
def test_a_dead_session_is_stopped_and_started_anew(receiver: Receiver, tmp_path: Path) -> None:
    """The one that is found dead is stopped, said, and followed by another that is sound."""
    script = (
        "import sys, threading, time, pyroscope, rheostat\n"
        "real, addresses = pyroscope.configure, ['localhost:4040']\n"
        "def configure(**arguments):\n"
        "    address = addresses.pop() if addresses else arguments['server_address']\n"
        "    return real(**{**arguments, 'server_address': address, 'upload_interval': 1})\n"
        "pyroscope.configure = configure\n"
        "def burn():\n"
        "    while True: sum(range(2000))\n"
        "threading.Thread(target=burn, daemon=True).start()\n"
        "moves = []\n"
        "reconciler = rheostat.start('config.yaml', observers=[lambda made: moves.append(str(made.trigger))])\n"
        "deadline = time.monotonic() + 12\n"
        "while reconciler.status().health.status != 'healthy' or 'died' not in moves:\n"
        "    assert time.monotonic() < deadline, (moves, reconciler.status())\n"
        "    time.sleep(0.01)\n"
        "status = reconciler.status()\n"
        "print(moves, status.state, status.error or 'fine')\n"
    )
    prepare(tmp_path, f'{{kind: pyroscope, server_address: "{receiver.address}"}}')
    ran = ended([sys.executable, "-c", script], tmp_path)
    assert ("['started', 'died', 'started'] running fine\n", 0) == (ran.stdout, ran.returncode), ran.stderr


WITHOUT_PROC = """\
import logging, os, sys, threading, time
logging.basicConfig(level="INFO", format="%(rheostat_event)s %(message)s")
import rheostat
assert not os.path.exists("/proc/self")
moves = []
reconciler = rheostat.start("config.yaml", observers=[moves.append])
deadline = time.monotonic() + 15
while [str(each.trigger) for each in moves].count("died") < 2:
    assert time.monotonic() < deadline, reconciler.status()
    time.sleep(0.01)
while (status := reconciler.status()).state != "stopped" or not status.waiting:
    assert time.monotonic() < deadline, status
    time.sleep(0.01)
print(status.health)
print(status.error)
print(status.waiting)
print([str(each.trigger) for each in moves][:4])
"""


def can_hide_proc() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc"]
    return subprocess.run(command, capture_output=True, timeout=PATIENCE).returncode == 0


@ON_LINUX
def test_without_proc_it_says_that_it_does_not_sample(receiver: Receiver, tmp_path: Path) -> None:
    """Where the agent would run for ever without a sample: health failed, stopped, tried again with backoff."""
    if not can_hide_proc():
        pytest.skip("mounting over /proc needs unshare and CAP_SYS_ADMIN")
    prepare(tmp_path, f'{{kind: pyroscope, server_address: "{receiver.address}"}}')
    (tmp_path / "app.py").write_text(WITHOUT_PROC)
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    ran = ended([*hidden, sys.executable, "app.py"], tmp_path)
    assert 0 == ran.returncode, ran.stderr
    health, error, waiting, moves = ran.stdout.splitlines()
    assert "status='failed'" in health
    assert "/proc cannot be read" in health
    assert "the session does not sample: /proc cannot be read: the agent needs it to sample" == error
    assert waiting.startswith("backoff")
    assert "['started', 'died', 'started', 'died']" == moves


# check --online


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Door)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        if not server.released.is_set() and not (body and server.takes_profiles):
            server.released.wait(PATIENCE)
        self.send_response(server.status)
        if server.location:
            self.send_header("Location", server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class Door(http.server.ThreadingHTTPServer):
    """Answers every request with `status`, once it is released, and keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.location = ""
        self.seen: list[tuple[str, Mapping[str, str], bytes]] = []
        self.released = threading.Event()
        self.released.set()
        self.takes_profiles = False
        """Whatever it is released for: the agent's own stop waits for an answer to a profile."""
        self.address = f"127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Whoever asks goes away before a late answer."""


@contextmanager
def serving(door: Door) -> Iterator[Door]:
    with door:
        thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield door
        finally:
            door.released.set()
            door.shutdown()
            thread.join()


@pytest.fixture
def door() -> Iterator[Door]:
    with serving(Door()) as opened:
        yield opened


def checked(folder: Path, backend: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code and all that `check --online` says."""
    prepare(folder, backend)
    ran = ended([*RHEOSTAT, "check", "--online", "config.yaml"], folder, env)
    return ran.returncode, ran.stdout + ran.stderr


def test_a_server_that_takes_pushes_is_fine(receiver: Receiver, tmp_path: Path) -> None:
    """It gets no profile, and the answer is one line."""
    code, said = checked(tmp_path, f'{{kind: pyroscope, server_address: "{receiver.address}"}}')
    assert (0, f"{tmp_path / 'config.yaml'}: fine\n") == (code, said)
    assert () == receiver.profiles()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "HTTP 401: are the credentials right?"),
        (403, "HTTP 403: are the credentials right?"),
        (404, "HTTP 404: is it Pyroscope?"),
        (500, "HTTP 500"),
    ],
)
def test_a_server_that_refuses_is_a_finding(door: Door, tmp_path: Path, status: int, words: str) -> None:
    """The finding says where, what was answered and what to look at."""
    door.status = status
    code, said = checked(tmp_path, f'{{kind: pyroscope, server_address: "http://{door.address}"}}')
    assert (1, 1) == (code, said.count("\n"))
    assert f"backend: PermanentError: http://{door.address}: {words}\n" in said


def test_nobody_there_is_a_finding(tmp_path: Path) -> None:
    """A refused connection is named with its address."""
    with socket.socket() as bound:
        # Nobody else can listen there either.
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        code, said = checked(tmp_path, f'{{kind: pyroscope, server_address: "{address}"}}')
    assert 1 == code
    assert f"{address}: " in said
    assert "Connection refused" in said


def test_what_speaks_no_http_is_a_finding(tmp_path: Path) -> None:
    """Something else that listens there is no reason for a traceback."""

    def speak(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=speak, args=(server,))
        thread.start()
        code, said = checked(
            tmp_path, f'{{kind: pyroscope, server_address: "http://127.0.0.1:{server.getsockname()[1]}"}}'
        )
        thread.join(PATIENCE)
    assert 1 == code
    assert "Traceback" not in said
    assert "backend: " in said


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """Of the check: less than its own 5 s, which would be too long to wait for."""
    monkeypatch.setattr("rheostat._cli.commands.PATIENCE", 0.3)
    return 0.3


def test_a_hung_server_is_a_finding_in_time(
    door: Door, tmp_path: Path, patience: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check ends after its patience and says that the server does not answer."""
    door.released.clear()
    config = prepare(tmp_path, f'{{kind: pyroscope, server_address: "http://{door.address}"}}')
    began = time.monotonic()
    assert 1 == main(["check", "--online", str(config)])
    assert "no answer within" in capsys.readouterr().out
    assert time.monotonic() - began < patience + 2.0


def test_a_server_that_answers_byte_by_byte_is_a_finding_in_time(
    tmp_path: Path, patience: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """The patience is for the whole answer, not for each piece of it."""
    done = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(30):
                connection.sendall(b".")
                done.wait(0.1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        config = prepare(tmp_path, f'{{kind: pyroscope, server_address: "{address}"}}')
        began = time.monotonic()
        code = main(["check", "--online", str(config)])
        took = time.monotonic() - began
        done.set()
        thread.join(PATIENCE)
    assert 1 == code, capsys.readouterr()
    assert took < patience + 2.0


def test_a_redirect_is_a_finding_and_takes_no_credentials_along(door: Door, receiver: Receiver, tmp_path: Path) -> None:
    """The answer of a login page is not Pyroscope's word, and another host is not to learn the token."""
    with serving(Door()) as elsewhere:
        door.status, door.location = 302, f"http://localhost:{elsewhere.server_port}/login"
        code, said = checked(
            tmp_path, f'{{kind: pyroscope, server_address: "http://{door.address}", auth_token: t0ken}}'
        )
        told = [headers.get("authorization") for _, headers, _ in elsewhere.seen]
    assert (1, [], 1) == (code, [each for each in told if each], said.count("\n"))


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("options", "user", "header", "value", "secrets"),
    [
        ("auth_token: t0ken-of-mine", "", "authorization", "Bearer t0ken-of-mine", ["t0ken-of-mine"]),
        (
            "basic_auth_username: ann, basic_auth_password: pa55word",
            "",
            "authorization",
            basic("ann:pa55word"),
            ["pa55word", basic("ann:pa55word")],
        ),
        ("tenant_id: team-a", "", "x-scope-orgid", "team-a", []),
        ("http_headers: {X-Key: header-s3cret}", "", "x-key", "header-s3cret", ["header-s3cret"]),
        ("tenant_id: ''", "ann:user-part@", "authorization", basic("ann:user-part"), ["user-part"]),
        ("tenant_id: ''", "ann:p%40rt:x@", "authorization", basic("ann:p@rt:x"), ["p%40rt", "p@rt"]),
    ],
    ids=["bearer", "basic", "tenant", "header", "user part", "encoded user part"],
)
@pytest.mark.parametrize("status", [pytest.param(200, marks=pytest.mark.soak), 401])
def test_credentials_are_sent_and_never_shown(
    door: Door, tmp_path: Path, options: str, user: str, header: str, value: str, secrets: list[str], status: int
) -> None:
    """The credentials of the agent are sent with an empty push, and are in no word of the answer."""
    door.status = status
    code, said = checked(tmp_path, f'{{kind: pyroscope, server_address: "http://{user}{door.address}", {options}}}')
    assert (0 if status == 200 else 1) == code
    [(path, headers, body)] = door.seen
    assert (PUSH, b"", value) == (path, body, headers.get(header))
    assert [] == [secret for secret in secrets if secret in said]


@pytest.mark.parametrize(
    "user",
    [
        "ann:user-part@",
        "ann:p%40rt:x@",
        "t0ken@",
        "ann:@",
        "%61nn:pw@",
    ],
)
def test_the_check_sends_what_the_agent_sends(door: Door, user: str) -> None:
    """The user part of the address reaches the server in the same form from both."""
    made = backend(f"http://{user}{door.address}")
    made.reach(PATIENCE)
    # In wall mode there is a sample of whatever sleeps.
    made.start({"sample_rate": 100, "mode": "wall"})
    time.sleep(0.5)
    made.stop()
    checked_with, pushed_with = (headers.get("authorization") for _, headers, _ in door.seen[:2])
    assert pushed_with == checked_with


@pytest.mark.parametrize(
    "other",
    [
        {"http_headers": {"Authorization": Secret("Bearer of-header")}},
        {"auth_token": Secret("of-token")},
        {"basic_auth_username": "bob", "basic_auth_password": Secret("of-basic")},
    ],
    ids=["header", "token", "basic"],
)
def test_the_user_part_and_another_credential_are_refused(other: Mapping[str, Any]) -> None:
    """The agent would send both in two Authorization headers, and the server take either."""
    with pytest.raises(InvalidOptions, match="only one of"):
        backend("http://ann:user-part@127.0.0.1:1", **other)


def test_a_source_that_does_not_answer_is_a_finding(receiver: Receiver, tmp_path: Path) -> None:
    """Both the flags and the server are asked; each that is silent is one line."""
    config = prepare(tmp_path, f'{{kind: pyroscope, server_address: "{receiver.address}"}}')
    (tmp_path / "flags.yaml").unlink()
    ran = ended([*RHEOSTAT, "check", "--online", str(config)], tmp_path)
    assert (1, 1) == (ran.returncode, ran.stdout.count("\n"))
    assert "the flag source does not answer" in ran.stdout


# Neighbours


@contextmanager
def a_thread_called(name: str) -> Iterator[None]:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name=name)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def a_timer_of_cpu_time() -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_PROF, 1000)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def a_profile_function() -> Iterator[None]:
    threading.setprofile(lambda *_: None)
    try:
        yield
    finally:
        threading.setprofile(None)


@contextmanager
def sys_monitoring() -> Iterator[None]:
    monitoring: Any = sys.monitoring  # on 3.12 and later
    monitoring.use_tool_id(monitoring.PROFILER_ID, "a tool")
    try:
        yield
    finally:
        monitoring.free_tool_id(monitoring.PROFILER_ID)


@contextmanager
def c_profile() -> Iterator[None]:
    with cProfile.Profile():
        yield


class Unspeakable:
    """Whoever asks it for anything is refused."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"no {name}")


@contextmanager
def ddtrace(profiler: object) -> Iterator[None]:
    """As far as Rheostat looks at it."""
    name = "ddtrace.profiling.bootstrap"
    bootstrap = types.ModuleType(name)
    vars(bootstrap)["profiler"] = profiler
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, bootstrap)
        yield


RUNNING = types.SimpleNamespace(status="ServiceStatus.RUNNING")
STOPPED = types.SimpleNamespace(status="ServiceStatus.STOPPED")

ON_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with CPython 3.12")

# By words that the name of a test has in it too it would be found as a thread: pytest-timeout's is named after it.
SIGNS = [
    pytest.param(
        lambda: a_thread_called("sentry.profiler.ThreadScheduler"),
        "the thread sentry.profiler.ThreadScheduler",
        id="thread",
    ),
    pytest.param(a_timer_of_cpu_time, "a timer of CPU time (ITIMER_PROF)", id="timer"),
    pytest.param(a_profile_function, "a profile function (threading.setprofile)", id="every call"),
    pytest.param(sys_monitoring, "a tool (sys.monitoring)", id="monitoring", marks=ON_3_12),
    pytest.param(lambda: ddtrace(RUNNING), "ddtrace", id="ddtrace"),
    pytest.param(lambda: ddtrace(types.SimpleNamespace(_profiler=RUNNING)), "ddtrace", id="ddtrace within"),
    pytest.param(c_profile, "cProfile (sys.monitoring)", id="standard library", marks=ON_3_12),
]


def test_alone_nobody_else_is_found() -> None:
    """Rheostat's own threads and an ordinary process give no sign."""
    assert [] == other_profilers()


@pytest.mark.parametrize(("sign", "words"), SIGNS)
def test_a_neighbour_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sign: Callable[[], Any], words: str
) -> None:
    """There is one WARNING that names it, and profiling goes on."""
    config = prepare(tmp_path, "{kind: noop}")
    with sign(), rheostat.start(config) as reconciler:
        until(lambda: reconciler.status().state is State.RUNNING)
    [said] = [each for each in caplog.records if each.rheostat_event == "other_profiler"]  # from extra
    assert "WARNING" == said.levelname
    assert said.getMessage().startswith(f"another profiler seems to run in this process: {words};")


@pytest.mark.parametrize("profiler", [STOPPED, Unspeakable()], ids=["stopped", "raises"])
def test_who_is_at_rest_or_raises_is_no_neighbour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, profiler: object
) -> None:
    """A profiler that rests, or raises when it is asked, is no news, and profiling goes on."""
    config = prepare(tmp_path, "{kind: noop}")
    with ddtrace(profiler), rheostat.start(config) as reconciler:
        until(lambda: reconciler.status().state is State.RUNNING)
    assert [] == [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_the_agent_in_the_host_s_own_hands_is_not_taken_over(receiver: Receiver, tmp_path: Path) -> None:
    """A session of the host's own agent goes on: the start is refused, said once, and its stop is not ours."""
    assert pyroscope.configure(application_name="host", server_address=receiver.address)
    try:
        with pytest.raises(TemporaryError, match="started by something else"):
            backend(receiver.address).start({})
        config = prepare(tmp_path, f'{{kind: pyroscope, server_address: "{receiver.address}"}}')
        with rheostat.start(config) as reconciler:
            until(lambda: "started by something else" in reconciler.status().error)
            assert State.STOPPED is reconciler.status().state
    finally:
        assert pyroscope.shutdown(), "the host's session was ended"


def test_under_the_launcher_the_neighbour_is_told_as_json(tmp_path: Path) -> None:
    """The event has a name of its own, once in the life of the process."""
    prepare(tmp_path, "{kind: noop}")
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("policy: {", "policy: {start_after: 1s, "))
    (tmp_path / "app.py").write_text(
        "import sys, threading\n"
        "it = threading.Thread(target=sys.stdin.read, name='MyProfiler')\n"
        "it.start()\n"
        "it.join()\n"
    )
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(command, tmp_path, environment()) as child:
        assert "the thread MyProfiler" in child.event("other_profiler")["message"]
        child.event("transition", to="running")
        assert 0 == child.finish()
        assert 1 == [parsed(line).get("event") for line in child.err.rest()].count("other_profiler")


# Delivery, while a session runs


@contextmanager
def profiled(folder: Path, address: str, reach: str = "1s") -> Iterator[Child]:
    """A service that does nothing but run its profiler."""
    config = prepare(folder, f'{{kind: pyroscope, server_address: "{address}"}}')
    config.write_text(config.read_text().replace("policy: {", f"policy: {{reach: {reach}, start_after: 10ms, "))
    (folder / "app.py").write_text("import sys\n\nsys.stdin.read()\n")
    run = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(run, folder) as child:
        child.event("transition", to="running")
        yield child


def test_a_dead_server_is_said_once_and_its_return_too(tmp_path: Path) -> None:
    """The session goes on, and nothing is said but that profiles are lost, and later that they arrive again."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        address = bound.getsockname()
        with profiled(tmp_path, f"http://127.0.0.1:{address[1]}") as child:
            failed = child.event("delivery_failed")
            assert "WARNING" == failed["level"]
            assert f"profiles do not arrive: http://127.0.0.1:{address[1]}: " in failed["message"]
            bound.listen()
            back = threading.Thread(target=take_pushes, args=(bound,), daemon=True)
            back.start()
            assert "profiles arrive again" == child.event("recovered")["message"]
            assert 0 == child.finish()
            rest = [parsed(line)["event"] for line in child.err.rest()]
            assert ["transition", "delivery_failed", "recovered", "transition", "closed"] == rest


def take_pushes(listening: socket.socket) -> None:
    while True:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def test_credentials_that_are_refused_are_said(door: Door, tmp_path: Path) -> None:
    """The server's answer is in the complaint, and no secret."""
    door.status = 401
    with profiled(tmp_path, f"http://shop:hunter2@{door.address}") as child:
        failed = child.event("delivery_failed")
        assert f"http://***@{door.address}: HTTP 401: are the credentials right?" in failed["message"]
        assert 0 == child.finish()
        assert "hunter2" not in "".join(child.err.rest())


def test_a_server_that_never_answers_holds_up_neither_off_nor_the_exit(door: Door, tmp_path: Path) -> None:
    """While a look waits for it, the flag stops the session, and the process ends."""
    door.takes_profiles = True
    door.released.clear()
    with profiled(tmp_path, f"http://{door.address}") as child:
        until(lambda: door.seen)
        (tmp_path / "flags.yaml").write_text("on: false\n")
        assert "stopped" == child.event("transition")["to"]
        (tmp_path / "flags.yaml").write_text("on: true\n")
        assert "running" == child.event("transition")["to"]
        assert 0 == child.finish()
        assert {"INFO"} == {parsed(line)["level"] for line in child.err.rest()}


def test_with_reach_0_nobody_asks(door: Door, tmp_path: Path) -> None:
    """The server hears of profiles only, while a process beside it that asks has been heard twice."""
    beside, asked = tmp_path / "beside", Door()
    beside.mkdir()
    with serving(asked), profiled(tmp_path, f"http://{door.address}", reach="0s") as child:
        with profiled(beside, f"http://{asked.address}"):
            until(lambda: [body for _, _, body in asked.seen].count(b"") > 1)
        assert [] == [body for _, _, body in door.seen if not body]
        assert 0 == child.finish()


def test_a_fork_in_the_midst_of_a_look_is_as_ever(door: Door, tmp_path: Path) -> None:
    """The child is governed by itself and asks by itself; nobody warns of the thread that looks."""
    door.takes_profiles = True
    door.released.clear()
    script = (
        "import os, sys, time, rheostat\n"
        "profiling = rheostat.start('config.yaml')\n"
        "sys.stdin.readline()\n"
        "child = os.fork()\n"
        "until = time.monotonic() + 15\n"
        "while profiling.status().state != 'running': assert time.monotonic() < until\n"
        "if child == 0: os._exit(profiling.status().pid != os.getpid())\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)\n"
    )
    config = prepare(tmp_path, f'{{kind: pyroscope, server_address: "http://{door.address}"}}')
    config.write_text(config.read_text().replace("policy: {", "policy: {reach: 1s, "))
    with Child([sys.executable, "-W", "always", "-c", script], tmp_path) as child:
        until(lambda: door.seen)
        child.tell("fork")
        assert "0" == child.out.next()
        assert [] == child.err.rest()
