"""The state machine: three states, and the only moves between them."""

from enum import Enum
from typing import Final, NamedTuple

from transitions.core import Event as MachineEvent
from transitions.core import EventData, Machine
from transitions.core import State as MachineState

from rheostat._core.state import State, Trigger


class Move(NamedTuple):
    """One row of the table: the machine may do this and nothing else."""

    trigger: Trigger
    sources: tuple[State, ...]
    dest: State
    when: str


TABLE: Final = (
    Move(Trigger.STARTED, (State.STOPPED, State.RESTARTING), State.RUNNING, "the backend's start returned"),
    Move(
        Trigger.RETUNE,
        (State.RUNNING,),
        State.RESTARTING,
        "settings changed, the old session is being stopped",
    ),
    Move(
        Trigger.STOPPED,
        (State.RUNNING, State.RESTARTING),
        State.STOPPED,
        "the backend's stop returned and nothing else is wanted",
    ),
    Move(Trigger.FAILED, (State.RESTARTING,), State.STOPPED, "the new start failed"),
    Move(Trigger.DIED, (State.RUNNING,), State.STOPPED, "the probe found no session"),
    Move(Trigger.FORKED, tuple(State), State.STOPPED, "in the child of a fork"),
)


class _QuietState(MachineState):
    """A state without callbacks: the library's own would log two INFO records for each move."""

    def enter(self, event_data: EventData) -> None:
        pass

    def exit(self, event_data: EventData) -> None:
        pass


class _QuietMachine(Machine):
    state_cls = _QuietState


class _Model:
    """A model for the library to decorate with its triggers, so that ours stays clean.

    `model_override` would leave them out, at the price of a WARNING in the host's log for each.
    """

    state: State


class ProfilerMachine:
    """Owns the state. Used by one thread; readers take a snapshot elsewhere."""

    def __init__(self, initial: State = State.STOPPED) -> None:
        self._model = _Model()
        machine = _QuietMachine(model=self._model, states=State, initial=initial, auto_transitions=False)
        for move in TABLE:
            machine.add_transition(move.trigger.value, list[str | Enum | MachineState](move.sources), move.dest)
        self._events: dict[str, MachineEvent] = machine.events

    @property
    def state(self) -> State:
        return self._model.state

    def fire(self, trigger: Trigger) -> tuple[State, State]:
        """Make the move; gives the states before and after.

        Raises ``transitions.MachineError`` if the table does not have it.
        """
        before = self.state
        self._events[trigger.value].trigger(self._model)
        return before, self.state
