"""Forks: the host forks as without Rheostat, children are governed by themselves, and nobody is waited for."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rheostat.receive.receiver import Receiver
from support.children import MODULE, PATIENCE, Child, ended, parsed

TESTS = str(Path(__file__).parent.parent)
WARNS = sys.version_info >= (3, 12)
"""Whether CPython itself warns of a fork while there is another thread."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

CONFIG = """\
version: 1
application: shop
source: {{kind: yaml, path: flags.yaml, poll_interval: 10ms}}
backend: {backend}
enabled: {{flag: on, default: false}}
settings:
  rate: {{flag: rate, default: 20}}
policy: {{cooldown: 0s, exit_deadline: 300ms, {policy}}}
"""

# An alarm in place of faulthandler's watchdog, which would be a thread more.
HOST = """\
import faulthandler, os, signal, sys, threading, time, warnings
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(15)

def tasks():
    return len(os.listdir("/proc/self/task"))

def until(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)

def flip(on, rate=20):
    with open(f"flags.{os.getpid()}", "w") as file:
        file.write(f"on: {str(on).lower()}\\nrate: {rate}\\n")
    os.replace(file.name, "flags.yaml")

def forked(body):
    \"\"\"Fork a child that runs `body` and exits with what it gives; the code of its exit.\"\"\"
    child = os.fork()
    if child == 0:
        signal.alarm(15)
        code = 70
        try:
            code = body() or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def forks_until(holds):
    \"\"\"At a fork the thread may be in the middle of a look, or the machine too busy for it to be gone in time.\"\"\"
    for _ in range(100):
        assert forked(lambda: 0) == 0
        deadline = time.monotonic() + 0.05
        while time.monotonic() < deadline:
            if holds():
                return
            time.sleep(0.001)
    raise AssertionError("it never came to hold, whatever was forked")

import rheostat
seen = []

def mine():
    return [(each.seq, str(each.trigger)) for pid, each in seen if pid == os.getpid()]

def start():
    return rheostat.start("config.yaml", observers=[lambda each: seen.append((os.getpid(), each))])

def runs(rate=20):
    def holds():
        status = reconciler.status()
        # Observers are told after the status is.
        told = [seq for seq, _ in mine()][-1:] == [status.seq]
        return told and status.state == "running" and status.settings["rate"] == rate and status.operation is None
    until(holds)

"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


NOOP = "{kind: noop}"
FAULTY = "{kind: 'support.faults:FaultyBackend'}"


def prepare(folder: Path, *, backend: str = NOOP, on: bool = True, policy: str = "") -> None:
    (folder / "config.yaml").write_text(CONFIG.format(backend=backend, policy=policy))
    (folder / "flags.yaml").write_text(f"on: {str(on).lower()}\n")


def host(
    folder: Path, body: str, *options: str, name: str = "host.py", launcher: Sequence[str] = ()
) -> tuple[str, str]:
    """Run a host to its end; gives what it printed, and its stderr. It has to end well."""
    (folder / name).write_text(HOST + body)
    # What a Python of another version needs to find the packages is passed on.
    path = os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    ran = ended([*launcher, sys.executable, *options, name], folder, {"PYTHONPATH": path})
    assert 0 == ran.returncode, ran.stderr
    return ran.stdout, ran.stderr


PARKING = """\
counts, statuses = [], []
# The thread may be in the middle of a look, or the machine too busy for it to be gone in a millisecond; and the kernel
# may still be at work on a thread that has ended: so not at every fork.
os.register_at_fork(before=lambda: counts.append((tasks(), threading.active_count())))
reconciler = start()
runs()
os.register_at_fork(before=lambda: statuses.append(reconciler.status()))
until(lambda: tasks() == 2)
while [threads for threads, _ in counts].count(1) < 10:
    assert len(counts) < 400, counts
    assert forked(lambda: 0) == 0
    statuses.append(reconciler.status())
    time.sleep(0.003)
assert {(str(each.state), each.closed, each.error) for each in statuses} == {("running", False, "")}
flip(True, 30)
runs(30)
assert [each.name for each in threading.enumerate()].count("rheostat") == 1
assert mine() == [(1, "started"), (2, "retune"), (3, "started")]
assert reconciler.stop(5)
"""


def test_an_idle_control_thread_parks_for_a_fork(tmp_path: Path) -> None:
    """At the moment of the fork the process has no thread but its own; governing goes on, and no status ever lies."""
    prepare(tmp_path)
    host(tmp_path, PARKING)


QUIET = """\
forks = []
# It is called last before the fork, being the first there is.
os.register_at_fork(before=lambda: forks.append((time.monotonic(), tasks())))
reconciler = start()
runs()
for _ in range(100):
    with rheostat.plugins.hold_off_forks(after=0.05):
        since = time.monotonic()
    assert forked(lambda: 0) == 0
    assert forks[-1][0] >= since + 0.05
    if forks[-1][1] == 1:
        break
else:
    raise AssertionError("it never parked")
