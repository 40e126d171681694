"""Runs in every Python process below ``rheostat run``, before the application: starts Rheostat a little later.

This file may be read by any Python the service starts, so it keeps to what all of them understand.
"""

import errno
import os
import sys


def _leave_the_path(here):
    """How often this file's folder was there."""
    kept = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    times = len(sys.path) - len(kept)
    sys.path[:] = kept
    return times


def _run_the_one_we_hide():
    """An environment may have a sitecustomize of its own, which this file's place on the path hides."""
    try:
        from _frozen_importlib import module_from_spec
        from importlib.machinery import PathFinder
    except ImportError:
        _run_it_under_python_2()
        return

    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _run_it_under_python_2():
    import imp

    found = imp.find_module("sitecustomize", sys.path)
    # Kept, or this module's names would be gone with it.
    ours = sys.modules.pop("sitecustomize")
    try:
        imp.load_module("sitecustomize", *found)
    finally:
        del ours


class _Bootstrap(object):
    """Imports Rheostat in a thread, once the process has lived long enough to be worth it."""

    def __init__(self):
        # Imported here, in the main thread: first imported elsewhere, threading would take that for the main one, and
        # CPython 3.13.0 gives an empty collections.abc to one of two threads that import it at once.
        import collections.abc  # noqa: F401  # for its import alone
        import threading  # noqa: F401  # likewise
        import time

        from rheostat._host import control_thread, native

        self._now = time.monotonic
        self._native = native
        self._threads = control_thread
        self._warn_no_fork = bool
        if sys.version_info >= (3, 12):
            from rheostat._host import fork_warnings

            self._warn_no_fork = fork_warnings.before_fork
        self._forking = 0
        self._forked_in = 0
        self._renew()
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
        )

    def _renew(self):
        self._attaching = self._native.allocate_lock()
        self._thread = self._threads.ControlThread(self._attach_when_due, self._forget)
        self._has_attached = False

    def attach_in_workers(self):
        """For uWSGI, which hangs its workers if it forks while a thread has the interpreter's lock."""
        from rheostat._host import uwsgi

        self._uwsgi = uwsgi
        if uwsgi.is_starting():
            uwsgi.on_worker(self._attach_in_worker)
        else:
            self.attach_later()

    def _attach_in_worker(self):
        if self._uwsgi.lacks_threads():
            # All workers lack them, and all are as mute.
            if self._uwsgi.is_first_of_uwsgi():
                _complain(
                    "uWSGI runs without Python threads, so nothing could turn profiling off (set enable-threads = true)"
                )
        # CPython may have been told of the fork after all.
        elif self._forked_in != os.getpid():
            self._after_fork_in_child()

    def attach_later(self):
        self._due = self._now() + _start_after()
        self._thread.start()

    def _forget(self, error):
        """There is no thread for it after a fork: this process, that short of them, is left alone."""

    def _attach_when_due(self):
        while self._now() < self._due:
            # A thread that only waits makes way for a fork, so that the process forks with no more than its own.
            self._thread.sleep(self._due - self._now(), 0)
        if not self._has_attached:
            self._has_attached = True
            self._import_and_attach()

    def _import_and_attach(self):
        try:
            with self._attaching:
                import logging  # noqa: F401

                # logging holds its own lock across a fork, and what is imported next needs that: hooks that are
                # registered later run earlier, so ours waits for the import before logging's takes that lock.
                os.register_at_fork(before=self._before_fork)
            with self._attaching:
                from rheostat._host.importing import import_apart

                if _is_left_alone(import_apart):
                    return
                import_apart("rheostat._cli.launch").attach(forked=bool(self._forked_in))
        # Whatever the interpreter at hand makes of it, the service goes on.
        except BaseException as error:
            _complain_of_import(error)

    def _before_fork(self):
        """A child forked in the middle of an import would wait for the import's lock for ever."""
        if self._forking == self._native.get_native_id():
            return
        if self._native.acquired(self._attaching, 1):
            self._forking = self._native.get_native_id()
            # Hooks that were registered while this fork waited are not called for it any more.
            wait_to_fork = getattr(sys.modules.get("rheostat._lifecycle.start"), "wait_to_fork", None)
            if wait_to_fork is not None:
                wait_to_fork()
        self._warn_no_fork(self._thread.park())

    def _after_fork(self):
        if self._forking == self._native.get_native_id():
            self._forking = 0
            self._attaching.release()
        self._thread.unpark()

    def _after_fork_in_child(self):
        self._renew()
        self._forking = 0
        self._forked_in = os.getpid()
        # From its start on Rheostat follows forks itself.
        follows_forks = getattr(sys.modules.get("rheostat._lifecycle.start"), "follows_forks", None)
        if follows_forks is None or not follows_forks():
            self.attach_later()


