"""Real servers on loopback, as they are run under `rheostat run` or with `rheostat.start` in their own code.

Each row of `MATRIX` is one way to run one server. A `Service` is such a row at work: its workers can be made to work,
its flags flipped, its log lines and the profiles that it pushes looked at, and it can be ended as its server is.

From pytest's --junit-xml this prints the table of docs/servers/README.md:

    PYTHONPATH=tests python -m support.servers REPORT.xml
"""

import http.client
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self
from xml.etree import ElementTree

from rheostat.receive.receiver import Receiver

from .children import APART, PATIENCE, RHEOSTAT, Child, Event, ended, parsed, program

By = Literal["run", "code", "bare"]

WORKERS: Final = 2

ON: Final = "profiling_enabled: true\n"
OFF: Final = "profiling_enabled: false\n"

_ADDRESS: Final = re.compile(r"(?:http://|bound to TCP address )(127\.0\.0\.1:\d+)")
REDIS: Final = "unix://FOLDER/redis.sock"

_BIN: Final = Path(sys.executable).parent

UWSGI: Final = APART / "uwsgi" / "bin" / "uwsgi"
"""As a program, which has its interpreter within."""
THREADLESS: Final = APART / "threadless"
"""The folder of one that has no threads of its own accord; without it where this Python is too new for it."""

# A window that is longer than the test: what arrives was flushed by a stop.
CONFIG: Final = """\
version: 1
application: shop
source: {{kind: yaml, path: flags.yaml, poll_interval: 10ms}}
backend: {backend}
enabled: {{flag: profiling_enabled, default: false}}
settings: {{sample_rate: 100, upload_interval: 3600}}
policy:
  start_after: {start_after}
  cooldown: 0s
  backoff: {{initial: 10ms, max: 20ms}}
  exit_deadline: 5s
  processes: {processes}
"""


def _service(name: str) -> str:
    """A module of the services that are tried, which is copied into the folder of each."""
    return Path(__file__).with_name("services").joinpath(f"{name}.py").read_text()


GOVERN: Final = _service("govern")
WORK: Final = _service("work")
WSGI: Final = _service("wsgi")
ASGI: Final = _service("asgi")

ASGI_CODE: Final = f"""{ASGI}

def begin():
    global profiling
    from govern import govern
    profiling = govern()


def end():
    if profiling is not None:
        profiling.stop()
"""

GUNICORN_CODE: Final = _service("gunicorn_conf")

AT_IMPORT: Final = f"""\
from govern import govern

govern()
{WSGI}"""

CELERY: Final = _service("celery_tasks")

CELERY_CODE: Final = f"""\
{CELERY.partition("if __name__")[0]}
from celery.signals import worker_process_init, worker_process_shutdown


@worker_process_init.connect
def begin(**_):
    global profiling
    from govern import govern
    profiling = govern()


@worker_process_shutdown.connect
def end(**_):
    if profiling is not None:
        profiling.stop()
"""

# The pools of green threads and of threads make no process of their own, and call no worker's signals.
CELERY_GREEN_CODE: Final = f"""\
{CELERY.partition("if __name__")[0]}
from celery.signals import worker_ready, worker_shutdown


@worker_ready.connect
def begin(**_):
    global profiling
    from govern import govern
    profiling = govern()


@worker_shutdown.connect
def end(**_):
    if profiling is not None:
        profiling.stop()
"""

RQ: Final = _service("rq_send")

# A horse leaves by os._exit once its job is done.
RQ_WORKER: Final = _service("rq_workers")
DRAMATIQ: Final = _service("dramatiq_tasks")
FLASK: Final = _service("flask_app")

DJANGO: Final = """\
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

from work import work

settings.configure(DEBUG=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="none")
urlpatterns = [path("", lambda request: HttpResponse(work()))]
{govern}
execute_from_command_line(sys.argv)
"""

# One process with green threads: it patches the interpreter at once, or when it is asked to.
GEVENT: Final = _service("green_gevent")
EVENTLET: Final = _service("green_eventlet")

GREEN_SCRIPT: Final = """\
import green

{patch}
from govern import govern
from wsgi import app

{govern}
green.serve(app)
"""

SPIN: Final = """

def spin():
    print("worked", work(), flush=True)
"""

# The commands on standard input are the same for all: a number is so many pieces of work.
POOL: Final = """\
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from work import work

{by}

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    {body}
"""

