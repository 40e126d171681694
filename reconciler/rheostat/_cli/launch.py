"""``rheostat run``: become the service's command, with Rheostat in the Python processes below it."""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Final, Literal, NoReturn

from rheostat._config.config import Config, load_config
from rheostat._config.problem import ConfigError
from rheostat._contract.text import describe
from rheostat._core.processes import Processes
from rheostat._lifecycle.start import AlreadyRunning, govern
from rheostat._report.journal import Journal
from rheostat._report.sinks import LoggerSink, StderrSink

LogChoice = Literal["text", "json", "none"]

_BOOTSTRAP: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bootstrap")
_STDLIB: Final = os.path.dirname(os.__file__)
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
_INVALID: Final = 2


def run(
    command: Sequence[str],
    config: str,
    log: LogChoice,
    tags: Mapping[str, str],
    instance: str | None,
    *,
    strict: bool,
) -> NoReturn:
    """Exec the command: same pid, same signals. An invalid configuration leaves it unprofiled, unless `strict`.

    Ends with a shell's exit code (126, 127) if the command cannot be executed, with 2 for `strict`.
    """
    # Under --log none the host's logging has the records, but there is no host yet.
    journal = Journal(StderrSink("json" if log == "json" else "text"), time.monotonic)
    try:
        loaded = load_config(config, tags=tags, instance=instance)
    except ConfigError as error:
        if strict:
            journal.invalid(error.problems, "and with --strict the service is not started")
            sys.exit(_INVALID)
        journal.invalid(error.problems)
        _withdraw(os.environ)
    else:
        journal.secrets = loaded.secrets
        _prepare(os.environ, loaded, log, tags, instance)
        if not loaded.disabled:
            # For what is said where a process has not read the configuration yet, or cannot.
            os.environ["RHEOSTAT_WHO"] = json.dumps(journal.masked(loaded.who()))
    _restore_signals()
    for stream in (sys.stdout, sys.stderr):
        # Either may be closed, which is no reason not to run the service.
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    try:
        os.execvp(command[0], list(command))
    except (OSError, ValueError) as error:
        # A shell finds nothing under an empty name, or one with a NUL in it, either.
        missing = isinstance(error, FileNotFoundError | ValueError)
        print(f"rheostat: {command[0]}: {getattr(error, 'strerror', None) or 'command not found'}", file=sys.stderr)
        sys.exit(_NOT_FOUND if missing else _NOT_EXECUTABLE)


def _prepare(
    env: MutableMapping[str, str], config: Config, log: LogChoice, tags: Mapping[str, str], instance: str | None
) -> None:
    if config.disabled:
        _withdraw(env)
        return
    env["RHEOSTAT_CONFIG"] = config.path
    env["RHEOSTAT_LOG"] = log
    env["RHEOSTAT_TAGS"] = json.dumps(dict(tags))
    # Empty rather than absent: a launcher further up may have set it.
    env["RHEOSTAT_INSTANCE"] = instance or ""
    env.pop("RHEOSTAT_PROCESSES", None)
    if config.policy.processes._replace(of="all") != Processes():
        env["RHEOSTAT_PROCESSES"] = json.dumps(config.policy.processes)
    env["RHEOSTAT_START_AFTER"] = str(config.policy.start_after)
    env["RHEOSTAT_BOOTSTRAP"] = _BOOTSTRAP
    env["RHEOSTAT_SAID"] = mark = _mark(env)
    with suppress(OSError):  # Nobody is that process any more.
        os.unlink(mark)
    path = env.get("PYTHONPATH", "").split(os.pathsep)
    env["PYTHONPATH"] = os.pathsep.join([_BOOTSTRAP, *_withdrawn(path), *(path if path != [""] else ())])


def _withdrawn(path: Sequence[str]) -> Sequence[str]:
    """The folder of a launcher further up that has taken this process for the service, and itself off the path.

    OpenTelemetry's did so for years, lest it instrument what the service starts.
    """
    file = getattr(sys.modules.get("sitecustomize"), "__file__", None)
    folder = os.path.dirname(file) if file else ""
    # What PYTHONPATH names comes before the standard library; an environment's own sitecustomize does not.
    named = sys.path[: sys.path.index(_STDLIB)] if _STDLIB in sys.path else ()
    return [folder] if folder in named and folder not in path else []


def _mark(env: Mapping[str, str]) -> str:
    """The file that the first process of this command makes which has to say that it cannot be governed."""
    return f"{env.get('TMPDIR') or '/tmp'}/rheostat-{os.uname().nodename}-{os.getuid()}-{os.getpid()}"


def _withdraw(env: MutableMapping[str, str]) -> None:
    """This command is not to be governed, not even by a launcher further up."""
    for name in [each for each in env if each.startswith("RHEOSTAT_")]:
        del env[name]


def _restore_signals() -> None:
    """Python ignores these two, and what it execs would inherit that."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def attach(*, forked: bool = False) -> None:
    """Govern this process, maybe `forked` by one below the launcher, as the environment asks. Never raises."""
    log = os.environ.get("RHEOSTAT_LOG")
    sink = LoggerSink() if log == "none" else StderrSink("json" if log == "json" else "text")
    journal = Journal(sink, time.monotonic)
    try:
        journal.who = json.loads(os.environ.get("RHEOSTAT_WHO", "{}"))
        tags = json.loads(os.environ.get("RHEOSTAT_TAGS", "{}"))
        govern(
            os.environ["RHEOSTAT_CONFIG"],
            tags=tags,
            instance=os.environ.get("RHEOSTAT_INSTANCE") or None,
            observers=(),
            strict=False,
            journal=journal,
            forked=forked,
        )
    except AlreadyRunning as error:
        journal.say(logging.WARNING, "already_running", str(error))
    except BaseException as error:
        if not sys.is_finalizing():
            text = f"Rheostat could not start, the process runs unprofiled: {describe(error)}"
            journal.say(logging.ERROR, "start_failed", text)