def _is_left_alone(import_apart):
    """The configuration selects processes, and this is none of them."""
    selection = os.environ.get("RHEOSTAT_PROCESSES")
    if not selection:
        return False
    import json

    processes = import_apart("rheostat._core.processes").Processes(*json.loads(selection))
    return not processes.select(sys.orig_argv, os.environ)


def _start_after():
    return float(os.environ.get("RHEOSTAT_START_AFTER", "2"))


def _complain_of_import(error):
    if not _is_said():
        advice = "install it there ({} -m pip install rheostat)".format(sys.executable)
        _complain("Rheostat cannot be imported by {}: {}; {}".format(sys.executable, error, advice))


def _complain_later(error):
    """A process that ends before it would have been governed has nothing to complain of."""
    import threading

    timer = threading.Timer(_start_after(), _complain_of_import, (error,))
    timer.name, timer.daemon = "rheostat", True
    timer.start()


def _complain(text):
    # Nothing may be left of sys.stderr while the interpreter shuts down.
    if sys.stderr is None:
        return
    message = "{}; this process runs unprofiled".format(text)
    if os.environ.get("RHEOSTAT_LOG") == "json":
        import json
        import time

        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = {"time": now, "level": "ERROR", "event": "start_failed", "pid": os.getpid(), "message": message}
        line.update(json.loads(os.environ.get("RHEOSTAT_WHO", "{}")))
        sys.stderr.write(json.dumps(line) + "\n")
    else:
        sys.stderr.write("ERROR rheostat[{}]: {}\n".format(os.getpid(), message))


def _is_said():
    """Another process of this command has said already that Rheostat cannot be there: one line is enough.

    Processes that a shell starts one after the other share no more than the file that the launcher names.
    """
    mark = os.environ.get("RHEOSTAT_SAID")
    if not mark:
        return mark is not None
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600))
    except OSError as error:
        # Without a place for it, the processes below this one at least do not say it again.
        os.environ["RHEOSTAT_SAID"] = ""
        return error.errno == errno.EEXIST
    return False


def _is_capable():
    implementation = getattr(getattr(sys, "implementation", None), "name", "cpython")
    if implementation == "cpython" and sys.version_info >= (3, 11):
        return True
    if not _is_said():
        found = "{} {}.{}".format(implementation, *sys.version_info[:2])
        advice = "run the service with one, or leave it out of rheostat run"
        _complain("Rheostat needs CPython 3.11 or later, and {} is {}: {}".format(sys.executable, found, advice))
    return False


def _is_worth_it():
    """The helper that multiprocessing starts for its own book-keeping is no part of the service."""
    return not any("multiprocessing.resource_tracker" in each for each in sys.orig_argv)


def _may_be_uwsgi():
    """An embedded interpreter has no arguments; pyuwsgi is a script."""
    return not sys.orig_argv or os.path.basename(sys.orig_argv[min(1, len(sys.orig_argv) - 1)]) in ("uwsgi", "pyuwsgi")


def _warn_of_one_that_hides():
    """Launchers whose own sitecustomize comes before this one, and ends there, in what they start.

    Where Rheostat is installed, its ``.pth`` has put this folder on the path once more, and would there too.
    """
    for each in sys.orig_argv[1:3]:
        if os.path.basename(each) in ("opentelemetry-instrument", "opentelemetry.instrumentation.auto_instrumentation"):
            name = os.path.basename(each)
            _complain(
                "{0} hides Rheostat from what it starts: install Rheostat beside it ({1} -m pip install rheostat), "
                "or start it the other way round ({0} -- rheostat run ...)".format(name, sys.executable)
            )


def _begin(can_be_hidden):
    """`can_be_hidden` by other launchers: this file is found by nothing but PYTHONPATH."""
    # The launcher's folder may be found twice, and another installation's beside it.
    if "RHEOSTAT_CONFIG" not in os.environ or hasattr(sys, "_is_rheostat_here"):
        return
    sys._is_rheostat_here = True
    if _is_capable() and _is_worth_it():
        if can_be_hidden:
            _warn_of_one_that_hides()
        try:
            bootstrap = _Bootstrap()
        except ImportError as error:
            _complain_later(error)
            return
        if _may_be_uwsgi():
            bootstrap.attach_in_workers()
        else:
            bootstrap.attach_later()


# First of all: a thread that is looking for a module would pass over one of the folders that move up.
_begin(can_be_hidden=_leave_the_path(os.path.dirname(os.path.abspath(__file__))) < 2)
_run_the_one_we_hide()