EXECUTOR_BODY: Final = """
    with ProcessPoolExecutor(2, mp_context=context, initializer=begin) as pool:
        for line in sys.stdin:
            for each in [pool.submit(work) for _ in range(int(line))]:
                print("worked", each.result(), flush=True)
"""

POOL_BODY: Final = """
    pool = context.Pool(2, initializer=begin)
    for line in sys.stdin:
        for each in [pool.apply_async(work) for _ in range(int(line))]:
            print("worked", each.get(), flush=True)
    pool.close()
    pool.join()
"""

PROCESS_BODY: Final = """
    workers = [(queue := context.SimpleQueue(), context.Process(target=serve, args=(queue,))) for _ in range(2)]
    for _, process in workers:
        process.start()
    for line in sys.stdin:
        for queue, _ in workers:
            queue.put(True)
    for queue, process in workers:
        queue.put(False)
        process.join()
"""

BEGIN_RUN: Final = """\
def begin():
    pass
"""

BEGIN_CODE: Final = """\
def begin():
    from govern import govern
    govern()
"""

SERVE: Final = """

def serve(queue):
    begin()
    while queue.get():
        print("worked", work(), flush=True)
"""


class Row(NamedTuple):
    """One way to run one server."""

    server: str
    package: str
    """The distribution whose version counts; empty for Python itself."""
    start: str
    by: By
    files: Mapping[str, str]
    command: tuple[str, ...]
    kind: Literal["http", "celery", "redis", "pool"]
    flushes: bool | None = True
    """Whether the worker's interpreter gets the chance to push the last window; None: not always."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.server, self.start, self.by

    @property
    def id(self) -> str:
        return re.sub(r"[^\w]+", "-", " ".join(self.key))

    @property
    def version(self) -> str:
        if self.package == "uwsgi":
            return ended([UWSGI, "--version"], Path.cwd()).stdout.strip() if UWSGI.exists() else ""
        return version(self.package) if self.package else ".".join(map(str, sys.version_info[:3]))

    @property
    def processes(self) -> int:
        """How many processes do its work."""
        return 1 if "script" in self.server or "no master" in self.start or self.start in (ONE, "reloader") else WORKERS

    @property
    def lacks(self) -> str:
        """Its requirement that this machine has not."""
        if Path(self.command[0]) == UWSGI and not UWSGI.exists():
            return "uWSGI could not be compiled here"
        if self.kind == "redis" and program("redis-server") is None:
            return "redis-server is not installed here"
        return ""

    @property
    def bare(self) -> "Row":
        """The same without Rheostat."""
        return self._replace(by="bare", files={**self.files, "govern.py": "def govern():\n    return None\n"})


def gunicorn(worker: str, start: str, by: By, *options: str, at_import: bool = False) -> Row:
    files = {"work.py": WORK, "govern.py": GOVERN, "wsgi.py": AT_IMPORT if at_import else WSGI}
    if by == "code" and not at_import:
        files["gunicorn.conf.py"] = GUNICORN_CODE
    preload = ("--preload",) if "--preload" in start else ()
    threads = ("--threads", "2") if worker == "gthread" else ()
    options = ("--workers", str(WORKERS), *threads, "--no-control-socket", *preload, *options)
    command = (str(_BIN / "gunicorn"), "-k", worker, "-b", "127.0.0.1:0", *options, "wsgi:app")
    return Row(f"gunicorn {worker}", "gunicorn", start, by, files, command, "http")


def uwsgi(start: str, by: By, *options: str, server: str = "uWSGI", app: str = "") -> Row:
    """`app` is more code of the application's, run when it is imported."""
    files = {"work.py": WORK, "govern.py": GOVERN, "wsgi.py": (AT_IMPORT if by == "code" else WSGI) + app}
    program = (str(UWSGI), "--home", sys.prefix) if server == "uWSGI" else (str(_BIN / "pyuwsgi"),)
    command = (
        *program,
        "--http-socket",
        "127.0.0.1:0",
        "--wsgi-file",
        "wsgi.py",
        "--callable",
        "app",
        "--disable-logging",
    )
    # It leaves exit handlers out where it ends a worker in the midst of a request.
    graceful = (
        "--master",
        "--processes",
        str(WORKERS),
        "--hook-master-start",
        "unix_signal:15 gracefully_kill_them_all",
    )
    ending = ("--die-on-term",) if "no master" in start else graceful
    package = "uwsgi" if server == "uWSGI" else server
    return Row(server, package, start, by, files, (*command, *ending, *options), "http")