"""


def test_a_quiet_after_a_backend_s_work_is_kept_where_the_host_is_alone(tmp_path: Path) -> None:
    """Its beginnings need not be a thread."""
    prepare(tmp_path)
    host(tmp_path, QUIET)


SILENT = """\
if {threads}:
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
reconciler = start()
until(lambda: reconciler.status().source.available)
if {on}:
    until(lambda: reconciler.status().settings)
for _ in range(5):
    assert forked(lambda: 0) == 0
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("what", "threads", "warnings"),
    [
        *((what, threads, "always") for what in ("off", "noop", "agent") for threads in (False, True)),
        ("off", False, "error"),
        ("agent", False, "error"),
    ],
)
def test_no_fork_is_warned_of_because_of_us(tmp_path: Path, what: str, threads: bool, warnings: str) -> None:
    """Under -X dev nothing is said, unless the host has threads of its own and CPython warns as it would without us."""
    with Receiver() as receiver:
        agent = f'{{kind: pyroscope, server_address: "{receiver.address}"}}'
        prepare(tmp_path, backend=agent if what == "agent" else NOOP, on=what != "off")
        if what == "agent":
            config = tmp_path / "config.yaml"
            config.write_text(config.read_text().replace("rate: {flag", "sample_rate: {flag"))
        script = SILENT.format(on=what != "off", threads=threads)
        stderr = host(tmp_path, script, "-W", warnings, "-X", "dev")[1]
    # As an error CPython's own warning of a fork is never seen, so there are both.
    if threads and WARNS:
        assert 5 == stderr.count("is multi-threaded, use of fork() may lead to deadlocks")
    else:
        assert "" == stderr


FILTERS = {
    "after": "begin()\nwarnings.simplefilter('always')\n",
    "error": "begin()\nwarnings.simplefilter('error')\n",
    "reset": "begin()\nwarnings.resetwarnings()\n",
    "catch": "with warnings.catch_warnings():\n    begin()\nwarnings.simplefilter('always')\n",
}

FILTERING = """\
def begin():
    global reconciler
    reconciler = start()
    until(lambda: reconciler.status().settings)

{filters}
for _ in range(2):
    assert forked(lambda: 0) == 0
    until(lambda: mine() == [(1, "started")])
assert reconciler.stop(5)
"""


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_no_fork_is_warned_of_whatever_the_host_filters(tmp_path: Path, receiver: Receiver, filters: str) -> None:
    """The agent's warning is not heard though the host sets its filters after the start, or takes ours back."""
    prepare(tmp_path, backend=f'{{kind: pyroscope, server_address: "{receiver.address}"}}')
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("rate: {flag", "sample_rate: {flag"))
    assert "" == host(tmp_path, FILTERING.format(filters=filters))[1]


IN_FLIGHT = """\
from support.faults import STAGE
where = {where!r}
STAGE.flags = {{"on": True}}
if where == "start":
    STAGE.set("start", "hang")
reconciler = start()
if where == "stop":
    runs()
    STAGE.set("stop", "hang")
    STAGE.say(on=False)
until(lambda: (call := reconciler.status().operation) and call.name == where)
began = time.monotonic()

def child():
    STAGE.reset()
    STAGE.flags = {{"on": True, "rate": 30}}
    runs(30)
    assert (STAGE.calls["backend"], STAGE.calls["start"], STAGE.calls["stop"]) == (1, 1, 0), STAGE.calls
    assert mine()[-1][1] == "started" and mine()[0][0] == 1
    return 0 if reconciler.stop(5) else 1

def tell():
    print(time.monotonic() - began)

os.register_at_fork(after_in_parent=tell)
assert forked(child) == 0
until(lambda: reconciler.status().operation.stuck)
STAGE.say(on=True, rate=40)
STAGE.lift(where)
runs(40)
assert reconciler.stop(5)
"""


@pytest.mark.parametrize("where", ["start", "stop"])
def test_a_fork_while_a_call_hangs(tmp_path: Path, where: str) -> None:
    """It is not held up; the child begins anew with its own backend, and the parent converges once the call returns."""
    prepare(tmp_path, backend=FAULTY, policy="start_deadline: 100ms, stop_deadline: 100ms")
    config = tmp_path / "config.yaml"
    config.write_text(
        config.read_text().replace("yaml, path: flags.yaml, poll_interval: 10ms", "'support.faults:FaultySource'")
    )
    stdout, stderr = host(tmp_path, IN_FLIGHT.format(where=where))
    assert float(stdout.split()[0]) < 1.0
    assert "Traceback" not in stderr


STORM = """\
warnings.simplefilter("ignore")
reconciler = start()
until(lambda: reconciler.status().source.available)
codes = []

def storm():
    for _ in range({forks}):
        codes.append(forked(lambda: 0))

threads = [threading.Thread(target=storm) for _ in range(2)]
for each in threads:
    each.start()
turn = 0
while any(each.is_alive() for each in threads):
    turn += 1
    flip(turn % 2 == 0, 20 + turn % 7)
    time.sleep(0.005)
assert codes == [0] * 2 * {forks}
flip(True, 99)
runs(99)
assert [each.name for each in threading.enumerate()].count("rheostat") == 1
assert [seq for seq, _ in mine()] == list(range(1, reconciler.status().seq + 1))
assert reconciler.stop(5)
# The kernel may still be at work on a thread that has ended.
until(lambda: tasks() == 1)
print(len(mine()))
"""


