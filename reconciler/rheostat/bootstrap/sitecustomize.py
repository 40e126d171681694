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


def _attach_later():
    # Imported here, in the main thread: first imported elsewhere, it would take that thread for the main one.
    import threading

    threading.Thread(target=_attach, name="rheostat", daemon=True).start()


def _attach():
    import time

    try:
        time.sleep(float(os.environ.get("RHEOSTAT_START_AFTER", "2")))
        from rheostat.launch import attach
    except ImportError as error:
        _complain("Rheostat cannot be imported by {}: {}".format(sys.executable, error))
        return
    attach()


def _complain(text):
    # Nothing may be left of sys.stderr while the interpreter shuts down.
    if sys.stderr is not None:
        sys.stderr.write("ERROR rheostat[{}]: {}; this process runs unprofiled\n".format(os.getpid(), text))


if sys.version_info >= (3, 11) and "RHEOSTAT_CONFIG" in os.environ:
    _attach_later()
_run_the_one_we_hide(os.path.dirname(os.path.abspath(__file__)))
