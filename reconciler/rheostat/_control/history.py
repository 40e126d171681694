"""The state, and every change of it."""

from collections.abc import Callable, Mapping, Sequence

from rheostat._contract.values import Value
from rheostat._core.desired import Adjustment
from rheostat._core.machine import ProfilerMachine
from rheostat._core.state import State, Trigger
from rheostat._core.transition import Cause, Observer, Transition
from rheostat._host.execution import current
from rheostat._report.journal import Journal


class History:
    """Owns the machine: each move that it makes is numbered, logged and told to the observers, once.

    `published` is called before anybody is told: who asks for the status because of a move has to see it there.
    """

    def __init__(
        self, inherited: State | None, journal: Journal, observers: Sequence[Observer], published: Callable[[], None]
    ) -> None:
        self._machine = ProfilerMachine(inherited or State.STOPPED)
        self._journal = journal
        self._observers = observers
        self._published = published
        self.seq = 0
        self.last: Transition | None = None

    @property
    def state(self) -> State:
        return self._machine.state

    def move(
        self,
        trigger: Trigger,
        cause: Cause,
        settings: Mapping[str, Value],
        adjustments: tuple[Adjustment, ...],
        took: float | None,
    ) -> None:
        """Make a move; `settings` are what runs now, `took` the seconds of the backend's call behind it."""
        before, after = self._machine.fire(trigger)
        self.seq += 1
        self.last = made = Transition(
            seq=self.seq,
            from_state=before,
            to_state=after,
            trigger=trigger,
            cause=cause,
            settings=settings,
            adjustments=adjustments if after is not State.STOPPED else (),
            duration_ms=None if took is None else round(took * 1000, 3),
        )
        self._published()
        self._journal.transition(made)
        if self._observers:
            current().tell(lambda: self._tell_observers(made))

    def _tell_observers(self, made: Transition) -> None:
        for observer in self._observers:
            try:
                observer(made)
            except BaseException as error:
                text = f"an observer raised: {self._journal.describe(error)}; the profiler is not affected"
                self._journal.once("observer_failed", text, about=f"observer {id(observer)}")