def uvicorn(by: By) -> Row:
    files = {"work.py": WORK, "govern.py": GOVERN, "asgi.py": ASGI_CODE if by == "code" else ASGI}
    command = (str(_BIN / "uvicorn"), "--workers", str(WORKERS), "--port", "0", "asgi:app")
    # It ends its workers by the signal that they were sent.
    return Row("uvicorn --workers", "uvicorn", "spawn", by, files, command, "http", flushes=by == "code")


def celery(by: By) -> Row:
    files = {"work.py": WORK, "govern.py": GOVERN, "tasks.py": CELERY_CODE if by == "code" else CELERY}
    files["send.py"] = CELERY
    options = ("--concurrency", str(WORKERS), "--without-gossip", "--without-mingle", "--without-heartbeat")
    command = (str(_BIN / "celery"), "-A", "tasks", "worker", "--loglevel", "INFO", *options)
    return Row("Celery prefork", "celery", "fork", by, files, command, "celery")


def celery_pool(pool: str, by: By) -> Row:
    """Its main process does the work, and has patched itself before it imports anything."""
    files = {"work.py": WORK, "govern.py": GOVERN, "tasks.py": CELERY_GREEN_CODE if by == "code" else CELERY}
    files["send.py"] = CELERY
    options = ("--pool", pool, "--concurrency", "4", "--without-gossip", "--without-mingle", "--without-heartbeat")
    command = (str(_BIN / "celery"), "-A", "tasks", "worker", "--loglevel", "INFO", *options)
    return Row(f"Celery {pool}", "celery", ONE, by, files, command, "celery")


def asgi(server: str, start: str, by: By, *command: str, flushes: bool | None = True) -> Row:
    files = {"work.py": WORK, "govern.py": GOVERN, "asgi.py": ASGI_CODE if by == "code" else ASGI}
    return Row(server, _distribution(server), start, by, files, _program(command), "http", flushes)


def wsgi(server: str, start: str, by: By, *command: str, flushes: bool = True, **more: str) -> Row:
    files = {"work.py": WORK, "govern.py": GOVERN, "wsgi.py": AT_IMPORT if by == "code" else WSGI}
    files |= {f"{name}.py": text for name, text in more.items()}
    return Row(server, _distribution(server), start, by, files, _program(command), "http", flushes)


def django(by: By) -> Row:
    script = DJANGO.format(govern="from govern import govern; govern()" if by == "code" else "")
    files = {"work.py": WORK, "govern.py": GOVERN, "app.py": script}
    command = (sys.executable, "app.py", "runserver", ADDRESS)
    return Row("Django runserver", "django", "reloader", by, files, command, "http", flushes=False)


def queue(server: str, start: str, by: By, *command: str, flushes: bool = True, **files: str) -> Row:
    """Tasks that come by Redis."""
    files = {"work": WORK + SPIN, "govern": GOVERN, **files}
    texts = {f"{name}.py": text for name, text in files.items()}
    return Row(server, _distribution(server), start, by, texts, _program(command), "redis", flushes)


def _program(command: Sequence[str]) -> tuple[str, ...]:
    return (str(_BIN / command[0]), *command[1:])


def _distribution(server: str) -> str:
    return server.partition(" ")[0].lower()


def green(server: str, start: str, by: By) -> Row:
    patch = "green.patch()" if start == FIRST else ""
    script = GREEN_SCRIPT.format(patch=patch, govern="govern()" if by == "code" else "")
    module = GEVENT if server.startswith("gevent") else EVENTLET
    files = {"work.py": WORK, "govern.py": GOVERN, "wsgi.py": WSGI, "green.py": module, "app.py": script}
    return Row(server, server.split(maxsplit=1)[0], start, by, files, (sys.executable, "app.py"), "http", flushes=False)


def pool(server: str, method: str, by: By) -> Row:
    begin = BEGIN_CODE if by == "code" else BEGIN_RUN
    bodies = {EXECUTOR: EXECUTOR_BODY, "multiprocessing.Pool": POOL_BODY}
    script = POOL.format(by=begin + SERVE, body=bodies.get(server, PROCESS_BODY).strip())
    files = {"work.py": WORK, "govern.py": GOVERN, "app.py": script}
    return Row(server, "", method, by, files, (sys.executable, "app.py", method), "pool")


