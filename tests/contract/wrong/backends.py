"""Backends that each do one thing wrong. `caught_by` names the check that finds it, `told` is in what that says."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from contract.right import SESSION, RightBackend, RightOptions
from rheostat.plugins import FilePath, Health, Identity, Parameter, PermanentError, TemporaryError, Value

Settings = Mapping[str, Value]

FOR_LONG = 4.0
"""Seconds; more than any wait of the checks that are run here."""


class LacksStop:
    caught_by = "test_it_has_the_members_of_the_protocol"
    told = "it has no stop"
    Options: ClassVar[type] = RightOptions
    parameters: ClassVar[Mapping[str, Parameter] | None] = None

    def __init__(self, options: RightOptions, identity: Identity) -> None: ...

    def start(self, settings: Settings) -> None: ...


@dataclass
class MutableOptions:
    path: FilePath


class HasMutableOptions(RightBackend):
    caught_by = "test_its_options_are_a_frozen_dataclass"
    told = "expected a class under @dataclass(frozen=True, kw_only=True)"
    Options: ClassVar[type] = MutableOptions


class DefaultsBeyondItsLimits(RightBackend):
    caught_by = "test_its_parameters_are_sound"
    told = "its default 5000 is not within 1 to 1000"
    parameters: ClassVar[Mapping[str, Parameter] | None] = {"rate": Parameter(int, 5000, min=1, max=1000)}


class DefaultsToAnotherType(RightBackend):
    caught_by = "test_its_parameters_are_sound"
    told = "its default 1 is no bool"
    parameters: ClassVar[Mapping[str, Parameter] | None] = {"memory": Parameter(bool, 1)}


class BeginsInTheConstructor(RightBackend):
    caught_by = "test_building_it_does_nothing"
    told = "building the backend began a session"

    def __init__(self, options: RightOptions, identity: Identity) -> None:
        super().__init__(options, identity)
        self.begin()


class ConnectsInTheConstructor(RightBackend):
    caught_by = "test_building_it_does_nothing"
    told = "1 more open files or sockets"

    def __init__(self, options: RightOptions, identity: Identity) -> None:
        super().__init__(options, identity)
        self.file = open("/dev/null")  # noqa: SIM115  # closed by stop

    def stop(self) -> None:
        self.file.close()
        super().stop()


class OnlySaysThatItStarts(RightBackend):
    caught_by = "test_start_starts"
    told = "after start() is_profiling() is still False"

    def begin(self) -> None: ...


class GivesWhetherItStarted(RightBackend):
    caught_by = "test_start_gives_nothing"
    told = "start() gave True"

    def start(self, settings: Settings) -> Any:
        super().start(settings)
        return True


class NeedsEverySetting(RightBackend):
    caught_by = "test_start_takes_what_is_configured"
    told = "start() raised KeyError: 'rate'"

    def start(self, settings: Settings) -> None:
        assert settings["rate"]
        super().start(settings)


class TakesFromTheSettings(RightBackend):
    caught_by = "test_settings_are_left_as_they_are"
    told = "expected them unchanged"

    def start(self, settings: Any) -> None:
        settings.pop("mode")
        super().start(settings)


class WritesIntoTheSettings(RightBackend):
    caught_by = "test_settings_may_be_read_only"
    told = "start() raised TypeError"

    def start(self, settings: Any) -> None:
        settings["started"] = True
        super().start(settings)


class NeverStops(RightBackend):
    caught_by = "test_stop_stops"
    told = "after stop() is_profiling() is still True"

    def stop(self) -> None: ...


class RaisesAtASecondStop(RightBackend):
    caught_by = "test_stop_may_come_twice"
    told = "stop() raised AttributeError"
    began = False

    def begin(self) -> None:
        super().begin()
        self.began = True

    def stop(self) -> None:
        thread: Any = self.thread
        self.ended.set()
        if self.began:
            thread.join()
        self.thread = None


class HasToRunToStop(RightBackend):
    caught_by = "test_stop_may_come_first"
    told = "stop() raised RuntimeError: no session"

    def stop(self) -> None:
        if self.thread is None:
            raise RuntimeError("no session")
        super().stop()


class StartsOnlyOnce(RightBackend):
    caught_by = "test_it_can_start_again"
    told = "start() raised PermanentError: it was started before"
    began = False

    def check(self) -> None:
        if self.began:
            raise PermanentError("it was started before")
        self.began = True


class StartsOnceInAProcess(RightBackend):
    caught_by = "test_another_can_start_after_it"
    told = "start() raised PermanentError: another was started before"
    first: ClassVar[list[RightBackend]] = []

    def check(self) -> None:
        self.first.append(self)
        if self.first[0] is not self:
            raise PermanentError("another was started before")


class PromisesTooMuch(RightBackend):
    caught_by = "test_every_extreme_can_be_started"
    told = "with rate=1000 start() raised PermanentError: too fast"

    def check(self) -> None:
        if self.tuned["rate"] == 1000:
            raise PermanentError("too fast")


class LeaksAFile(RightBackend):
    caught_by = "test_many_sessions_leave_nothing"
    told = "after ten sessions, 10 more open files or sockets are left"
    files: ClassVar[list[IO[str]]] = []

    def begin(self) -> None:
        super().begin()
        self.files.append(open("/dev/null"))  # noqa: SIM115  # it is the leak


class LeaksAThread(RightBackend):
    caught_by = "test_many_sessions_leave_nothing"
    told = "more Python threads (leaked"

    def stop(self) -> None:
        super().stop()
        threading.Thread(target=threading.Event().wait, args=(FOR_LONG,), name="leaked", daemon=True).start()


class GivesFalseForFailure(RightBackend):
    caught_by = "test_a_failed_start_raises_backend_error"
    told = "start() returned though it was made to fail"

    def start(self, settings: Settings) -> Any:
        try:
            super().start(settings)
        except TemporaryError:
            return False


class RaisesWhatItsAgentRaises(RightBackend):
    caught_by = "test_a_failed_start_raises_backend_error"
    told = "start() raised OSError: no such device though it was made to fail"

    def check(self) -> None:
        if self.path.exists():
            raise OSError("no such device")


class FailsWithoutAWord(RightBackend):
    caught_by = "test_a_failed_start_says_why"
    told = "start() failed with the text ''"

    def check(self) -> None:
        if self.path.exists():
            raise TemporaryError


class FailsWithAddresses(RightBackend):
    caught_by = "test_a_failed_start_says_why"
    told = "expected no addresses of objects"

    def check(self) -> None:
        if self.path.exists():
            raise TemporaryError(f"{object()} forbids it")


class KeepsRunningAfterAFailedStart(RightBackend):
    caught_by = "test_a_failed_start_leaves_nothing"
    told = "after a start() that failed is_profiling() is still True"

    def check(self) -> None:
        self.begin()
        super().check()
        self.stop()


class LeaksAFileWhenItFails(RightBackend):
    caught_by = "test_a_failed_start_leaves_nothing"
    told = "after starts that failed, 3 more open files or sockets are left"
    files: ClassVar[list[IO[str]]] = []

    def check(self) -> None:
        self.files.append(open("/dev/null"))  # noqa: SIM115  # it is the leak
        super().check()


class CannotBeStoppedAfterAFailure(RightBackend):
    caught_by = "test_a_failed_start_can_be_stopped"
    told = "stop() raised RuntimeError: it has failed"
    has_failed = False

    def check(self) -> None:
        self.has_failed = self.path.exists()
        super().check()

    def stop(self) -> None:
        if self.has_failed:
            raise RuntimeError("it has failed")
        super().stop()


class NeverStartsAfterAFailure(RightBackend):
    caught_by = "test_after_a_failed_start_it_can_start"
    told = "start() raised TemporaryError: it has failed before"
    has_failed = False

    def check(self) -> None:
        if self.has_failed:
            raise TemporaryError("it has failed before")
        self.has_failed = self.path.exists()
        super().check()


class SwallowsInterrupts(RightBackend):
    caught_by = "test_an_interrupted_start_leaves_nothing"
    told = "a KeyboardInterrupt hit start(), which raised TemporaryError"

    def start(self, settings: Settings) -> None:
        try:
            super().start(settings)
        except BaseException:
            raise TemporaryError("something went wrong") from None


class KeepsRunningWhenInterrupted(RightBackend):
    caught_by = "test_an_interrupted_start_leaves_nothing"
    told = "after a start() that was interrupted is_profiling() is still True"

    def start(self, settings: Settings) -> None:
        self.begin()
        self.tuned = dict(settings)


class HopesToBeHealthy(RightBackend):
    caught_by = "test_its_health_is_told_by_evidence"
    told = "without a session probe() gave Health(status='healthy'"

    def probe(self) -> Health:
        return Health("healthy")


class NeverSeesItsSession(RightBackend):
    caught_by = "test_its_health_is_told_by_evidence"
    told = "expected healthy, as is_profiling() is True"

    def probe(self) -> Health:
        return Health("failed")


class InheritsAcrossForks(RightBackend):
    caught_by = "test_a_forked_child_has_its_own"
    told = "in the forked child: start raised TemporaryError: another session runs"
    running: ClassVar[list[RightBackend]] = []

    def check(self) -> None:
        if self.running:
            raise TemporaryError("another session runs")
        self.running.append(self)


class HoldsUpTheExit(RightBackend):
    caught_by = "test_a_process_ends_with_a_session"
    told = "make your threads daemons, and bound what you do at exit"

    def begin(self) -> None:
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.ended.wait, name=SESSION, daemon=False)
        self.thread.start()


class LeavesItsExceptionHook(RightBackend):
    caught_by = "test_it_leaves_the_process_alone"
    told = "it has changed threading.excepthook"

    def begin(self) -> None:
        super().begin()
        threading.excepthook = lambda _: None


class PrintsThatItRuns(RightBackend):
    caught_by = "test_it_prints_nothing"
    told = "it wrote 'profiling at 100 Hz"

    def begin(self) -> None:
        super().begin()
        print(f"profiling at {self.tuned['rate']} Hz", flush=True)
