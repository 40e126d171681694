"""The end of a session: what the flags turn on does not stay on for ever."""

import math
from typing import Final

from rheostat._core.case import Brake, Case
from rheostat._core.policy import SESSION


def ends_at(case: Case) -> float:
    """When the session that the flags have turned on ends by itself, in monotonic seconds."""
    longest, since = case.number(SESSION), case.memory.enabled_since
    return math.inf if since is None or not longest else since + longest


def _word(case: Case) -> str | None:
    if case.facts.now < ends_at(case):
        return None
    return f"the session has had its {case.number(SESSION):g} s; off and on again begins another"


def _until(case: Case) -> float:
    moment = ends_at(case)
    return moment if moment > case.facts.now else math.inf


def _consider(case: Case) -> Case:
    """Since when the flags have said on. While no source has ever answered, nothing is known that could end it."""
    if not _is_used(case) or all(each.reading is None for each in case.facts.layers):
        return case
    memory, session_id = case.memory, case.flags.tuned.get("session.id")
    goes_on = memory.enabled_since is not None and memory.session_id == session_id
    since = memory.enabled_since if goes_on else case.facts.now
    return case._replace(
        memory=memory._replace(enabled_since=since if case.flags.desired.on else None, session_id=session_id)
    )


def _is_used(case: Case) -> bool:
    return case.uses(SESSION)


SESSION_END: Final = Brake("session", "session", _word, "another session begins", _until, _consider, _is_used)
