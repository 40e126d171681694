"""Flag sources that each do one thing wrong. `caught_by` names the check that finds it, `told` is in what that says."""

import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from contract.right import Found, RightOptions, RightSource, Unpolled
from rheostat.plugins import FilePath, Identity, NotReady, Reading, SourceUnavailable

Changed = Callable[[], None]
Wanted = Mapping[str, type]

FOR_LONG = 4.0
"""Seconds; more than any wait of the checks that are run here."""


class LacksPollInterval(Unpolled):
    caught_by = "test_it_has_the_members_of_the_protocol"
    told = "LacksPollInterval is no rheostat.plugins.FlagSource"


@dataclass
class MutableOptions:
    path: FilePath


class HasMutableOptions(RightSource):
    caught_by = "test_its_options_are_a_frozen_dataclass"
    told = "expected a class under @dataclass(frozen=True, kw_only=True)"
    Options: ClassVar[type] = MutableOptions


class PollsWithoutPause(RightSource):
    caught_by = "test_poll_interval_is_seconds_or_none"
    told = "poll_interval is 0"

    @property
    def poll_interval(self) -> float | None:
        return 0


class StartsInTheConstructor(RightSource):
    caught_by = "test_building_it_does_nothing"
    told = "1 more Python threads (right-source)"

    def __init__(self, options: RightOptions, identity: Identity) -> None:
        super().__init__(options, identity)
        super().open(lambda: None)

    def open(self, changed: Changed) -> None:
        self.changed = changed


class TurnsTrueIntoOne(RightSource):
    caught_by = "test_values_come_as_the_product_has_them"
    told = "contract_0: found 1, expected True"

    def reading(self, flags: Mapping[str, object]) -> Reading:
        return Reading({flag: int(value) if type(value) is bool else value for flag, value in flags.items()})


class FillsInDefaults(RightSource):
    caught_by = "test_a_flag_that_is_not_defined_is_absent"
    told = "for flags that nobody has defined"

    def read(self, wanted: Wanted) -> Reading:
        return Reading({**{flag: kind() for flag, kind in wanted.items()}, **super().read(wanted).values})


class KnowsWantedFlagsOnly(RightSource):
    caught_by = "test_the_flags_that_it_knows_are_those_there_are"
    told = "known_flags() gave ['contract_on', 'contract_misspelt']"

    def read(self, wanted: Wanted) -> Reading:
        self.wanted = wanted
        return super().read(wanted)

    def known_flags(self) -> Iterable[str]:
        return self.wanted


class RemembersFlags(RightSource):
    caught_by = "test_a_flag_that_is_taken_away_is_absent"
    told = "contract_rate to be absent"

    def reading(self, flags: Mapping[str, object]) -> Reading:
        return Reading({**(self.found.values if isinstance(self.found, Reading) else {}), **flags})


class FailsForOneBadFlag(RightSource):
    caught_by = "test_an_odd_flag_spoils_no_other"
    told = "whatever others are"

    def reading(self, flags: Mapping[str, object]) -> Reading:
        if None in flags.values():
            raise ValueError("null")
        return Reading(flags)


class GivesReasonsThatAreNoTexts(RightSource):
    caught_by = "test_answers_are_made_of_plain_parts"
    told = "expected texts by flag"

    def reading(self, flags: Mapping[str, object]) -> Reading:
        reasons: Mapping[str, Any] = dict.fromkeys(flags, 7)
        return Reading(flags, reasons)


class Flag(str):  # noqa: SLOT000
    """A text of the product's client's own."""


class GivesObjectsOfItsClient(RightSource):
    caught_by = "test_answers_are_made_of_plain_parts"
    told = "expected texts as keys, and bool, int, float, str or None"

    def reading(self, flags: Mapping[str, object]) -> Reading:
        return Reading({Flag(flag): value for flag, value in flags.items()})


class CallsOnlyOnce(RightSource):
    caught_by = "test_a_change_is_noticed"
    told = "changed() was called 1 times, poll_interval is None"

    def call(self) -> None:
        super().call()
        self.changed = lambda: None


class ComparesByEquality(RightSource):
    caught_by = "test_true_and_one_are_a_change"
    told = "contract_on to be 1"

    def is_same(self, found: Found) -> bool:
        return found == self.found