def test_a_storm_of_forks_while_flags_flap(tmp_path: Path) -> None:
    """Two threads fork 200 times in all: no hang, one control thread, no gap in the sequence, the last flag counts."""
    prepare(tmp_path)
    assert int(host(tmp_path, STORM.format(forks=100))[0]) >= 1


GOVERNED_CHILD = """\
def child():
    runs()
    expected = [(1, "forked"), (2, "started")]
    assert mine() == expected, mine()
    assert reconciler.status().pid == os.getpid()
    return 0 if reconciler.stop(5) else 1

"""

FROM_A_THREAD = """\
reconciler = start()
runs()
codes = []
thread = threading.Thread(target=lambda: codes.append(forked(child)))
thread.start()
thread.join()
assert codes == [0]
assert mine() == [(1, "started")] and reconciler.stop(5)
"""

FROM_AN_OBSERVER = """\
codes = []

def fork_in(each):
    seen.append((os.getpid(), each))
    if each.seq == 1 and os.getpid() == host:
        codes.append(forked(child))

host = os.getpid()
reconciler = None
ready = threading.Event()

def observe(each):
    ready.wait(10)
    fork_in(each)

reconciler = rheostat.start("config.yaml", observers=[observe])
ready.set()
until(lambda: codes)
assert codes == [0]
runs()
flip(True, 30)
runs(30)
assert reconciler.stop(5)
"""

NESTED = """\
reconciler = start()
runs()

def nested():
    runs()
    assert mine() == [(1, "forked"), (2, "started")], mine()
    code = forked(child)
    assert mine() == [(1, "forked"), (2, "started")], mine()
    return code or (0 if reconciler.stop(5) else 1)

assert forked(nested) == 0
assert mine() == [(1, "started")]
assert reconciler.status().state == "running" and reconciler.stop(5)
"""


@pytest.mark.parametrize(
    "body", [FROM_A_THREAD, FROM_AN_OBSERVER, NESTED], ids=["from a thread", "from an observer", "nested"]
)
def test_a_child_is_governed_by_itself(tmp_path: Path, body: str) -> None:
    """Wherever it was forked it has its own session and sequence, and its parent goes on with its own."""
    prepare(tmp_path)
    stderr = host(tmp_path, GOVERNED_CHILD + body)[1]
    # The thread that forks is the host's own.
    assert (WARNS and body is FROM_A_THREAD) == ("is multi-threaded" in stderr)
    assert "Traceback" not in stderr


DAEMON = """\
import logging
logging.basicConfig(level="INFO", format="%(process)d %(message)s", stream=sys.stdout)
reconciler = start()
runs()
read, write = os.pipe()

def leaves():
    os.setsid()
    if os.fork() == 0:
        runs()
        assert mine() == [(1, "started")], mine()
        assert reconciler.stop(5)
        os.write(write, str(os.getpid()).encode())
    os._exit(0)

child = os.fork()
if child == 0:
    leaves()
os.waitpid(child, 0)
os.close(write)
daemon = os.read(read, 100)
assert daemon, "the daemon was not governed"
print("child", child, "daemon", daemon.decode(), flush=True)
assert reconciler.stop(5)
"""


def test_a_process_that_daemonises_is_governed(tmp_path: Path) -> None:
    """After a double fork the daemon is governed, and the child in between has paid for nothing and said nothing."""
    prepare(tmp_path)
    stdout, stderr = host(tmp_path, DAEMON)
    assert "" == stderr
    lines = stdout.splitlines()
    [told] = [line.split() for line in lines if line.startswith("child")]
    assert not [line for line in lines if line.startswith(f"{told[1]} ")]
    assert [line for line in lines if line.startswith(f"{told[3]} ")]


EXECS = """\
reconciler = start()
runs()
took = []
for _ in range(5):
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.execv("/bin/true", ["true"])
    assert os.waitpid(child, 0)[1] == 0
    took.append(time.monotonic() - began)
assert min(took) < 0.15, took
assert mine() == [(1, "started")] and reconciler.stop(5)
"""


def test_a_child_that_execs_pays_nothing(tmp_path: Path) -> None:
    """It is another program before Rheostat would have begun in it."""
    prepare(tmp_path)
    assert "" == host(tmp_path, EXECS)[1]


OFF_IN_CHILDREN = """\
reconciler = start()
runs()

def child():
    time.sleep(0.3)
    status = reconciler.status()
    assert (str(status.state), status.closed, status.pid) == ("stopped", True, os.getpid()), status
    assert (mine(), tasks()) == ([], 1)
    return 0 if reconciler.stop() else 1

assert forked(child) == 0
flip(True, 30)
runs(30)
assert reconciler.stop(5)
"""