ONE: Final = "one process"
PORT: Final = "PORT"
"""In a command: a free port is put in its place, for servers that cannot choose one, or do not say which."""
ADDRESS: Final = f"127.0.0.1:{PORT}"

EXECUTOR: Final = "ProcessPoolExecutor"
METHODS: Final = ("fork", "forkserver", "spawn")

FIRST: Final = "patched first"
LATER: Final = "patched later"

_BYS: Final[tuple[By, By]] = ("run", "code")
_PRELOADS: Final = ("fork", "fork, --preload")
_GREEN_SCRIPTS: Final = ("gevent script", "eventlet script")

UWSGI_STARTS: Final = {
    "fork": (),
    "fork, --lazy-apps": ("--lazy-apps",),
    "fork, --threads": ("--enable-threads", "--threads", "2"),
    "fork, --cheaper": ("--cheaper", "1"),
    "fork, --py-autoreload": ("--py-autoreload", "1"),
    "fork, --py-call-osafterfork": ("--py-call-osafterfork",),
    "fork, --skip-atexit-teardown": ("--skip-atexit-teardown",),
    "no master": (),
    "no master, --lazy-apps": ("--lazy-apps",),
}

GOVERNED: Final = (
    *(gunicorn(worker, start, by) for worker in ("sync", "gthread") for start in _PRELOADS for by in _BYS),
    gunicorn("gthread", "fork, --preload, at import", "code", at_import=True),
    *(uvicorn(by) for by in _BYS),
    *(celery(by) for by in _BYS),
    *(uwsgi(start, by, *options) for start, options in UWSGI_STARTS.items() for by in _BYS),
    *(uwsgi("fork", by, server="pyuwsgi") for by in _BYS),
    *(
        pool(server, method, by)
        for server in (EXECUTOR, "multiprocessing.Pool", "multiprocessing.Process")
        for method in METHODS
        for by in _BYS
    ),
)
RELOADED: Final = (
    *(gunicorn(worker, f"{start}, HUP", by) for worker in ("gthread", "gevent") for start in _PRELOADS for by in _BYS),
    *(uwsgi("fork, HUP", by) for by in _BYS),
)
RESIZED: Final = tuple(gunicorn("gthread", "fork, TTIN and TTOU", by) for by in _BYS)
KILLED: Final = tuple(gunicorn("sync", "fork, killed by --timeout", by, "--timeout", "5") for by in _BYS)
ONLY_WORKERS: Final = (
    *(gunicorn("gthread", f"{start}, processes: workers", "run") for start in _PRELOADS),
    gunicorn("gthread", "fork, --preload, at import, processes: workers", "code", at_import=True),
    *(
        row._replace(start=f"{row.start}, processes: workers")
        for row in (uvicorn("run"), celery("run"), *(pool(EXECUTOR, method, "run") for method in METHODS))
    ),
)
GREEN: Final = (
    *(gunicorn("gevent", start, by) for start in _PRELOADS for by in _BYS),
    *(uwsgi("fork, --gevent", by, "--gevent", "10") for by in _BYS),
    *(green(server, FIRST, by) for server in _GREEN_SCRIPTS for by in _BYS),
    *(celery_pool(pool, by) for pool in ("gevent", "eventlet") for by in _BYS),
)
OTHERS: Final = (
    *(
        asgi(
            "uvicorn uvloop",
            "spawn",
            by,
            "uvicorn",
            "--loop",
            "uvloop",
            "--workers",
            "2",
            "--port",
            "0",
            "asgi:app",
            flushes=by == "code",
        )
        for by in _BYS
    ),
    # It ends the others by a signal once the first has ended by itself.
    *(
        asgi("hypercorn", "spawn", by, "hypercorn", "--workers", "2", "--bind", ADDRESS, "asgi:app", flushes=None)
        for by in _BYS
    ),
    *(
        make(
            f"granian {interface}",
            "spawn",
            by,
            "granian",
            "--interface",
            interface,
            "--workers",
            "2",
            "--port",
            PORT,
            f"{interface}:app",
        )
        for interface, make in (("asgi", asgi), ("wsgi", wsgi))
        for by in _BYS
    ),
    *(wsgi("waitress", ONE, by, "waitress-serve", "--listen", "127.0.0.1:0", "wsgi:app", flushes=False) for by in _BYS),
    *(
        wsgi(
            "Flask run",
            "reloader",
            by,
            "flask",
            "--app",
            "app",
            "run",
            "--debug",
            "--port",
            "0",
            flushes=False,
            app=FLASK,
        )
        for by in _BYS
    ),
    *(django(by) for by in _BYS),
    *(
        queue(
            "rq SimpleWorker",
            ONE,
            by,
            "rq",
            "worker",
            "--url",
            REDIS,
            "--worker-class",
            "rq.SimpleWorker" if by == "run" else "workers.NoHorses",
            "default",
            send=RQ,
            workers=RQ_WORKER,
        )
        for by in _BYS
    ),
    *(
        queue(
            "dramatiq",
            "spawn",
            by,
            "dramatiq",
            "--processes",
            "2",
            "--threads",
            "2",
            "tasks",
            send=DRAMATIQ,
            tasks=DRAMATIQ if by == "run" else f"from govern import govern\ngovern()\n{DRAMATIQ}",
        )
        for by in _BYS
    ),
)
PATCHED_LATER: Final = tuple(green(server, LATER, by) for server in _GREEN_SCRIPTS for by in _BYS)
HORSES: Final = queue(
    "rq",
    "fork",
    "code",
    "rq",
    "worker",
    "--url",
    REDIS,
    "--worker-class",
    "workers.Horses",
    "default",
    send=RQ,
    workers=RQ_WORKER,
    work=WORK.replace("0.15", "1.0") + SPIN,
)
"""A process for each task, which has a row of its own nowhere: no flip finds it."""
MATRIX: Final = (*GOVERNED, *RELOADED, *RESIZED, *KILLED, *ONLY_WORKERS, *GREEN, *PATCHED_LATER, *OTHERS)


