"""How a process that profiles ends: in time, with its own code, in silence, its last window flushed."""

import http.server
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import certifi
import pytest

from rheostat.receive.receiver import Profile, Receiver
from support.children import PATIENCE, Child, environment

EXIT_DEADLINE = 0.3
SLACK = 2.0
"""Seconds that the end of an interpreter may take beside that, on a machine that is busy. The agent's own is 10."""

CONFIG = """\
version: 1
application: shop
source: {{kind: yaml, path: flags.yaml}}
backend: {{kind: pyroscope, server_address: "{address}"}}
enabled: {{flag: on, default: false}}
settings:
  sample_rate: {{flag: rate, default: 100}}
  upload_interval: {upload_interval}
  mode: wall
policy: {{exit_deadline: {exit_deadline}s}}
"""

APP = """\
import contextlib, os, signal, sys, threading, time
import rheostat

running = threading.Event()
reconciler = rheostat.start("config.yaml", observers=[lambda made: running.set()])

def burn(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(2000))

def leave():
    print(time.monotonic(), flush=True)

def connections():
    found = 0
    for each in os.listdir("/proc/self/fd"):
        # It may have been closed since.
        with contextlib.suppress(OSError):
            found += os.readlink("/proc/self/fd/" + each).startswith("socket:")
    return found

def wait_for_connections(number):
    until = time.monotonic() + 10
    while connections() < number and time.monotonic() < until:
        burn(0.01)

def main():
    assert running.wait(10)
    assert reconciler.status().settings
    burn({burns})
    {ends}

if __name__ == "__main__":
    {calls}
"""


def prepare(
    folder: Path,
    address: str,
    *,
    upload_interval: int = 60,
    rate: int = 100,
    burns: float = 0.15,
    ends: str = "leave()",
    calls: str = "main()",
    exit_deadline: float = EXIT_DEADLINE,
) -> list[str]:
    """Write configuration, flags and application; gives the command."""
    config = CONFIG.format(address=address, upload_interval=upload_interval, exit_deadline=exit_deadline)
    (folder / "config.yaml").write_text(config)
    (folder / "flags.yaml").write_text(f"on: true\nrate: {rate}\n")
    (folder / "app.py").write_text(APP.format(burns=burns, ends=ends, calls=calls))
    return [sys.executable, "app.py"]


def left(command: list[str], folder: Path) -> tuple[float, int, str]:
    """Run it: how long it took from `leave` to the end, its exit code, and what it wrote to stderr."""
    ran = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, encoding="utf-8", timeout=PATIENCE
    )
    ended = time.monotonic()
    assert ran.stdout, ran.stderr
    return ended - float(ran.stdout.splitlines()[-1]), ran.returncode, ran.stderr


# Servers


class _Handler(http.server.BaseHTTPRequestHandler):
    """Reads a push, and does what the server is for."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        server = self.server
        assert isinstance(server, _Server)
        server.answer(self)

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    answer: Callable[[_Handler], None]

    def handle_error(self, *_: object) -> None:
        """Clients go away in the middle of a request: that is what the tests are about."""


@contextmanager
def serving(answer: Callable[[_Handler], None]) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.answer = answer
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def hung() -> Iterator[str]:
    """The kernel accepts, and nobody ever reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def silent() -> AbstractContextManager[str]:
    """The request is read, and never answered while the test lasts."""

    def wait(handler: _Handler) -> None:
        handler.connection.settimeout(PATIENCE)
        handler.rfile.read(1)

    return serving(wait)


def slow() -> AbstractContextManager[str]:
    """The answer comes a byte at a time."""

    def drip(handler: _Handler) -> None:
        for each in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Slow: very, very slow indeed\r\n\r\n":
            handler.wfile.write(bytes([each]))
            time.sleep(0.2)

    return serving(drip)