def test_fork_policy_off_leaves_children_alone(tmp_path: Path) -> None:
    """A child has no thread of ours, and its status says that it is over."""
    prepare(tmp_path, policy="fork_policy: off")
    assert "" == host(tmp_path, OFF_IN_CHILDREN)[1]


WORKERS = """\
import multiprocessing

def governed():
    until(lambda: reconciler.status().settings)
    return [each.name for each in threading.enumerate()].count("rheostat")

def work(queue):
    global reconciler
    reconciler = start()
    queue.put(governed())

if __name__ == "__main__":
    reconciler = start()
    time.sleep(0.1)
    status = reconciler.status()
    assert (tasks(), str(status.state), status.closed) == (1, "stopped", False), status
    assert status.source.reason == "only workers are governed"
    assert start() is reconciler
    assert forked(lambda: 0 if governed() == 1 else 1) == 0
    for method in ("spawn", "forkserver", "fork"):
        context = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        child = context.Process(target=work, args=(queue,))
        child.start()
        assert queue.get() == 1
        child.join()
        assert child.exitcode == 0
    assert reconciler.stop() and tasks() == 1
    assert reconciler.status().closed
"""


def test_processes_workers_leaves_the_master_alone(tmp_path: Path) -> None:
    """The master never has a thread of ours; what it forks or multiprocessing spawns is governed."""
    prepare(tmp_path, policy="processes: workers")
    assert "" == host(tmp_path, WORKERS)[1]


NATIVE = """\
def native():
    return [each.native_id for each in threading.enumerate() if each.name == "rheostat"]
"""

KEEPS = (
    NATIVE
    + """
reconciler = start()
until(lambda: reconciler.status().settings)
before = native()
assert before
for _ in range(20):
    assert forked(lambda: 0) == 0
    assert native() == before
assert reconciler.stop(5)
"""
)


@pytest.mark.parametrize("whose", ["the host's", "the agent's"])
def test_a_fork_with_other_threads_is_not_waited_for(tmp_path: Path, whose: str, receiver: Receiver) -> None:
    """Where a fork finds several threads anyway, ours stays: to wait for its end would bring nothing."""
    agent = f'{{kind: pyroscope, server_address: "{receiver.address}"}}'
    prepare(tmp_path, backend=agent if whose == "the agent's" else NOOP)
    config = tmp_path / "config.yaml"
    if whose == "the agent's":
        config.write_text(config.read_text().replace("rate: {flag", "sample_rate: {flag"))
    thread = "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    host(tmp_path, (thread if whose == "the host's" else "") + KEEPS)


SPAWNS = (
    NATIVE
    + """
import subprocess
reconciler = start()
runs()
before = native()
assert before
subprocess.run(["/bin/true"], check=True)
os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
assert native() == before
until(lambda: tasks() == 2)
forks_until(lambda: native() not in ([], before))
assert reconciler.stop(5)
"""
)


def test_programs_are_started_without_parking(tmp_path: Path) -> None:
    """subprocess and os.posix_spawn run no Python in the child, so nothing has to make way."""
    prepare(tmp_path)
    assert "" == host(tmp_path, SPAWNS)[1]


OF_PARENT = """\
reconciler = start()
until(lambda: reconciler.status().settings)

def parent_burns():
    time_is_up = time.thread_time() + 0.3
    while time.thread_time() < time_is_up:
        sum(range(2000))

child = os.fork()
if child == 0:
    # It leaves in order, with the parent's agent in its memory.
    {child}
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
until(lambda: reconciler.status().health.status == "healthy")
parent_burns()
assert mine() == [(1, "started")]
assert reconciler.stop(10)
"""


@pytest.mark.parametrize("child", ["pass", "until(lambda: reconciler.status().settings)"], ids=["early", "governed"])
def test_a_child_s_exit_leaves_the_parent_s_session_alone(tmp_path: Path, receiver: Receiver, child: str) -> None:
    """With the real agent: the parent's session is sound afterwards, and its profile arrives."""
    prepare(tmp_path, backend=f'{{kind: pyroscope, server_address: "{receiver.address}"}}')
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("  rate: {flag: rate, default: 20}", "  sample_rate: 100"))
    assert "" == host(tmp_path, OF_PARENT.format(child=child))[1]
    receiver.wait_for(lambda profile: any("parent_burns" in each.stack for each in profile.samples), PATIENCE)


# A signal in the middle of parking


INTERRUPTED = """\
reconciler = start()
runs()
until(lambda: tasks() == 2)
real = threading.Thread.join

class Interrupt(Exception):
    pass

def interrupted(thread, timeout=None):
    if thread.name == "rheostat":
        # What a signal handler of the host may do at any moment.
        raise Interrupt
    real(thread, timeout)

sys.unraisablehook = lambda _: None
threading.Thread.join = interrupted
assert forked(lambda: 0) == 0
threading.Thread.join = real
flip(True, 30)
runs(30)
assert reconciler.stop(5)
"""


