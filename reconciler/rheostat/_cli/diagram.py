"""The state machine as a picture."""

from rheostat._core.machine import TABLE
from rheostat._core.state import State


def mermaid() -> str:
    """The table of the machine as a Mermaid state diagram.

    Not by the library's own renderer: what it gives is styled for one moment of a live machine, and its ``Class``
    lines are no Mermaid.
    """
    arrows: dict[tuple[State, State], list[str]] = {}
    for move in TABLE:
        for source in move.sources:
            arrows.setdefault((source, move.dest), []).append(move.trigger.value)
    lines = [f"    {source.value} --> {dest.value}: {' | '.join(names)}" for (source, dest), names in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.STOPPED.value}", *lines])
