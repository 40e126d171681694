"""The conformance kit of backends: a test class that an implementation subclasses."""

import inspect
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

import pytest

from rheostat._contract.text import describe
from rheostat.plugins import Backend, BackendError, Parameter, Probing, Value

from .backend_under_test import BackendUnderTest
from .interrupt import Interrupting
from .kit import Kit
from .own_process import OwnProcess, Report
from .plugin_under_test import has_sound_options
from .resources import Resources, nothing_is_left
from .wording import what_is_wrong_with

_LOOK_AGAIN: Final = 0.01
_TYPES: Final = (bool, int, float, str)

Settings = Mapping[str, Value]


class BackendContract(Kit):
    """Subclass it as ``class TestMine(BackendContract)`` and say what the profiler does; each check is a test.

    `section` is asked anew in each test, after the fixtures of the test class. Everything is done as Rheostat does it:
    the section is decoded by the real configuration, and each call comes from a thread of its own, one at a time.
    `is_profiling` is also asked in child processes, on an object of the test class that had no fixtures: there the
    file with the test class is imported by its path.
    """

    patience: ClassVar[float] = 10.0
    """Seconds after which something that is waited for has failed to come; also the most for `start` and `stop`."""
    prompt: ClassVar[float] = 1.0
    """The most seconds that `probe` may take; a process has three times that to end."""
    settings: ClassVar[Settings] = {}
    """Given to `start`, beside the defaults of `parameters`."""
    can_fail: ClassVar[bool] = True
    """Whether there is a way to make `start` fail. If not, the checks of that are skipped, and say so."""
    _key = "backend"

    # What the profiler does

    def is_profiling(self) -> bool:
        """Whether a session runs in this process, by evidence from outside of the backend."""
        raise NotImplementedError(
            "is_profiling() is to tell by outside evidence whether a session runs in this process"
        )

    def break_down(self) -> None:
        """Let the next start fail."""
        raise NotImplementedError("break_down() is to make the next start fail; or set can_fail = False")

    def mend(self) -> None:
        """Let starts work again."""
        raise NotImplementedError("mend() is to make starts work again")

    # How the checks go about it

    def _built(self) -> BackendUnderTest:
        return self._stack.enter_context(BackendUnderTest(self._config().backend, self.patience, self.prompt))

    @property
    def _parameters(self) -> Mapping[str, Parameter]:
        return self._config().backend_class.parameters or {}

    def _given(self, **others: Value) -> Settings:
        return {**{name: each.default for name, each in self._parameters.items()}, **self.settings, **others}

    def _running(self) -> BackendUnderTest:
        backend = self._built()
        backend.start(self._given())
        self._until_profiling(True, "after start()")
        return backend

    def _until_profiling(self, expected: bool, when: str) -> None:
        deadline = time.monotonic() + self.patience
        while bool(self.is_profiling()) is not expected:
            assert time.monotonic() < deadline, (
                f"{when} is_profiling() is still {not expected} after {self.patience:g} s; expected {expected}"
            )
            time.sleep(_LOOK_AGAIN)

    def _failed(self) -> tuple[BackendUnderTest, BaseException | None]:
        """A backend whose start was made to fail."""
        if not self.can_fail:
            pytest.skip("can_fail is False: there is no way to make a start of this backend fail")
        self.break_down()
        backend = self._built()
        return backend, backend.failure(self._given())

    def _own_process(self) -> OwnProcess:
        cls = type(self)
        evidence = {"file": inspect.getfile(cls), "module": cls.__module__, "name": cls.__qualname__}
        return self._stack.enter_context(
            OwnProcess(
                "backend",
                self._config_file(),
                self.patience,
                self.imports,
                settings=self._given(),
                evidence=evidence,
            )
        )

    def _done(self, process: OwnProcess, who: str, what: str, profiling: bool | None = None) -> None:
        """Wait for what was told, and for how it is to go."""
        report = process.until(
            lambda report: report.get("who") == who and report.get("did") == what, f"{what} in the {who}"
        )
        assert (profiling, None) == (report.get("profiling"), report.get("raised")), (
            f"in the {who}: {_told(report)}; expected {what} {'to return' if profiling is None else profiling}"
        )

    def _tell(self, process: OwnProcess, what: str, profiling: bool | None = None) -> None:
        process.tell(what)
        self._done(process, "parent", what, profiling)

    # The protocol

    def test_it_has_the_members_of_the_protocol(self) -> None:
        """Options, parameters, start and stop are there."""
        backend = self._config().backend()
        assert isinstance(backend, Backend), (
            f"{type(backend).__name__} is no rheostat.plugins.Backend; expected Options, parameters, start and stop"
        )

    def test_its_options_are_a_frozen_dataclass(self) -> None:
        """Options are a frozen, keyword-only dataclass, or a plain dict."""
        cls = self._config().backend_class
        assert has_sound_options(cls), (
            f"Options is {cls.Options!r}; expected a class under @dataclass(frozen=True, kw_only=True), or dict"
        )

    def test_its_parameters_are_sound(self) -> None:
        """Each parameter's default is of its type and within its own limits, and the limits make sense."""
        wrong = {name: why for name, each in self._parameters.items() if (why := what_is_wrong(each))}
        assert not wrong, f"parameters: {wrong}; expected defaults that Rheostat may give to start()"

    def test_building_it_does_nothing(self) -> None:
        """The constructor only remembers: it starts no session and no thread, and opens no file."""
        config = self._config()
        before = Resources.now()
        backend = config.backend()
        more = Resources.now().more_than(before)
        self._stack.callback(backend.stop)
        assert not self.is_profiling(), "building the backend began a session; expected that of start() alone"
        assert not more, f"building the backend brought {more}; expected none before start(): `check` builds it too"

    # Sessions

    def test_start_starts(self) -> None:
        """After start() a session runs."""
        assert not self.is_profiling(), "is_profiling() is True before any start; expected a process without a session"
        self._running()

    def test_start_gives_nothing(self) -> None:
        """start() gives None: that it failed is told by BackendError, not by a result."""
        given = self._built().start(self._given())
        assert given is None, f"start() gave {given!r}; expected None, and BackendError to be raised where it fails"

    def test_start_takes_what_is_configured(self) -> None:
        """Settings that the configuration leaves out have the backend's own defaults."""
        backend = self._built()
        backend.start(self.settings)
        self._until_profiling(True, f"after start({dict(self.settings)})")

    def test_settings_are_left_as_they_are(self) -> None:
        """start() changes nothing in the mapping that it is given."""
        settings = dict(self._given())
        before = dict(settings)
        self._built().start(settings)
        assert settings == before, f"start() made {settings} of {before}; expected them unchanged: copy them"

    def test_settings_may_be_read_only(self) -> None:
        """start() takes any mapping, as Rheostat gives a read-only one."""
        self._built().start(MappingProxyType(dict(self._given())))

    def test_stop_stops(self) -> None:
        """After stop() no session runs."""
        backend = self._running()
        backend.stop()
        self._until_profiling(False, "after stop()")

    def test_stop_may_come_twice(self) -> None:
        """A second stop() does nothing."""
        backend = self._running()
        backend.stop()
        backend.stop()

    def test_stop_may_come_first(self) -> None:
        """Without a session stop() does nothing."""
        self._built().stop()

    def test_it_can_start_again(self) -> None:
        """After stop() the same object can start and stop once more."""
        backend = self._running()
        backend.stop()
        backend.start(self._given())
        self._until_profiling(True, "after stop() and another start()")
        backend.stop()
        self._until_profiling(False, "after the second stop()")

    def test_another_can_start_after_it(self) -> None:
        """Once one object has stopped, a new one can start."""
        self._running().stop()
        self._until_profiling(False, "after stop()")
        self._running()

    def test_every_extreme_can_be_started(self) -> None:
        """With the least and the greatest value of each parameter, and each of its choices, a session runs."""
        for name, parameter in self._parameters.items():
            for value in extremes(parameter):
                backend = self._built()
                failure = backend.failure(self._given(**{name: value}))
                assert failure is None, (
                    f"with {name}={value!r} start() {_ending(failure)}; expected a session: "
                    f"{name} says that it may be {value!r}"
                )
                self._until_profiling(True, f"after start() with {name}={value!r}")
                backend.stop()
                self._until_profiling(False, f"after stop() with {name}={value!r}")

    def test_many_sessions_leave_nothing(self) -> None:
        """Ten sessions, one after the other, leave no thread and no file."""
        self._live_once()
        with nothing_is_left("after ten sessions", self.patience):
            for _ in range(10):
                self._live_once()

    def _live_once(self) -> None:
        with BackendUnderTest(self._config().backend, self.patience, self.prompt) as backend:
            backend.start(self._given())
            backend.stop()

    # Failures

    def test_a_failed_start_raises_backend_error(self) -> None:
        """A start that fails raises TemporaryError or PermanentError, not something else, and does not return."""
        _, failure = self._failed()
        assert isinstance(failure, BackendError), (
            f"start() {_ending(failure)} though it was made to fail; TemporaryError if trying again may "
            "help, else PermanentError"
        )

    def test_a_failed_start_says_why(self) -> None:
        """The error has one line for people, without addresses of objects."""
        _, failure = self._failed()
        text = str(failure or "")
        wrong = what_is_wrong_with(text)
        assert not wrong, f"start() failed with the text {text!r}; expected {wrong}"

    def test_a_failed_start_leaves_nothing(self) -> None:
        """After a start that failed no session, thread or file is left."""
        if self.can_fail:
            # What is imported at the first start stays.
            self._live_once()
        backend, _ = self._failed()
        self._until_profiling(False, "after a start() that failed")
        with nothing_is_left("after starts that failed", self.patience):
            for _ in range(3):
                backend.failure(self._given())
        self._until_profiling(False, "after more starts that failed")

    def test_a_failed_start_can_be_stopped(self) -> None:
        """After a start that failed stop() does nothing."""
        backend, _ = self._failed()
        backend.stop()

    def test_after_a_failed_start_it_can_start(self) -> None:
        """Once the reason is gone, the same object starts, and stops."""
        backend, _ = self._failed()
        self.mend()
        backend.start(self._given())
        self._until_profiling(True, "after a start() that failed and one that did not")
        backend.stop()
        self._until_profiling(False, "after stop()")

    def test_an_interrupted_start_leaves_nothing(self) -> None:
        """A KeyboardInterrupt within start() comes out of it, and no session is left."""
        backend = self._built()
        settings = Interrupting()
        failure = backend.failure(settings)
        if not settings.interrupted:
            pytest.skip("start() does not look at its settings, so nothing has interrupted it")
        assert isinstance(failure, KeyboardInterrupt), (
            f"a KeyboardInterrupt hit start(), which {_ending(failure)}; expected it to come out: catch Exception, not "
            "BaseException"
        )
        self._until_profiling(False, "after a start() that was interrupted")

    # Health

    def test_its_health_is_told_by_evidence(self) -> None:
        """A backend with probe() is not failed while a session runs, and not healthy without one."""
        backend = self._built()
        if not isinstance(self._config().backend(), Probing):
            pytest.skip("it has no probe(): its sessions are taken for healthy")
        before = backend.probe()
        assert before.status != "healthy", f"without a session probe() gave {before}; expected failed or unknown"
        backend.start(self._given())
        self._until_profiling(True, "after start()")
        deadline = time.monotonic() + self.patience
        while (found := backend.probe()).status == "failed":
            assert time.monotonic() < deadline, (
                f"{self.patience:g} s after start() probe() gives {found}; expected healthy, as is_profiling() is True"
            )
            time.sleep(_LOOK_AGAIN)
        backend.stop()
        self._until_profiling(False, "after stop()")
        after = backend.probe()
        assert after.status != "healthy", f"after stop() probe() gave {after}; expected failed or unknown"

    # The process

    def test_a_forked_child_has_its_own(self) -> None:
        """A forked child has no session; a new object starts and stops one there, and the parent's goes on."""
        process = self._own_process()
        self._tell(process, "start")
        self._tell(process, "look", profiling=True)
        process.tell("fork")
        self._done(process, "forked child", "look", profiling=False)
        self._done(process, "forked child", "start")
        self._done(process, "forked child", "look", profiling=True)
        self._done(process, "forked child", "stop")
        self._done(process, "forked child", "look", profiling=False)
        self._tell(process, "look", profiling=True)
        self._tell(process, "stop")
        self._tell(process, "look", profiling=False)

    def test_a_process_ends_with_a_session(self) -> None:
        """A process that ends without stop() is not held up."""
        process = self._own_process()
        self._tell(process, "start")
        self._tell(process, "leave")
        assert process.ended(3 * self.prompt) is not None, (
            f"the process has not ended {3 * self.prompt:g} s after its main thread; expected it to: make your threads "
            "daemons, and bound what you do at exit"
        )

    def test_it_leaves_the_process_alone(self) -> None:
        """After a session signal handlers, the root logger, hooks, environment and streams are as they were."""
        process = self._own_process()
        for what in ("start", "stop", "account"):
            process.tell(what)
        report = process.until(lambda report: "changed" in report, "an account of what has changed")
        assert not report["changed"], (
            f"it has changed {', '.join(report['changed'])}; expected it to leave alone what is the application's"
        )

    def test_it_prints_nothing(self) -> None:
        """A session writes to neither stdout nor stderr."""
        process = self._own_process()
        for what in ("start", "stop"):
            process.tell(what)
        process.until(lambda report: report["did"] == "stop", "stop()")
        printed = process.printed()
        assert not printed, f"it wrote {printed!r} to stdout or stderr; expected nothing: log, or raise BackendError"