class Service:
    """A row at work in a folder; leaving the block kills what is left of it."""

    def __init__(
        self,
        row: Row,
        folder: Path,
        receiver: Receiver | None = None,
        *,
        processes: str = "all",
        start_after: str = "1s",
    ) -> None:
        self.row = row
        self.folder = folder
        self._receiver = receiver
        self._pushes_before: Counter[int] = Counter()
        backend = (
            "{kind: noop}"
            if receiver is None
            else f"{{kind: pyroscope, server_address: '{receiver.address}', report_pid: true}}"
        )
        config = CONFIG.format(backend=backend, processes=processes, start_after=start_after)
        for name, text in {**row.files, "rheostat.yaml": config, "flags.yaml": ON}.items():
            (folder / name).write_text(text)
        for name in ("queue", "control"):
            (folder / name).mkdir()
        run = (*RHEOSTAT, "run", "--config", "rheostat.yaml", "--log", "json", "--") if row.by == "run" else ()
        # Whatever is warned about a fork is to be seen.
        env = {"PYTHONPATH": str(folder), "PYTHONWARNINGS": "default"}
        self._redis = redis(folder) if row.kind == "redis" else None
        self._port = free_port()
        self.child = Child(
            [*run, *(each.replace(PORT, self._port).replace("FOLDER", str(folder)) for each in row.command)],
            folder,
            env,
        )
        self._sender: Child | None = None
        self._address = ""
        self._quiet_from = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sender is not None:
            self._sender.__exit__()
        self.child.__exit__()
        if self._redis is not None:
            self._redis.__exit__()

    @property
    def master(self) -> int:
        return self.child.process.pid

    def reload(self) -> None:
        """Have its workers replaced."""
        self.child.process.send_signal(signal.SIGHUP)
        if self.row.package == "uwsgi":
            # The master execs itself, and binds another port where it may choose.
            self.until_said("spawned uWSGI worker", 2 * WORKERS)
            self._address = self._addresses()[-1]

    def hang(self) -> None:
        """A request that its worker never answers, as it is killed before."""
        with suppress(OSError, http.client.HTTPException):
            self.get(path="/hang")

    def _find_address(self) -> None:
        """Where it serves, as its log says."""
        if any(PORT in each for each in self.row.command):
            until_listens(socket.AF_INET, ("127.0.0.1", int(self._port)))
            self._address = f"http://127.0.0.1:{self._port}"
        if not self._address:
            self.until(lambda: bool(self._addresses()), "said where it serves")
            if self.row.package == "uvicorn":
                # Unlike gunicorn's master, its parent only binds: what connects before a worker listens is refused.
                self.until_said("Application startup complete", WORKERS)
            self._address = self._addresses()[0]

    def _addresses(self) -> list[str]:
        lines = [line for line in self.child.err.seen if not parsed(line)]
        return [f"http://{found[1]}" for line in lines if (found := _ADDRESS.search(line))]

    # Work

    def work(self, pieces: int) -> list[int]:
        """Have so many pieces of work done, and say by which processes."""
        if self.row.kind == "http":
            self._find_address()
            with ThreadPoolExecutor(pieces) as clients:
                return list(clients.map(self.get, range(pieces)))
        if self.row.kind in ("celery", "redis"):
            self._feed(pieces)
        else:
            self.child.tell(str(pieces))
        each = WORKERS if self.row.server.endswith(".Process") else pieces
        return [int(self.child.out.until(lambda line: line.startswith("worked")).split()[1]) for _ in range(each)]

    def get(self, _: object = None, path: str = "/") -> int:
        """One request; gives the pid of the process that has answered it."""
        self._find_address()
        with urllib.request.urlopen(self._address + path, timeout=PATIENCE) as answer:
            return int(answer.read())

    def _feed(self, pieces: int) -> None:
        if self._sender is None:
            self._sender = Child([sys.executable, "send.py"], self.folder, {"PYTHONPATH": str(self.folder)})
        self._sender.tell(str(pieces))

    def workers(self, count: int = WORKERS, *, without: Collection[int] = ()) -> set[int]:
        """Have work done until so many processes have done some, other than those `without`."""
        found: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while len(found) < count:
            assert time.monotonic() < deadline, f"only {found} have worked, {self.child.err.seen}"
            found |= {*self.work(2 * count)} - {*without}
        return found

    # What it says

    def events(self) -> list[Event]:
        """All its JSON lines so far."""
        return [found for line in self.child.err.seen if (found := parsed(line))]

    def moves(self, pid: int) -> list[tuple[int, str, str]]:
        """The transitions of a process so far: sequence number, from, to."""
        return [(e["seq"], e["from"], e["to"]) for e in self.events() if e["event"] == "transition" and e["pid"] == pid]

    def state(self, pid: int) -> str:
        """The last that a process has said."""
        moves = self.moves(pid)
        return moves[-1][2] if moves else ""

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Read log lines until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"never {what}: {self.child.err.seen}"
            try:
                line = self.child.err.next()
            except TimeoutError as error:
                raise AssertionError(f"never {what}: {error}") from None
            assert line is not None, f"never {what}: {self.child.err.seen}"

    def until_all(self, pids: Iterable[int], state: str) -> None:
        wanted = {*pids}
        self.until(
            lambda: all(self.state(pid) == state for pid in wanted),
            f"all of {wanted} {state}",
        )

    def until_said(self, text: str, times: int = 1) -> None:
        self.until(lambda: len(self.lines_with(text)) >= times, f"said {times} times: {text}")

    def lines_with(self, text: str) -> list[str]:
        return [line for line in self.child.err.seen if text in line]

    def flip(self, flags: str) -> None:
        other = self.folder / "flags.new"
        other.write_text(flags)
        other.replace(self.folder / "flags.yaml")

    def forget_noise(self) -> None:
        """The lines so far are the server's own matter."""
        self._quiet_from = len(self.child.err.seen)

    def noise(self) -> list[str]:
        """Lines that nobody should have to read: tracebacks, warnings about us, our own complaints."""
        lines = self.child.err.seen[self._quiet_from :]
        complaints = [line for line in lines if parsed(line).get("level", "INFO") != "INFO"]
        words = ("Traceback", "Exception", "multi-threaded", "rheostat", "yroscope", "resource_tracker")
        plain = [line for line in lines if not parsed(line)]
        return complaints + [line for line in plain if any(word in line for word in words)]

    # What it pushes

    def pushes(self) -> Counter[int]:
        """How many profiles each process has pushed since they were last looked at with `expect_pushes`."""
        assert self._receiver is not None
        return Counter(pid for profile in self._receiver.profiles() for pid in _pids(profile)) - self._pushes_before

    def has_pushed(self, pids: Iterable[int]) -> bool:
        """Whether any of these has pushed since."""
        return any(self.pushes()[pid] for pid in pids)

    def expect_pushes(self, pids: Iterable[int]) -> None:
        """Wait until each of these processes has pushed a profile of its own, and forget those."""
        assert self._receiver is not None
        for pid in pids:
            before = self._pushes_before[pid]
            seen: Counter[int] = Counter()
            deadline = time.monotonic() + PATIENCE
            while seen[pid] <= before:
                since = len(self._receiver.profiles())
                seen = Counter(each for profile in self._receiver.profiles() for each in _pids(profile))
                if seen[pid] <= before:
                    self._receiver.wait_for(lambda _: True, deadline - time.monotonic(), since)
        self.forget_pushes()

    def forget_pushes(self) -> None:
        assert self._receiver is not None
        self._pushes_before = Counter(pid for profile in self._receiver.profiles() for pid in _pids(profile))

    # Its end

    def _until_idle(self) -> None:
        """uWSGI without a master ends in the midst of what it does after an answer, and leaves exit handlers out."""
        waits = Path(f"/proc/{self.master}/wchan")
        deadline = time.monotonic() + PATIENCE
        while "no master" in self.row.start and "epoll" not in (found := waits.read_text()):
            assert time.monotonic() < deadline, found

    def end(self) -> tuple[int, float]:
        """End it as its server is ended; gives the exit code and the seconds that it took."""
        began = time.monotonic()
        if self.row.kind == "pool":
            self.child.input.close()
        else:
            self._until_idle()
            self.child.process.send_signal(signal.SIGTERM)
        code = self.child.process.wait(PATIENCE)
        took = time.monotonic() - began
        self.child.err.rest()
        return code, took