def test_a_signal_while_parking_does_not_end_governing(tmp_path: Path) -> None:
    """A signal handler that raises while a fork waits for the control thread leaves Rheostat at work."""
    prepare(tmp_path)
    assert "" == host(tmp_path, INTERRUPTED)[1]


HELD_OFF = """\
def hold():
    with rheostat.plugins.hold_off_forks():
        held.set()
        # A fork that is not held off gets its chance; one that is waits however long this takes.
        time.sleep(0.1)
        order.append("let go")

held = threading.Event()
threading.Thread(target=hold).start()
assert held.wait(5)
assert forked(lambda: 0) == 0
assert order[-2:] == ["let go", "fork"], order
flip(True, 30)
# There are none while it restarts.
until(lambda: reconciler.status().settings.get("rate") == 30)
assert reconciler.stop(5)
"""

WITHIN = """\
leave, order = threading.Event(), []
busy = threading.Thread(target=leave.wait)

def fork_within():
    # Called last before the fork, like a signal handler that forks by itself.
    order.append("fork")
    if not leave.is_set():
        leave.set()
        busy.join()
        until(lambda: tasks() == 2)
        assert forked(lambda: 0) == 0

os.register_at_fork(before=fork_within)
reconciler = start()
runs()
busy.start()
assert forked(lambda: 0) == 0
"""


def test_a_fork_in_the_midst_of_another(tmp_path: Path) -> None:
    """Though the inner one finds the host alone, and the outer one did not, later forks are held off as ever."""
    prepare(tmp_path)
    assert "" == host(tmp_path, WITHIN + HELD_OFF, "-W", "ignore")[1]


ALONE = """\
threads, order = [], []
def tell():
    threads.append(tasks())
    order.append("fork")

# Called last before the fork where the start is in code; the launcher's are called after it.
os.register_at_fork(before=tell)
reconciler = start()
until(lambda: reconciler.status().settings)
forks_until(lambda: 1 in threads)
"""

