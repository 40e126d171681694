"""The conformance kit of flag sources: a test class that an implementation subclasses."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

import pytest

from rheostat._contract.values import Unreadable, read_as
from rheostat.plugins import FlagSource, KnowsFlags, NotReady, Reading

from .interrupt import swallowed_at
from .kit import Kit
from .own_process import OwnProcess, Report
from .plugin_under_test import has_sound_options
from .resources import Resources, nothing_is_left
from .source_under_test import Answer, SourceUnderTest, in_words, is_outage
from .wording import what_is_wrong_with

Flags = Mapping[str, object]

_QUIET: Final = 0.3
"""Seconds in which nothing is expected to happen."""
_BETWEEN_LOOKS: Final = 0.02
_PLAIN: Final = (bool, int, float, str, type(None), list, tuple, dict)


class FlagSourceContract(Kit):
    """Subclass it as ``class TestMine(FlagSourceContract)`` and say what the product does; each check is a test.

    `section` is used anew in each test, after the fixtures of the test class: give it a fresh product by an autouse
    fixture. Everything is done as Rheostat does it: the section is decoded by the real configuration, all calls come
    from one thread, and the source is read when it has called `changed`, each `poll_interval`, and at `retry_at`.
    """

    prompt: ClassVar[float] = 1.0
    """The most seconds that `open`, `read` and `close` may take, whatever the product does."""
    says: ClassVar[tuple[type, ...]] = (bool, int, float, str)
    """The types of value that the product knows. What is not among them is to come as a text: ``true``, ``97``."""
    odd: ClassVar[Sequence[object]] = (None, 10**30, "", "x" * 2000, [1, 2], {"a": 1})
    """Values that no setting can have, as far as the product can say them."""
    is_constant: ClassVar[bool] = False
    """The product never says anything else, and cannot fail: the checks of changes and outages are skipped, and say so.

    `say` is then called before the source is built, and `break_down` and `mend` never are.
    """
    _key = "source"
    shared: ClassVar[Sequence[str]] = ()
    """How the names of threads begin that the vendor's package keeps for the whole process, more of them as need be."""

    # What the product does

    def say(self, flags: Flags) -> None:
        """Let the product have exactly these flags."""
        raise NotImplementedError("say() is to make the product have exactly these flags")

    def break_down(self) -> None:
        """Let the product be unreachable, or talk nonsense."""
        raise NotImplementedError("break_down() is to make the product unreachable")

    def mend(self) -> None:
        """Let it be well again, and say what it said last."""
        raise NotImplementedError("mend() is to make the product well again")

    # How the checks go about it

    def _changes(self, flags: Flags) -> None:
        """The product says something else."""
        if self.is_constant:
            pytest.skip("is_constant is True: the product never says anything else")
        self.say(flags)

    def _fails(self) -> None:
        if self.is_constant:
            pytest.skip("is_constant is True: there is nothing that could be down")
        self.break_down()

    def _built(self) -> SourceUnderTest:
        return self._stack.enter_context(SourceUnderTest(self._config().source, self.patience, self.prompt))

    def _opened(self, changed: Callable[[], None] | None = None) -> SourceUnderTest:
        source = self._built()
        source.open(changed)
        return source

    def _answering(self, flags: Flags) -> SourceUnderTest:
        """An open source that has told these flags."""
        self.say(flags)
        source = self._opened()
        self._until_told(source, flags)
        return source

    def _until_told(self, source: SourceUnderTest, flags: Flags) -> Reading:
        answer = source.until(_wanted(flags), lambda answer: self._tells(answer, flags), f"the flags {dict(flags)}")
        assert isinstance(answer, Reading)
        return answer

    def _until_down(self, source: SourceUnderTest, flags: Flags) -> None:
        source.until(_wanted(flags), _is_complaint, _AN_OUTAGE)

    def _tells(self, answer: Answer, flags: Flags) -> bool:
        return not is_outage(answer) and isinstance(answer, Reading) and not self._differences(answer, flags)

    def _differences(self, reading: Reading, flags: Flags) -> list[str]:
        return [
            f"{flag}: found {reading.values.get(flag, 'nothing')!r}, expected {value!r}"
            for flag, value in flags.items()
            if flag not in reading.values or not self._is(reading.values[flag], value)
        ]

    def _is(self, found: object, said: object) -> bool:
        if type(said) in self.says:
            return type(found) is type(said) and found == said
        try:
            return type(found) is str and read_as(type(said), found) == said
        except Unreadable:
            return False

    def _own_process(self, flags: Flags) -> OwnProcess:
        return self._stack.enter_context(
            OwnProcess(
                "source",
                self._config_file(),
                self.patience,
                self.imports,
                wanted=list(flags),
            )
        )

    def _process_told(self, process: OwnProcess, who: str, flags: Flags) -> None:
        process.until(
            lambda report: report["who"] == who and self._is_told(report, flags),
            f"that the {who} reads the flags {dict(flags)}",
        )

    def _is_told(self, report: Report, flags: Flags) -> bool:
        return "values" in report and not self._differences(Reading(report["values"]), flags)

    # The protocol

    def test_it_has_the_members_of_the_protocol(self) -> None:
        """Options, poll_interval, open, read and close are there."""
        source = self._config().source()
        assert isinstance(source, FlagSource), (
            f"{type(source).__name__} is no rheostat.plugins.FlagSource; "
            "expected Options, poll_interval, open, read and close"
        )

    def test_its_options_are_a_frozen_dataclass(self) -> None:
        """Options are a frozen, keyword-only dataclass, or a plain dict."""
        cls = self._config().source_class
        assert has_sound_options(cls), (
            f"Options is {cls.Options!r}; expected a class under @dataclass(frozen=True, kw_only=True), or dict"
        )

    def test_poll_interval_is_seconds_or_none(self) -> None:
        """poll_interval is a positive number of seconds, or None, before the source is open and after."""
        self.say({"contract_on": True})
        source = self._built()
        source.poll_interval()
        source.open()
        source.poll_interval()

    def test_building_it_does_nothing(self) -> None:
        """The constructor only remembers: it starts no thread and opens no file or connection."""
        config = self._config()
        before = Resources.now()
        source = config.source()
        more = Resources.now().more_than(before)
        self._stack.callback(source.close)
        assert not more, f"building the source brought {more}; expected none before open(): `check` builds it too"

    # Answers

    def test_values_come_as_the_product_has_them(self) -> None:
        """Neither value nor type is changed: True is not 1, "97" stays a text, 10.0 a float."""
        values: list[object] = [True, False, 1, 0, 97, 0.5, 10.0, "97", "true"]
        flags = {f"contract_{number}": value for number, value in enumerate(values)}
        self.say(flags)
        source = self._opened()
        answer = source.until(_wanted(flags), lambda answer: not is_outage(answer), "an answer")
        assert isinstance(answer, Reading)
        wrong = self._differences(answer, flags)
        assert not wrong, (
            f"{'; '.join(wrong)}. Expected the values as the product has them, with their types: "
            "Rheostat's rules convert and limit"
        )

    def test_a_flag_that_is_not_defined_is_absent(self) -> None:
        """A flag that the product does not define is not in values, whatever type is wanted."""
        flags = {"contract_on": True}
        undefined = {f"contract_no_{kind.__name__}": kind for kind in (bool, int, float, str, object)}
        self.say(flags)
        wanted = {**_wanted(flags), **undefined}
        answer = self._opened().until(wanted, lambda answer: self._tells(answer, flags), f"the flags {flags}")
        assert isinstance(answer, Reading)
        found = {flag: answer.values[flag] for flag in undefined if flag in answer.values}
        assert not found, (
            f"read() gives {found} for flags that nobody has defined; expected them to be absent from values: "
            "the defaults are in Rheostat's configuration"
        )

    def test_the_flags_that_it_knows_are_those_there_are(self) -> None:
        """If it can tell which flags there are, it names each of them, and none that nobody has defined."""
        if not isinstance(self._config().source(), KnowsFlags):
            pytest.skip("it has no known_flags(): `plan` cannot tell the nearest name to a misspelt one")
        source = self._answering({"contract_on": True, "contract_rate": 97})
        source.read({"contract_on": bool, "contract_misspelt": int})
        known = source.call_in_its_thread(lambda own: list(own.known_flags()), "known_flags()")
        assert {"contract_on", "contract_rate"} == {each for each in known if str(each).startswith("contract_")}, (
            f"known_flags() gave {known}; expected all there are, contract_on and contract_rate"
        )

    def test_a_flag_that_is_taken_away_is_absent(self) -> None:
        """A flag that the product no longer has is soon no longer in values."""
        source = self._answering({"contract_on": True, "contract_rate": 97})
        self._changes({"contract_on": True})
        wanted = {"contract_on": bool, "contract_rate": int}
        source.until(
            wanted,
            lambda answer: self._tells(answer, {"contract_on": True}) and "contract_rate" not in _values(answer),
            "contract_rate to be absent, as the product has it no longer",
        )

    def test_an_odd_flag_spoils_no_other(self) -> None:
        """Null, a huge number, a list or a mapping leaves the other flags as they are."""
        good = {"contract_on": True, "contract_rate": 97}
        self.say({**good, **{f"contract_odd_{number}": value for number, value in enumerate(self.odd)}})
        odd = dict.fromkeys((f"contract_odd_{number}" for number in range(len(self.odd))), object)
        source = self._opened()
        source.until(
            {**_wanted(good), **odd},
            lambda answer: self._tells(answer, good),
            f"the flags {good}, whatever others are: tell what is wrong with one flag in errors",
        )

    def test_answers_are_made_of_plain_parts(self) -> None:
        """Values are plain, by text; reasons and errors are texts, by text."""
        flags = {"contract_on": True, "contract_rate": 97, "contract_mode": "wall", "contract_share": 0.5}
        source = self._answering(flags)
        answer = self._until_told(source, flags)
        assert not [f"{flag!r}: {value!r}" for flag, value in answer.values.items() if not _is_plain(flag, value)], (
            f"values are {dict(answer.values)}; expected texts as keys, and bool, int, float, str or None"
        )
        texts = [*answer.reasons.items(), *answer.errors.items()]
        assert all(type(part) is str for pair in texts for part in pair), (
            f"reasons are {dict(answer.reasons)}, errors {dict(answer.errors)}; expected texts by flag"
        )

    # Changes

    def test_a_change_is_noticed(self) -> None:
        """A flipped flag is read after changed() was called, or within the poll interval."""
        source = self._answering({"contract_on": False, "contract_rate": 97})
        self._says(source, {"contract_on": True, "contract_rate": 97})
        self._says(source, {"contract_on": True, "contract_rate": 50})

    def test_true_and_one_are_a_change(self) -> None:
        """That True becomes 1 is noticed, though they are equal to Python."""
        if not {bool, int} <= set(self.says):
            pytest.skip("the product does not tell True from 1: `says` lacks bool or int")
        source = self._opened()
        for value in (True, 1):
            self._changes({"contract_on": value})
            source.until(
                {"contract_on": object},
                lambda answer, value=value: self._tells(answer, {"contract_on": value}),  # type: ignore[misc]
                f"contract_on to be {value!r}: compare types too, as Reading.is_same_as does",
            )

    def _says(self, source: SourceUnderTest, flags: Flags) -> None:
        self._changes(flags)
        self._until_told(source, flags)

    def test_without_news_it_gives_the_same_reading(self) -> None:
        """While nothing changes, each reading is the same object as the last, or says the same."""
        flags = {"contract_on": True, "contract_rate": 97}
        source = self._answering(flags)
        first = self._until_told(source, flags)
        for _ in range(20):
            answer = source.read(_wanted(flags))
            is_same = isinstance(answer, Reading) and answer.is_same_as(first)
            assert is_same, (
                f"read() gives {answer}, and before {first}; expected the same while nothing has changed: keep the "
                "Reading, and leave out of reasons what differs each time"
            )

    def test_without_news_it_does_not_call(self) -> None:
        """While nothing changes, changed() is not called over and over."""
        source = self._answering({"contract_on": True})
        calls = source.calls
        # What was said last may still be on its way by another road.
        while source.calls - calls < 10 and source.wait_anew(_QUIET):
            continue
        assert source.calls - calls < 10, (
            f"changed() was called {source.calls - calls} times though nothing had changed; expected calls with news "
            "only: each one wakes Rheostat"
        )

    def test_it_calls_outside_of_its_locks(self) -> None:
        """While changed() is being called, another thread can read."""
        self.say({"contract_on": False})
        hung: list[str] = []
        source = self._built()

        def changed() -> None:
            reader = threading.Thread(
                target=lambda: source.read_here({"contract_on": bool}), name="rheostat-reader", daemon=True
            )
            reader.start()
            # Less than what read() may take, which others may be waiting in meanwhile.
            reader.join(self.prompt / 2)
            if reader.is_alive():
                hung.append(threading.current_thread().name)
            source.changed()

        source.open(changed)
        self._until_told(source, {"contract_on": False})
        self._says(source, {"contract_on": True})
        assert not hung, (
            f"while {hung[0]} called changed(), read() in another thread did not return in {self.prompt / 2:g} s; "
            "expected it to: let go of your locks before you call"
        )

    # Outages

    def test_open_is_prompt_while_the_product_is_down(self) -> None:
        """open() returns at once and connects in the background."""
        self.say({"contract_on": True})
        self._fails()
        self._opened()

    def test_read_is_prompt_while_the_product_is_down(self) -> None:
        """read() says at once what is known."""
        flags = {"contract_on": True}
        source = self._answering(flags)
        self._fails()
        self._until_down(source, flags)
        for _ in range(5):
            source.read(_wanted(flags))

    def test_it_invents_nothing_before_it_knows(self) -> None:
        """As long as the product has never answered, there is no reading, not even an empty one."""
        self.say({"contract_on": True})
        self._fails()
        source = self._opened()
        for _ in range(10):
            answer = source.read({"contract_on": bool})
            assert is_outage(answer), (
                f"read() {in_words(answer)} though the product has never answered; expected SourceUnavailable or "
                "NotReady: a reading without flags says that none is defined"
            )
            source.wait(_BETWEEN_LOOKS)

    def test_it_is_not_about_to_be_ready_for_ever(self) -> None:
        """A product that never answers is soon complained about: NotReady turns into SourceUnavailable."""
        self.say({"contract_on": True})
        self._fails()
        source = self._opened()
        source.until(
            {"contract_on": bool},
            _is_complaint,
            "SourceUnavailable instead of NotReady, as the product is down",
        )

    def test_an_outage_is_told(self) -> None:
        """Once the product is down, what was known is not given as if it were fresh, nor taken for undefined."""
        flags = {"contract_on": True, "contract_rate": 97}
        source = self._answering(flags)
        self._fails()

        def is_told(answer: Answer) -> bool:
            assert is_outage(answer) or self._tells(answer, flags), (
                f"read() {in_words(answer)} while the product is down; expected SourceUnavailable, or a reading with "
                "stale_since: a flag that is absent counts as undefined"
            )
            return is_outage(answer)

        source.until(_wanted(flags), is_told, _AN_OUTAGE)

    def test_an_outage_has_one_steady_line(self) -> None:
        """The reason is one line for people, the same at each read, without addresses of objects."""
        flags = {"contract_on": True}
        source = self._answering(flags)
        self._fails()
        self._until_down(source, flags)
        reasons: list[str] = []
        deadline = time.monotonic() + self.patience
        # The first words may be about what was cut off, the next ones about a connection that is refused.
        while len(reasons) < 5 or len(set(reasons[-5:])) > 1:
            assert time.monotonic() < deadline, (
                f"the reasons are {reasons[-5:]}; expected the same at each read, as each new one is logged: leave out "
                "times and counts"
            )
            source.wait_anew(_BETWEEN_LOOKS)
            answer = source.read(_wanted(flags))
            if isinstance(answer, Reading):
                # That it is stale says it all.
                return
            wrong = what_is_wrong_with(answer.reason)
            assert not wrong, f"the reason is {answer.reason!r}; expected {wrong}"
            reasons.append(answer.reason)

    def test_it_recovers(self) -> None:
        """Once the product is well again its flags are read, and changes are noticed as before."""
        flags = {"contract_on": True, "contract_rate": 97}
        source = self._answering(flags)
        self._fails()
        self._until_down(source, flags)
        self.mend()
        self._until_told(source, flags)
        self._says(source, {"contract_on": True, "contract_rate": 50})

    def test_it_comes_up_with_the_product(self) -> None:
        """A source that was opened while the product was down reads the flags once it is well."""
        flags = {"contract_on": True, "contract_rate": 97}
        self.say(flags)
        self._fails()
        source = self._opened()
        self._until_down(source, flags)
        self.mend()
        self._until_told(source, flags)

    def test_it_swallows_no_interrupt(self) -> None:
        """A KeyboardInterrupt that hits read() anywhere in the source's own code comes out of it."""
        source = self._answering({"contract_on": True})
        swallowed = source.call_in_its_thread(lambda plugin: swallowed_at(plugin, {"contract_on": bool}), "read()")
        assert not swallowed, (
            f"read() swallowed a KeyboardInterrupt that came at {swallowed}; expected it to come out: "
            "catch Exception there, not BaseException"
        )

    # The end

    def test_it_can_be_closed_without_open(self) -> None:
        """close() is fine though open() was never called."""
        self._built().close()

    def test_it_can_be_closed_twice(self) -> None:
        """close() is fine however often it is called."""
        source = self._answering({"contract_on": True})
        source.close()
        source.close()

    def test_close_is_prompt_while_the_product_is_down(self) -> None:
        """close() waits for nobody: not for a product that is down, nor for one that has never answered."""
        flags = {"contract_on": True}
        source = self._answering(flags)
        self._fails()
        self._until_down(source, flags)
        source.close()
        self._opened().close()

    def test_after_close_read_is_harmless(self) -> None:
        """After close() a read gives what it last gave, or raises SourceUnavailable."""
        source = self._answering({"contract_on": True})
        source.close()
        source.read({"contract_on": bool})

    def test_after_close_it_does_not_call(self) -> None:
        """After close() there are no calls of changed(), whatever the product says."""
        source = self._answering({"contract_on": True})
        source.close()
        calls = source.calls
        self._changes({"contract_on": False})
        source.wait_anew(_QUIET)
        assert source.calls == calls, (
            f"changed() was called {source.calls - calls} times after close(); expected none: end your threads and "
            "take your listeners back"
        )

    def test_nothing_is_left_after_close(self) -> None:
        """Threads, files and connections are gone soon after close(), also where the product went down."""
        flags = {"contract_on": True}
        self._live_once(flags)
        with nothing_is_left("after close()", self.patience, self.shared):
            self._live_once(flags)

    def test_many_lives_leave_nothing(self) -> None:
        """Ten sources, opened and closed one after the other, leave no thread, file or connection."""
        flags = {"contract_on": True}
        self._live_once(flags)
        with nothing_is_left("after ten sources were opened and closed", self.patience, self.shared):
            for _ in range(10):
                self._live_once(flags)

    def _live_once(self, flags: Flags) -> None:
        self.say(flags)
        with SourceUnderTest(self._config().source, self.patience, self.prompt) as source:
            source.open()
            self._until_told(source, flags)
            source.close()

    # Others

    def test_two_live_side_by_side(self) -> None:
        """Two sources of one configuration know the same, and closing one does not harm the other."""
        self.say({"contract_on": False})
        one, other = self._opened(), self._opened()
        for each in (one, other):
            self._until_told(each, {"contract_on": False})
        one.close()
        self._says(other, {"contract_on": True})

    def test_a_forked_child_has_its_own(self) -> None:
        """In a forked child a new source works, and the parent's goes on."""
        before, after = {"contract_on": True, "contract_rate": 97}, {"contract_on": True, "contract_rate": 50}
        self.say(before)
        process = self._own_process(before)
        self._process_told(process, "parent", before)
        process.tell("fork")
        self._process_told(process, "forked child", before)
        self._changes(after)
        # Both report, in any order.
        left = {"parent", "forked child", "the end of the forked child"}

        def is_last(report: Report) -> bool:
            if self._is_told(report, after):
                left.discard(report["who"])
            if "closed" in report:
                left.discard("the end of the forked child")
            return not left

        process.until(is_last, f"that the parent and the forked child, each by its own source, read {after}")

    def test_a_process_ends_with_it_open(self) -> None:
        """A process that ends without close() is not held up."""
        self._ends({"contract_on": True}, lambda _: None)

    def test_a_process_ends_while_the_product_is_down(self) -> None:
        """Nor is one whose product is down."""

        def break_down(process: OwnProcess) -> None:
            self._fails()
            process.until(lambda report: "reason" in report, "that the outage is noticed")

        self._ends({"contract_on": True}, break_down)

    def _ends(self, flags: Flags, before: Callable[[OwnProcess], None]) -> None:
        self.say(flags)
        process = self._own_process(flags)
        self._process_told(process, "parent", flags)
        before(process)
        process.tell("leave")
        process.until(lambda report: "leaves" in report, "it to leave")
        assert process.ended(3 * self.prompt) is not None, (
            f"the process has not ended {3 * self.prompt:g} s after its main thread; expected it to: make your threads "
            "daemons, and wait for nothing at exit"
        )

    def test_it_leaves_the_process_alone(self) -> None:
        """Signal handlers, the root logger, hooks, environment and streams are as they were; nothing is printed."""
        flags = {"contract_on": True}
        self.say(flags)
        process = self._own_process(flags)
        self._process_told(process, "parent", flags)
        process.tell("account")
        changed = process.until(lambda report: "changed" in report, "an account of what has changed")["changed"]
        assert not changed, f"it has changed {', '.join(changed)}; expected it to leave alone what is the application's"

    def test_it_prints_nothing(self) -> None:
        """Neither stdout nor stderr has anything, also when the product goes down."""
        flags = {"contract_on": True}
        self.say(flags)
        process = self._own_process(flags)
        self._process_told(process, "parent", flags)
        self._fails()
        process.until(lambda report: "reason" in report, "that the outage is noticed")
        printed = process.printed()
        assert not printed, (
            f"it wrote {printed!r} to stdout or stderr; expected nothing: what there is to say goes into the reason of "
            "SourceUnavailable"
        )


_AN_OUTAGE: Final = "SourceUnavailable, or a reading with stale_since, as the product is down"


def _is_complaint(answer: Answer) -> bool:
    """It has noticed that the product is down: not that it has only just begun."""
    return is_outage(answer) and not isinstance(answer, NotReady)


def _wanted(flags: Flags) -> Mapping[str, type]:
    return {flag: type(value) for flag, value in flags.items()}


def _values(answer: Answer) -> Flags:
    return answer.values if isinstance(answer, Reading) else {}


def _is_plain(flag: object, value: object) -> bool:
    return type(flag) is str and type(value) in _PLAIN