def dying() -> AbstractContextManager[str]:
    """The connection is reset in place of an answer."""

    def die(handler: _Handler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handler.connection.close()

    return serving(die)


def refusing() -> AbstractContextManager[str]:
    return serving(lambda handler: handler.send_error(401))


@contextmanager
def nobody() -> Iterator[str]:
    """Nothing listens there, nor can anybody else."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def no_such_host() -> Iterator[str]:
    yield "http://no-such-host.invalid:4040"


SERVERS: Mapping[str, Callable[[], AbstractContextManager[str]]] = {
    each.__name__: each for each in (hung, silent, slow, dying, refusing, nobody, no_such_host)
}


@pytest.mark.parametrize("server", SERVERS)
def test_whatever_the_server_does_the_exit_is_in_time(tmp_path: Path, server: str) -> None:
    """The interpreter ends within the exit deadline, with its own code, in silence."""
    with SERVERS[server]() as address:
        took, code, stderr = left(prepare(tmp_path, address, ends="leave(); sys.exit(7)"), tmp_path)
    assert (7, "") == (code, stderr)
    assert took < EXIT_DEADLINE + SLACK


EXCEPTION = "Traceback (most recent call last):"

WAYS: Mapping[str, tuple[str, str, int, str]] = {
    "return": ("leave()", "main()", 0, ""),
    "sys.exit": ("leave(); sys.exit(3)", "main()", 3, ""),
    "sys.exit with a text": ("leave(); sys.exit('sorry')", "main()", 1, "sorry\n"),
    "sys.exit in a thread": (
        "leave(); sys.exit(3)",
        "it = threading.Thread(target=main); it.start(); it.join()",
        0,
        "",
    ),
    "exception": ("leave(); raise KeyError('odd')", "main()", 1, EXCEPTION),
    "KeyboardInterrupt": (
        "leave(); os.kill(os.getpid(), signal.SIGINT); burn(9)",
        # Whoever runs the tests in the background has SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler); main()",
        -2,
        EXCEPTION,
    ),
    "os._exit": ("leave(); os._exit(4)", "main()", 4, ""),
    "os.abort": ("leave(); os.abort()", "main()", -6, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_however_it_ends_the_exit_is_as_without(tmp_path: Path, way: str) -> None:
    """With the server hung every way to end takes no longer than the deadline, with its code and words."""
    ends, calls, code, words = WAYS[way]
    with hung() as address:
        took, found, stderr = left(prepare(tmp_path, address, ends=ends, calls=calls), tmp_path)
    assert code == found
    assert stderr.startswith(words) if words else "" == stderr
    assert 1 >= stderr.count(EXCEPTION)
    assert took < EXIT_DEADLINE + SLACK


def test_a_queue_of_uploads_does_not_delay_the_exit(tmp_path: Path) -> None:
    """With uploads hanging and others waiting behind, where the agent would take more than 19 s."""
    with hung() as address:
        command = prepare(tmp_path, address, upload_interval=1, burns=1.7, ends="leave(); sys.exit(7)")
        took, code, stderr = left(command, tmp_path)
    assert (7, "") == (code, stderr)
    # The flush does hang.
    assert EXIT_DEADLINE <= took < EXIT_DEADLINE + SLACK


def test_a_session_at_one_hertz_does_not_delay_the_exit(tmp_path: Path) -> None:
    """Where the agent would wait for two of its sampling intervals, up to 7 s."""
    with Receiver() as receiver:
        took, code, stderr = left(prepare(tmp_path, receiver.address, rate=1, ends="leave(); sys.exit(7)"), tmp_path)
    assert (7, "") == (code, stderr)
    assert took < EXIT_DEADLINE + SLACK


def test_an_exit_during_a_hung_stop(tmp_path: Path) -> None:
    """The flag went off, the agent still hangs in shutdown, and its own exit handler waits for nothing either."""
    ends = (
        "open('flags.yaml', 'w').write('on: false'); reconciler.nudge(); "
        "[time.sleep(0.01) for _ in range(500) if reconciler.status().operation is None]; "
        "assert reconciler.status().operation.name == 'stop'; leave()"
    )
    with hung() as address:
        command = prepare(tmp_path, address, burns=0.5, ends=ends.replace("; assert", "\n    assert"))
        took, code, stderr = left(command, tmp_path)
    assert (0, "") == (code, stderr)
    assert took < EXIT_DEADLINE + SLACK


# Nothing lets the thread that is to go on have its turn before the interpreter ends.
FORKS: Mapping[str, str] = {
    "parent": "leave(); sys.setswitchinterval(10)\n    if os.fork() == 0: os._exit(0)\n    sys.exit(7)",
    "child": (
        "sys.setswitchinterval(10)\n    child = os.fork()\n    if child == 0: sys.exit(5)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5\n"
        "    assert reconciler.status().settings and not reconciler.status().error\n"
        "    leave(); sys.exit(7)"
    ),
}


@pytest.mark.parametrize("who", FORKS)
def test_an_exit_at_once_after_a_fork(tmp_path: Path, who: str) -> None:
    """Though the thread that made way for the fork cannot begin again, the end is in time, as it was, in silence."""
    with hung() as address:
        took, code, stderr = left(prepare(tmp_path, address, ends=FORKS[who]), tmp_path)
    assert (7, "") == (code, stderr)
    assert took < EXIT_DEADLINE + SLACK


HANGING = """\
import logging, sys, threading, time
import rheostat

running, hanging = threading.Event(), threading.Event()

def hang():
    hanging.set()
    threading.Event().wait()

class Source:
    Options = dict
    poll_interval = 0.02

    def __init__(self, options, identity):
        pass

    def open(self, changed):
        pass

    def read(self, wanted):
        if running.is_set() and sys.argv[1] == "source":
            hang()
        return rheostat.plugins.Reading({"on": True})

    def close(self):
        pass

def observe(made):
    running.set()
    if sys.argv[1] == "observer":
        hang()

class Handler(logging.Handler):
    # Without its lock, for which logging itself would wait at the end of the interpreter.
    def handle(self, record):
        if record.rheostat_event == "transition" and sys.argv[1] == "handler":
            hang()

if __name__ == "__main__":
    logging.basicConfig(level="INFO", handlers=[Handler()])
    sys.modules["app"] = sys.modules["__main__"]
    reconciler = rheostat.start("config.yaml", observers=[observe])
    assert hanging.wait(10)
    until = time.monotonic() + 0.15
    while time.monotonic() < until:
        sum(range(2000))
    print(time.monotonic(), flush=True)
    sys.exit(7)
"""


@pytest.mark.parametrize("what", ["source", "observer", "handler"])
def test_an_exit_while_the_control_thread_hangs(tmp_path: Path, what: str) -> None:
    """Nobody stops the session, whose server hangs too: the agent's own exit handler does not wait for it either."""
    with hung() as address:
        command = prepare(tmp_path, address)
        config = tmp_path / "config.yaml"
        config.write_text(config.read_text().replace("{kind: yaml, path: flags.yaml}", "{kind: 'app:Source'}"))
        (tmp_path / "app.py").write_text(HANGING)
        took, code, stderr = left([*command, what], tmp_path)
    assert (7, "") == (code, stderr)
    assert took < EXIT_DEADLINE + SLACK


def test_exec_is_not_delayed_and_inherits_nothing(tmp_path: Path) -> None:
    """os.execv from the main thread replaces the process at once, amid a push and a look at the server.

    Before they connect, OpenSSL reads its files through descriptors that an exec inherits, whoever uses it.
    """
    code = (
        "import os, time; print(len(os.listdir('/proc/self/task')), "
        "sorted(map(int, os.listdir('/proc/self/fd')))[:-1], 'RUST_LOG' in os.environ); print(time.monotonic())"
    )
    ends = f'wait_for_connections(2); leave(); os.execv(sys.executable, [sys.executable, "-c", {code!r}])'
    with hung() as address:
        command = prepare(tmp_path, address, upload_interval=1, ends=ends)
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, encoding="utf-8", timeout=PATIENCE
        )
    assert (0, "") == (ran.returncode, ran.stderr)
    began, inherited, came = ran.stdout.splitlines()
    assert inherited == "1 [0, 1, 2] False"
    assert float(came) - float(began) < 3.0