LAUNCHERS = {
    "in code": (),
    "launched": (*MODULE, "run", "--config", "config.yaml", "--log", "none", "--"),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_after_a_fork_of_a_host_that_was_alone_forks_are_held_off_as_ever(tmp_path: Path, launcher: str) -> None:
    """Whoever else has hooks of Rheostat's for the same fork."""
    prepare(tmp_path)
    assert "" == host(tmp_path, ALONE + HELD_OFF, "-W", "ignore", launcher=LAUNCHERS[launcher])[1]


GREEN = """\
from gevent import monkey
reconciler = start()
until(lambda: reconciler.status().settings)
monkey.patch_all()
import gevent
ran, seen = [], []
gevent.spawn(ran.append, "a greenlet")
os.register_at_fork(after_in_parent=lambda: seen.append(list(ran)))
if os.fork() == 0:
    os._exit(0)
assert seen == [[]], seen
flip(False)
until(lambda: reconciler.status().state == "stopped")
assert reconciler.stop(5)
"""


def test_no_greenlet_runs_within_a_fork(tmp_path: Path) -> None:
    """Once threads are green nothing of ours waits in the hooks of a fork: others of the host would run meanwhile."""
    prepare(tmp_path)
    host(tmp_path, GREEN, "-W", "ignore")


LOGGING = """\
import io, logging
writing = threading.Event()

class Slow(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        if not writing.is_set():
            writing.set()
            time.sleep(0.3)
        return os.write(1, data)

sys.stderr = io.TextIOWrapper(io.BufferedWriter(Slow()), line_buffering=True)
logging.basicConfig(level="INFO")
reconciler = start()
assert writing.wait(10)

def child():
    signal.alarm(3)
    sys.stderr.flush()

assert forked(child) == 0
assert reconciler.stop(5)
"""


def test_a_fork_while_a_line_is_logged(tmp_path: Path) -> None:
    """A child inherits no lock of the host's stderr that the control thread holds as it logs through the host."""
    prepare(tmp_path)
    assert "stopped -> running" in host(tmp_path, LOGGING)[0]


HUNG_HANDLER = """\
import logging
hanging = threading.Event()

class Handler(logging.Handler):
    def emit(self, record):
        hanging.set()
        threading.Event().wait()

logging.basicConfig(level="INFO", handlers=[Handler()])
reconciler = start()
assert hanging.wait(10)
began = time.monotonic()
for _ in range(6):
    assert forked(lambda: 0) == 0
print(time.monotonic() - began, flush=True)
os._exit(0)
"""


def test_a_log_handler_that_hangs_costs_forks_one_wait(tmp_path: Path) -> None:
    """A fork waits a second at most for the line to be written, and those that follow do not wait again."""
    prepare(tmp_path)
    stdout, stderr = host(tmp_path, HUNG_HANDLER, "-W", "ignore")
    assert "" == stderr
    assert float(stdout) < 3.0


NO_THREADS = """\
from rheostat._host import native
reconciler = start()
runs()
until(lambda: tasks() == 2)
starters = [(native, "start_new_thread")]
starters += [(threading, each) for each in ("_start_new_thread", "_start_joinable_thread") if hasattr(threading, each)]
real = [getattr(*each) for each in starters]

def refuse(*_, **__):
    raise RuntimeError("can't start new thread")

for each in starters:
    setattr(*each, refuse)
forks_until(lambda: reconciler.status().error)
status = reconciler.status()
assert (str(status.state), status.closed, status.settings) == ("running", False, {"rate": 20}), status
assert "can't start new thread" in status.error, status
for each, function in zip(starters, real):
    setattr(*each, function)
flip(True, 30)
reconciler.nudge()
runs(30)
assert reconciler.status().error == ""
flip(False)
until(lambda: reconciler.status().state == "stopped")
assert reconciler.stop(5)
"""


def test_governing_goes_on_once_there_is_a_thread_again(tmp_path: Path) -> None:
    """Where the kernel refuses a thread after a fork the session is not said to be over, and a nudge gets it one."""
    prepare(tmp_path)
    stderr = host(tmp_path, NO_THREADS)[1]
    assert "could not restart the control thread after a fork" in stderr
    assert "unprofiled" not in stderr
    assert "Traceback" not in stderr


NO_THREADS_IN_CHILD = """\
from rheostat._host import native
reconciler = start()
runs()

def refuse(*_):
    raise RuntimeError("can't start new thread")

real = native.start_new_thread

def body():
    native.start_new_thread = real
    status = reconciler.status()
    assert ("stopped", os.getpid(), False) == (str(status.state), status.pid, status.closed), status
    assert "can't start new thread" in status.error, status
    reconciler.nudge()
    runs()
    assert reconciler.status().error == ""
    assert reconciler.stop(5)

until(lambda: tasks() == 2)
native.start_new_thread = refuse
assert forked(body) == 0
"""


def test_a_child_without_a_thread_is_governed_once_it_gets_one(tmp_path: Path) -> None:
    """Where the kernel refuses the child a thread its status says so, and a nudge gets it one."""
    prepare(tmp_path)
    stderr = host(tmp_path, NO_THREADS_IN_CHILD)[1]
    assert "could not restart the control thread after a fork" in stderr
    assert "Traceback" not in stderr


STOPPED_AT_ONCE = """\
reconciler = start()
runs()

def stops_after(seconds):
    status = reconciler.status()
    assert ("stopped", os.getpid(), False) == (str(status.state), status.pid, status.closed), status
    reconciler.nudge()
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        time.sleep(0)
    assert reconciler.stop()
    status = reconciler.status()
    assert ("stopped", True) == (str(status.state), status.closed), status
    globals()["reconciler"] = start()
    runs()
    assert [each.name for each in threading.enumerate()].count("rheostat") == 1
    assert mine() == [(1, "started")], mine()
    assert reconciler.stop(5)

# Its governor is made in the first of some milliseconds.
for i in range(30):
    assert forked(lambda: stops_after(i * 50e-6)) == 0
runs()
assert reconciler.stop(5)
"""


def test_a_child_may_stop_at_once(tmp_path: Path) -> None:
    """Whether it has begun to be governed or not: nothing begins after it, and it may start anew."""
    prepare(tmp_path)
    host(tmp_path, STOPPED_AT_ONCE)


# A handler in the midst of the child's hooks: at each line of them in turn, where a signal could come.
IN_THE_HOOK = """\
reconciler = start()
runs()
wanted, reached, handle = 0, [], lambda: None

def trace(frame, event, _):
    if frame.f_code.co_name not in ("forked", "after_in_child") or "rheostat" not in frame.f_code.co_filename:
        return None
    def line(frame, event, _):
        if event == "line":
            reached.append(frame.f_lineno)
            if len(reached) == wanted:
                sys.settrace(None)
                handle()
        return line
    return line

os.register_at_fork(before=lambda: sys.settrace(trace), after_in_parent=lambda: sys.settrace(None))

def at_each_line(act, body):
    global wanted, handle
    handle = act
    for wanted in range(1, 60):
        code = forked(lambda: sys.settrace(None) or body())
        if code == LAST:
            break
        assert code == 0, (wanted, code)
    assert 5 < wanted < 59, wanted

LAST = 42
"""

STOPPED_IN_THE_HOOK = (
    IN_THE_HOOK
    + """\
def body():
    if len(reached) < wanted:
        return LAST
    until(lambda: reconciler.status().closed)
    assert mine() == [], mine()

at_each_line(lambda: reconciler.stop(0.01), body)
"""
)


def test_a_stop_in_the_midst_of_the_child_s_hook_holds(tmp_path: Path) -> None:
    """A signal handler that stops Rheostat while the hook runs is not overruled by what the hook does next."""
    prepare(tmp_path)
    host(tmp_path, STOPPED_IN_THE_HOOK)


RAISED_BEFORE_THE_CHILD_IS_OURS = """\
from rheostat._host.forks import FORKS
reconciler = start()
runs()
sys.unraisablehook = lambda _: None

class Interrupt(Exception):
    pass

def interrupted():
    raise Interrupt

real, FORKS.after_in_child = FORKS.after_in_child, interrupted

def body():
    FORKS.after_in_child = real
    real()
    status = reconciler.status()
    assert ("stopped", os.getpid()) == (str(status.state), status.pid), status
    runs()
    assert reconciler.stop(5)

assert forked(body) == 0
"""


def test_a_signal_in_the_child_s_hook_leaves_it_its_own(tmp_path: Path) -> None:
    """A signal handler that raises there does not leave the child with what governs its parent."""
    prepare(tmp_path)
    host(tmp_path, RAISED_BEFORE_THE_CHILD_IS_OURS)


COMPANY_FOR_A_WHILE = """\
reconciler = start()
runs()
gate = threading.Event()
helper = threading.Thread(target=gate.wait)
helper.start()
for _ in range(5):
    assert forked(lambda: 0) == 0
gate.set()
helper.join()
until(lambda: tasks() == 2)

def ours():
    return [each.native_id for each in threading.enumerate() if each.name == "rheostat"]

before = ours()
forks_until(lambda: ours() and ours() != before)
assert reconciler.stop(5)
"""


def test_parking_goes_on_once_the_host_is_alone_again(tmp_path: Path) -> None:
    """A thread of the host's that was there at some forks is not taken for one that stays."""
    prepare(tmp_path)
    host(tmp_path, COMPANY_FOR_A_WHILE)


FINALISED = """\
import gc, types
from rheostat_backends import noop

class Backend(noop.NoopBackend):
    def __init__(self, *given):
        super().__init__(*given)
        self.made_in = os.getpid()

    def __del__(self):
        if self.made_in != os.getpid():
            print("finalised")

sys.modules["mine"] = types.ModuleType("mine")
sys.modules["mine"].Backend = Backend
reconciler = start()
runs()

def body():
    runs()
    assert reconciler.stop(5)
    globals()["reconciler"] = start()
    runs()
    gc.collect()
    sys.stdout.flush()

assert forked(body) == 0
print("done")
"""


def test_what_the_parent_made_is_not_finalised_in_a_child_that_starts_anew(tmp_path: Path) -> None:
    """Not even when the child has let go of the handle that it was inherited by."""
    prepare(tmp_path, backend="{kind: 'mine:Backend'}")
    assert "done\n" == host(tmp_path, FINALISED)[0]


WITH_EVENTLET = """\
import eventlet, eventlet.hubs, eventlet.patcher
# Where it sees pytest's eventlet does not look.
os.environ.pop("PYTEST_CURRENT_TEST", None)
"""

GREEN_CHILD = """\
reconciler = start()
runs()
for _ in range(8):
    assert forked(eventlet.monkey_patch) == 0
"""


def test_eventlet_complains_of_no_lock_of_ours_in_a_child(tmp_path: Path) -> None:
    """It looks for every lock that there is to be made green, and says so where it has not found the way to one."""
    prepare(tmp_path)
    assert "not greened" not in host(tmp_path, WITH_EVENTLET + GREEN_CHILD)[1]


PATCHED_IN_THE_FIRST_MOMENT = """\
import _thread, rheostat._lifecycle.reconciler
# However long a busy machine takes to patch, that is done before the child is governed.
rheostat._lifecycle.reconciler._FORK_SETTLES = 2.0
reconciler = start()
runs()
starts, goes_on = _thread.allocate_lock(), _thread.allocate_lock()
starts.acquire(), goes_on.acquire()
bootstrap = threading.Thread._bootstrap_inner

def in_the_midst(thread):
    starts.release()
    goes_on.acquire()
    bootstrap(thread)

def patched():
    threading.Thread._bootstrap_inner = in_the_midst
    starts.acquire(timeout=0.1)
    eventlet.monkey_patch()
    goes_on.release()
    runs()
    assert reconciler.stop(5)

assert forked(patched) == 0
assert reconciler.stop(5)
"""


def test_eventlet_may_patch_the_first_moment_of_a_child(tmp_path: Path) -> None:
    """A thread that is just starting would end with a traceback, and the child be governed by nobody."""
    prepare(tmp_path)
    assert "Traceback" not in host(tmp_path, WITH_EVENTLET + PATCHED_IN_THE_FIRST_MOMENT)[1]


# Under `rheostat run`


BOOTSTRAPPED = """\
import os, sys, time
counts = []
{imports}
# Registered before nothing of ours: the bootstrap's hook, registered earlier, runs after this one.
child = os.fork()
if child == 0:
    print("child", os.getpid(), len(os.listdir("/proc/self/task")), flush=True)
    sys.stdin.read()
    os._exit(0)
print("parent", os.getpid(), flush=True)
sys.stdin.read()
os.waitpid(child, 0)
"""

SITE = """\
import os
counts = []
os.register_at_fork(before=lambda: print("threads", len(os.listdir("/proc/self/task")), flush=True))
"""


def governed(folder: Path, script: str) -> Child:
    (folder / "app.py").write_text(script)
    command = [
        *MODULE,
        "run",
        "--config",
        "config.yaml",
        "--log",
        "json",
        "--",
        sys.executable,
        "-W",
        "error",
        "app.py",
    ]
    path = os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return Child(command, folder, {"PYTHONPATH": path})


@pytest.mark.parametrize("imports", ["", "import rheostat"], ids=["plain", "imports rheostat"])
def test_a_child_forked_before_the_start_is_governed(tmp_path: Path, imports: str) -> None:
    """While the bootstrap waits it makes way for a fork; parent and child are both governed, whatever they import."""
    prepare(tmp_path, policy="start_after: 400ms")
    with governed(tmp_path, BOOTSTRAPPED.format(imports=imports)) as child:
        pids = {int((child.out.next() or "").split()[1]) for _ in range(2)}
        assert pids == {child.event("transition", to="running")["pid"] for _ in pids}
        assert 0 == child.finish()
        assert all(parsed(line) for line in child.err.rest())


WAITING = """\
import os, sys, time
names = lambda: [each.name for each in sys.modules["threading"].enumerate()]
assert names() == ["MainThread", "rheostat"], names()
# The bootstrap's own hook was registered first, and so has run before this process forks: look from the child.
waiting = []
for _ in range(20):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(len(os.listdir(f"/proc/{os.getppid()}/task"))).encode())
        os._exit(0)
    os.waitpid(child, 0)
    # The thread that goes on is started without making the host wait for it.
    deadline = time.monotonic() + 5
    while len(names()) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    waiting.append(names())
    os.close(read), os.close(write)
    time.sleep(0.002)
assert all(each == ["MainThread", "rheostat"] for each in waiting), waiting
print("fine", flush=True)
sys.stdin.read()
"""


def test_the_waiting_bootstrap_goes_on_after_forks(tmp_path: Path) -> None:
    """However often the process forks before the start, in silence, one thread waits on, and it is governed in time."""
    prepare(tmp_path, policy="start_after: 3s")
    with governed(tmp_path, WAITING) as child:
        assert "fine" == child.out.next()
        assert child.process.pid == child.event("transition", to="running")["pid"]
        assert 0 == child.finish()
        assert all(parsed(line) for line in child.err.rest())


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_thousand_forks_leave_nothing_behind(tmp_path: Path) -> None:
    """Threads, descriptors and memory are flat over 1,000 forks from two threads while flags flap."""
    prepare(tmp_path)
    body = STORM.format(forks=500)
    before, after = body.split("codes = []")
    measure = (
        "def rss():\n    return int(open('/proc/self/statm').read().split()[1]) * 4\n"
        "def fds():\n    return len(os.listdir('/proc/self/fd'))\n"
        "signal.alarm(250)\nfor _ in range(20): forked(lambda: 0)\nbegan = rss(), fds()\ncodes = []"
    )
    script = before + measure + after + "print(rss() - began[0], fds() - began[1])\n"
    (tmp_path / "host.py").write_text(HOST + script)
    with Child([sys.executable, "host.py"], tmp_path, {"PYTHONPATH": TESTS}) as child:
        assert 0 == child.process.wait(250)
        grown, descriptors = map(int, child.out.rest()[-1].split())
    assert grown < 4096
    assert descriptors <= 0


SLOW_MODULE = """
import events

events.began.set()
events.forked.wait(20)


class Source:
    Options = dict
    poll_interval = None

    def __init__(self, options, identity):
        pass

    def open(self, changed):
        pass

    def read(self, wanted):
        import rheostat

        return rheostat.plugins.Reading({})

    def close(self):
        pass
"""

EVENTS = """
import threading

began, forked = threading.Event(), threading.Event()
"""

FORKS_WITHIN_AN_IMPORT = """
import os
import sys
import time

import events
import rheostat

usual = sys.getswitchinterval()
profiling = rheostat.start("config.yaml")
assert events.began.wait(20)
within = sys.getswitchinterval()
child = os.fork()
if child == 0:
    os._exit(sys.getswitchinterval() != usual)
_, code = os.waitpid(child, 0)
events.forked.set()
while not profiling.status().source.available:
    pass
# What writes the status is imported after the first flags.
until = time.monotonic() + 20
while sys.getswitchinterval() != usual and time.monotonic() < until:
    pass
print(within < usual, code, sys.getswitchinterval() == usual, flush=True)
"""


def test_a_child_of_a_fork_within_an_import_switches_threads_as_usual(tmp_path: Path) -> None:
    """The interval that is shortened for an import is restored in the child at once, in the parent after the import."""
    config = CONFIG.replace("{{kind: yaml, path: flags.yaml, poll_interval: 10ms}}", "{{kind: 'slow:Source'}}")
    files = {
        "config.yaml": config.format(backend=NOOP, policy=""),
        "slow.py": SLOW_MODULE,
        "events.py": EVENTS,
        "app.py": FORKS_WITHIN_AN_IMPORT,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert "True 0 True" == ended([sys.executable, "app.py"], tmp_path).stdout.strip()
