"""Runs in every Python process below ``rheostat run``, before the application: starts Rheostat a little later.

This file may be read by any Python the service starts, so it keeps to what all of them understand.
"""

import os
import sys


def _run_the_one_we_hide(here):
    """An environment may have a sitecustomize of its own, which this file's place on the path hides."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


class _Bootstrap(object):
    """Imports Rheostat in a thread, once the process has lived long enough to be worth it."""

    def __init__(self):
        # Imported here, in the main thread: first imported elsewhere, threading would take that for the main one.
        import threading

        self._threading = threading
        self._attaching = threading.Lock()
        self._forking = 0
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
        )

    def attach_later(self):
        self._threading.Thread(target=self._attach, name="rheostat", daemon=True).start()

    def _attach(self):
        import time

        time.sleep(float(os.environ.get("RHEOSTAT_START_AFTER", "2")))
        try:
            with self._attaching:
                from rheostat.launch import attach

                attach()
        # Whatever the interpreter at hand makes of it, the service goes on.
        except BaseException as error:
            _complain("Rheostat cannot be imported by {}: {}".format(sys.executable, error))

    def _before_fork(self):
        """A child forked in the middle of an import would wait for the import's lock for ever."""
        if self._attaching.acquire(timeout=1):
            self._forking = self._threading.get_ident()

    def _after_fork(self):
        if self._forking == self._threading.get_ident():
            self._forking = 0
            self._attaching.release()

    def _after_fork_in_child(self):
        self._attaching = self._threading.Lock()
        # From there on Rheostat follows forks itself.
        if "rheostat.process" not in sys.modules:
            self.attach_later()


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
        sys.stderr.write(json.dumps(line) + "\n")
    else:
        sys.stderr.write("ERROR rheostat[{}]: {}\n".format(os.getpid(), message))


def _is_worth_it():
    """The helper that multiprocessing starts for its own book-keeping is no part of the service."""
    return not any("multiprocessing.resource_tracker" in each for each in sys.orig_argv)


if sys.version_info >= (3, 11) and "RHEOSTAT_CONFIG" in os.environ and _is_worth_it():
    _Bootstrap().attach_later()
_run_the_one_we_hide(os.path.dirname(os.path.abspath(__file__)))