def extremes(parameter: Parameter) -> list[Value]:
    """The values that it may have at its limits."""
    if parameter.choices is not None:
        return list(parameter.choices)
    if parameter.type is bool:
        return [False, True]
    return [bound for bound in (parameter.min, parameter.max) if bound is not None]


def what_is_wrong(parameter: object) -> str:
    """Why it is no sound parameter; empty if it is one."""
    if not isinstance(parameter, Parameter):
        return f"{parameter!r} is no rheostat.plugins.Parameter"
    if parameter.type not in _TYPES:
        return f"its type is {parameter.type!r}, not bool, int, float or str"
    if type(parameter.default) is not parameter.type:
        return f"its default {parameter.default!r} is no {parameter.type.__name__}"
    if parameter.choices is not None and parameter.default not in parameter.choices:
        return f"its default {parameter.default!r} is not among its choices"
    numbers = [each for each in (parameter.min, parameter.default, parameter.max) if each is not None]
    if len(numbers) > 1 and numbers != sorted(numbers, key=float):
        return f"its default {parameter.default!r} is not within {parameter.min} to {parameter.max}"
    return ""


def _told(report: Report) -> str:
    if "raised" in report:
        return f"{report['did']} raised {report['raised']}"
    return f"{report['did']} gave {report.get('profiling')}"


def _ending(failure: BaseException | None) -> str:
    return "returned" if failure is None else f"raised {describe(failure)}"