AMID_OPENSSL = """\
import ssl, sys, threading
import rheostat

really_load = ssl.SSLContext.load_default_certs
amid = threading.Event()

def load(self, *purpose):
    amid.set()
    really_load(self, *purpose)

ssl.SSLContext.load_default_certs = load
if __name__ == "__main__":
    reconciler = rheostat.start("config.yaml")
    assert amid.wait(10)
    sys.exit(7)
"""


@pytest.mark.parametrize(
    ("source", "backend"),
    [
        ("{kind: yaml, path: flags.yaml}", '{kind: pyroscope, server_address: "https://127.0.0.1:9"}'),
        ('{kind: growthbook, client_key: sdk, api_host: "https://127.0.0.1:9"}', "{kind: noop}"),
    ],
    ids=["a look at the profiler's server", "growthbook"],
)
def test_an_exit_while_a_thread_of_ours_loads_certificates(tmp_path: Path, source: str, backend: str) -> None:
    """OpenSSL cleans up as the process ends, and what loads certificates then would crash it."""
    # So many that it takes as long as on a machine that is busy.
    (tmp_path / "certificates.pem").write_bytes(Path(certifi.where()).read_bytes() * 20)
    (tmp_path / "flags.yaml").write_text("on: true\n")
    (tmp_path / "config.yaml").write_text(
        f"{{version: 1, application: shop, source: {source}, backend: {backend}, enabled: {{flag: on}}}}\n"
    )
    (tmp_path / "app.py").write_text(AMID_OPENSSL)
    env = environment({"SSL_CERT_FILE": str(tmp_path / "certificates.pem")})
    ran = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, env=env, timeout=PATIENCE)
    assert 7 == ran.returncode


NATIVE = """\
import atexit, sys, threading, time

begun, is_ending = threading.Event(), threading.Event()

def end():
    is_ending.set()
    time.sleep(0.2)

# Before Rheostat's own: it is called after that.
atexit.register(end)

import rheostat

def first():
    with rheostat.plugins.hold_off_forks():
        begun.set()
        time.sleep(0.2)
        print("done", flush=True)

def second():
    is_ending.wait()
    with rheostat.plugins.hold_off_forks():
        print("begun too late", flush=True)

for each in (first, second):
    threading.Thread(target=each, daemon=True).start()
begun.wait()
sys.exit(7)
"""