def _pids(profile: Any) -> set[int]:
    """The processes that a profile's samples are of."""
    return {int(sample.labels["pid"]) for sample in profile.samples if "pid" in sample.labels}


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def until_listens(family: int, address: Any) -> None:
    """Until something accepts there: what does not say so has to be tried."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket(family) as client:
            if client.connect_ex(address) == 0:
                return
        assert time.monotonic() < deadline, f"nobody listens at {address}"
        time.sleep(0.01)


def redis(folder: Path) -> Child:
    """A server that keeps nothing, once it listens."""
    server = Child([str(program("redis-server")), "--port", "0", "--unixsocket", "redis.sock", "--save", ""], folder)
    until_listens(socket.AF_UNIX, str(folder / "redis.sock"))
    return server


class Usual(NamedTuple):
    """The behaviour of the server without Rheostat."""

    code: int
    took: float
    """Seconds from the signal to the end."""
    threads: int
    """Of its master."""
    noise: frozenset[str]
    """Lines that it makes somebody read by itself, with any number in the place of each."""


_USUAL: Final[dict[tuple[str, tuple[str, ...]], Usual]] = {}


def numberless(line: str) -> str:
    return re.sub(r"\d+", "0", line)


def usual(row: Row, folder: Path) -> Usual:
    """Run the server without Rheostat, once for all tests."""
    key = row.server, row.command
    if key not in _USUAL:
        folder.mkdir()
        with Service(row.bare, folder) as service:
            service.workers(row.processes)
            before = threads(service.master)
            code, took = service.end()
            _USUAL[key] = Usual(code, took, before, frozenset(map(numberless, service.noise())))
    return _USUAL[key]


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


# The table

HEAD: Final = ("server", "version", "start method", "by", "governed", "flip", "own profiles", "last window", "exit")


def table(outcomes: Iterable[Mapping[str, str]]) -> str:
    """The matrix as Markdown, in its own order; what has no outcome is said so."""
    found = {tuple(each[name] for name in ("server", "start method", "by")): each for each in outcomes}
    lines = [HEAD, ("---",) * len(HEAD)]
    for row in MATRIX:
        seen = found.get(row.key, {})
        lines.append(tuple(seen.get(name, "not run") for name in HEAD) if seen else _not_run(row))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _not_run(row: Row) -> tuple[str, ...]:
    return (row.server, row.version, row.start, row.by, *["not run"] * 5)


def outcomes(report: Path) -> list[dict[str, str]]:
    """The tests' records in pytest's XML report."""
    cases = ElementTree.parse(report).getroot().iter("testcase")
    found = []
    for case in cases:
        seen = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
        if "start method" in seen:
            failed = case.find("failure") is not None or case.find("error") is not None
            found.append({**dict.fromkeys(HEAD, "failed" if failed else "-"), **seen})
    return found


def main(arguments: Sequence[str]) -> None:
    print(table(outcomes(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
