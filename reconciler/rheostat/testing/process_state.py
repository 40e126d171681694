"""State of the whole process, which belongs to the application."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


def process_state() -> Mapping[str, Any]:
    """The application's settings of this process now, by name."""
    root = logging.getLogger()
    return {
        **{f"the handler of {each.name}": _handler(each) for each in signal.Signals},
        "the root logger's handlers": list(root.handlers),
        "the root logger's filters": list(root.filters),
        "the root logger's level": root.level,
        "logging.disable()": root.manager.disable,
        "sys.excepthook": sys.excepthook,
        "threading.excepthook": threading.excepthook,
        "sys.unraisablehook": sys.unraisablehook,
        "sys.stdout": sys.stdout,
        "sys.stderr": sys.stderr,
        "sys.gettrace()": sys.gettrace(),
        "sys.getprofile()": sys.getprofile(),
        "sys.getswitchinterval()": sys.getswitchinterval(),
        "sys.getrecursionlimit()": sys.getrecursionlimit(),
        "os.getcwd()": os.getcwd(),
        "os.environ": dict(os.environ),
    }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of what is no longer as it was."""
    return [name for name, value in before.items() if after[name] != value]


def _handler(number: signal.Signals) -> object:
    # Some numbers have a name and no handler.
    with suppress(OSError, ValueError):
        return signal.getsignal(number)
    return None