class CountsItsReads(RightSource):
    caught_by = "test_without_news_it_gives_the_same_reading"
    told = "expected the same while nothing has changed"
    reads = 0

    def read(self, wanted: Wanted) -> Reading:
        self.reads += 1
        return super().read(wanted)._replace(reasons={"contract_on": f"read {self.reads}"})


class CallsAtEachLook(RightSource):
    caught_by = "test_without_news_it_does_not_call"
    told = "though nothing had changed"

    def is_same(self, found: Found) -> bool:
        return False


class CallsUnderItsLock(RightSource):
    caught_by = "test_it_calls_outside_of_its_locks"
    told = "let go of your locks before you call"

    def call(self) -> None:
        with self.lock:
            super().call()


class ConnectsInOpen(RightSource):
    caught_by = "test_open_is_prompt_while_the_product_is_down"
    told = "open() has not returned for"

    def open(self, changed: Changed) -> None:
        connected = threading.Event()
        super().open(lambda: connected.set() if isinstance(self.found, Reading) else None)
        connected.wait(FOR_LONG)


class AsksInRead(RightSource):
    caught_by = "test_read_is_prompt_while_the_product_is_down"
    told = "read() has not returned for"

    def read(self, wanted: Wanted) -> Reading:
        if isinstance(self.found, str):
            self.closed.wait(FOR_LONG)
        return super().read(wanted)


class BeginsWithNoFlags(RightSource):
    caught_by = "test_it_invents_nothing_before_it_knows"
    told = "though the product has never answered"

    def read(self, wanted: Wanted) -> Reading:
        return self.found if isinstance(self.found, Reading) else Reading({})


class IsAlwaysAboutToBeReady(RightSource):
    caught_by = "test_it_is_not_about_to_be_ready_for_ever"
    told = "expected SourceUnavailable instead of NotReady"

    def read(self, wanted: Wanted) -> Reading:
        if isinstance(self.found, str):
            raise NotReady(self.found)
        return super().read(wanted)


class AnswersDefaultsWhileDown(RightSource):
    caught_by = "test_an_outage_is_told"
    told = "a flag that is absent counts as undefined"

    def look(self) -> Found:
        found = super().look()
        return found if isinstance(found, Reading) else Reading({})


class KeepsOldFlagsWhileDown(RightSource):
    caught_by = "test_an_outage_is_told"
    told = "expected SourceUnavailable, or a reading with stale_since, as the product is down"

    def look(self) -> Found:
        found = super().look()
        return self.found if isinstance(found, str) and self.found is not None else found


class GivesFalseForDown(RightSource):
    caught_by = "test_an_outage_is_told"
    told = "read() gave False; expected a rheostat.plugins.Reading"

    def read(self, wanted: Wanted) -> Any:
        return self.found if isinstance(self.found, Reading) else False


class RaisesWhatItsClientRaises(RightSource):
    caught_by = "test_an_outage_is_told"
    told = "read() raised KeyError: 'flags'; expected a Reading, or SourceUnavailable"

    def read(self, wanted: Wanted) -> Reading:
        if isinstance(self.found, str):
            raise KeyError("flags")
        return super().read(wanted)


class ComplainsAtLength(RightSource):
    caught_by = "test_an_outage_has_one_steady_line"
    told = "expected one line of at most"

    def reason(self, error: Exception) -> str:
        return f"Traceback (most recent call last):\n  {error!r}"


class ComplainsWithAddresses(RightSource):
    caught_by = "test_an_outage_has_one_steady_line"
    told = "expected no addresses of objects"

    def reason(self, error: Exception) -> str:
        return f"{object()}: cannot be read"


class CountsItsComplaints(RightSource):
    caught_by = "test_an_outage_has_one_steady_line"
    told = "leave out times and counts"
    complaints = 0

    def read(self, wanted: Wanted) -> Reading:
        try:
            return super().read(wanted)
        except SourceUnavailable as unavailable:
            self.complaints += 1
            raise SourceUnavailable(f"{unavailable.reason} ({self.complaints} times)") from None


class GivesUp(RightSource):
    caught_by = "test_it_recovers"
    told = "still raises SourceUnavailable"

    def look(self) -> Found:
        return self.found if isinstance(self.found, str) else super().look()


class NeedsTheProductToBegin(RightSource):
    caught_by = "test_it_comes_up_with_the_product"
    told = "still raises SourceUnavailable"
    began = False

    def look(self) -> Found:
        self.began = self.began or (self.found is None and self.path.exists())
        return super().look() if self.began else "the product was down at first"