def test_what_must_not_meet_the_end_is_waited_for_and_begins_no_more(tmp_path: Path) -> None:
    """The interpreter ends once the block has, and nobody enters another."""
    ran = subprocess.run(
        [sys.executable, "-c", NATIVE], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, timeout=PATIENCE
    )
    assert (7, b"done\n") == (ran.returncode, ran.stdout)


# The last window


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def has(function: str) -> Callable[[Profile], bool]:
    return lambda profile: any(function in sample.stack for sample in profile.samples)


@pytest.mark.parametrize("way", ["return", "sys.exit", "sys.exit in a thread", "exception"])
def test_the_last_window_is_flushed(tmp_path: Path, receiver: Receiver, way: str) -> None:
    """Whichever way the interpreter ends in order, what was sampled last arrives."""
    ends, calls, code, _ = WAYS[way]
    command = prepare(tmp_path, receiver.address, burns=0.5, ends=ends, calls=calls, exit_deadline=10)
    assert code == left(command, tmp_path)[1]
    receiver.wait_for(has("burn"), PATIENCE)


def test_sigterm_with_a_handler_that_exits_flushes(tmp_path: Path, receiver: Receiver) -> None:
    """A handler of SIGTERM like most servers' ends the process with its code, and the last window arrives."""
    calls = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); main()"
    command = prepare(tmp_path, receiver.address, burns=0.5, ends="leave(); burn(15)", calls=calls, exit_deadline=10)
    with Child(command, tmp_path) as child:
        child.out.next()
        child.process.send_signal(signal.SIGTERM)
        assert 5 == child.process.wait(PATIENCE)
        assert [] == child.err.rest()
    receiver.wait_for(has("burn"), PATIENCE)


POOL = """\
import multiprocessing, os, sys, time, warnings
warnings.simplefilter("error")
import rheostat

def governed():
    reconciler = rheostat.start("config.yaml")
    deadline = time.monotonic() + 10
    while not reconciler.status().settings:
        assert time.monotonic() < deadline
        time.sleep(0.01)

def burn_in_child(queue):
    governed()
    until = time.thread_time() + 0.4
    while time.thread_time() < until:
        sum(range(2000))
    queue.put(time.monotonic())

def main(method):
    governed()
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=burn_in_child, args=(queue,))
    child.start()
    began = queue.get(timeout=15)
    child.join(15)
    print(child.exitcode, time.monotonic() - began, flush=True)

if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_of_multiprocessing_flushes_its_last_window(tmp_path: Path, receiver: Receiver, method: str) -> None:
    """Though such children leave by os._exit, where no atexit handler runs."""
    prepare(tmp_path, receiver.address, exit_deadline=10)
    assert_child_leaves(tmp_path, method, within=10 + SLACK)
    receiver.wait_for(has("burn_in_child"), PATIENCE)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_of_multiprocessing_exits_in_time(tmp_path: Path, method: str) -> None:
    """With the server hung it is not held up longer than the exit deadline."""
    with hung() as address:
        prepare(tmp_path, address)
        assert_child_leaves(tmp_path, method, within=EXIT_DEADLINE + SLACK)


def assert_child_leaves(folder: Path, method: str, within: float) -> None:
    (folder / "pool.py").write_text(POOL)
    ran = subprocess.run(
        [sys.executable, "pool.py", method],
        cwd=folder,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    assert (0, "") == (ran.returncode, ran.stderr)
    code, took = ran.stdout.split()
    assert "0" == code
    assert float(took) < within


def test_a_pool_whose_workers_profile_ends_in_time(tmp_path: Path) -> None:
    """A pool is closed and joined with the server hung: each worker takes the deadline at most, all at once."""
    script = POOL.replace(
        "if __name__",
        "def work(number):\n    governed()\n    return number\n\n"
        "def pool():\n    governed()\n    with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "        assert pool.map(work, range(8), chunksize=1) == list(range(8))\n"
        "        began = time.monotonic()\n        pool.close()\n        pool.join()\n"
        "    print(0, time.monotonic() - began)\n\nif __name__",
    ).replace("main(sys.argv[1])", "pool()")
    with hung() as address:
        prepare(tmp_path, address)
        (tmp_path / "pool.py").write_text(script)
        ran = subprocess.run(
            [sys.executable, "pool.py"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
        )
    assert (0, "") == (ran.returncode, ran.stderr)
    assert float(ran.stdout.split()[1]) < EXIT_DEADLINE + SLACK