class SwallowsInterrupts(RightSource):
    caught_by = "test_it_swallows_no_interrupt"
    told = "read() swallowed a KeyboardInterrupt that came at"

    def read(self, wanted: Wanted) -> Reading:
        try:
            found = self.found
            assert isinstance(found, Reading)
            return found
        except BaseException:
            raise SourceUnavailable("something went wrong") from None


class HasToBeOpenToClose(RightSource):
    caught_by = "test_it_can_be_closed_without_open"
    told = "close() raised AttributeError"

    def close(self) -> None:
        self.closed.set()
        thread: Any = self.thread
        thread.join()


class RaisesAtASecondClose(RightSource):
    caught_by = "test_it_can_be_closed_twice"
    told = "close() raised RuntimeError: it is closed already"

    def close(self) -> None:
        if self.closed.is_set():
            raise RuntimeError("it is closed already")
        super().close()


class SaysGoodbye(RightSource):
    caught_by = "test_close_is_prompt_while_the_product_is_down"
    told = "close() has not returned for"

    def close(self) -> None:
        super().close()
        if isinstance(self.found, str):
            threading.Event().wait(FOR_LONG)


class RaisesAfterClose(RightSource):
    caught_by = "test_after_close_read_is_harmless"
    told = "read() raised ValueError: I/O operation on closed file"

    def read(self, wanted: Wanted) -> Reading:
        if self.closed.is_set():
            raise ValueError("I/O operation on closed file")
        return super().read(wanted)


class CallsAfterClose(RightSource):
    caught_by = "test_after_close_it_does_not_call"
    told = "times after close(); expected none"

    def close(self) -> None:
        """It only ends when a pytest run does."""


class LeaksAThread(RightSource):
    caught_by = "test_nothing_is_left_after_close"
    told = "more Python threads (leaked"

    def close(self) -> None:
        super().close()
        threading.Thread(target=threading.Event().wait, args=(FOR_LONG,), name="leaked", daemon=True).start()


class LeaksAFileNowAndThen(RightSource):
    caught_by = "test_many_lives_leave_nothing"
    told = "after ten sources were opened and closed, 2 more open files or sockets are left"
    lives = 0
    files: ClassVar[list[IO[str]]] = []

    def open(self, changed: Changed) -> None:
        super().open(changed)
        type(self).lives += 1
        if self.lives % 5 == 0:
            self.files.append(open("/dev/null"))  # noqa: SIM115  # it is the leak


class EndsAllWhenOneEnds(RightSource):
    caught_by = "test_two_live_side_by_side"
    told = "still gives {'contract_on': False}"
    ended = threading.Event()

    def open(self, changed: Changed) -> None:
        self.closed = self.ended
        super().open(changed)


class InheritsAcrossForks(RightSource):
    caught_by = "test_a_forked_child_has_its_own"
    told = "that the parent and the forked child, each by its own source, read"
    only: ClassVar[list["InheritsAcrossForks"]] = []

    def open(self, changed: Changed) -> None:
        if not self.only:
            self.only.append(self)
            super().open(changed)

    def read(self, wanted: Wanted) -> Reading:
        return super(InheritsAcrossForks, self.only[0]).read(wanted)


class HoldsUpTheExit(RightSource):
    caught_by = "test_a_process_ends_with_it_open"
    told = "make your threads daemons, and wait for nothing at exit"

    def open(self, changed: Changed) -> None:
        super().open(changed)
        threading.Thread(target=self.closed.wait, name="never-ends", daemon=False).start()


class FlushesAtExit(RightSource):
    caught_by = "test_a_process_ends_while_the_product_is_down"
    told = "make your threads daemons, and wait for nothing at exit"

    def open(self, changed: Changed) -> None:
        super().open(changed)
        atexit.register(self.flush)

    def flush(self) -> None:
        if isinstance(self.found, str):
            threading.Event().wait()


class ConfiguresLogging(RightSource):
    caught_by = "test_it_leaves_the_process_alone"
    told = "it has changed the root logger's handlers"

    def open(self, changed: Changed) -> None:
        super().open(changed)
        logging.basicConfig()


class PrintsItsTrouble(RightSource):
    caught_by = "test_it_prints_nothing"
    told = "to stdout or stderr; expected nothing"

    def reason(self, error: Exception) -> str:
        print("trouble", flush=True)
        return super().reason(error)
