"""The wording of a plug-in's troubles."""

import re
from typing import Final

from rheostat._contract.text import LONGEST_LINE

_ADDRESS: Final = re.compile(r"\b0x[0-9a-f]{6,}\b", re.IGNORECASE)


def what_is_wrong_with(text: object) -> str:
    """The form that a reason should have instead; empty if it is fine."""
    if type(text) is not str or not text.strip():
        return "a text: where, what was found, what to do"
    if not text.isprintable() or len(text) > LONGEST_LINE:
        return f"one line of at most {LONGEST_LINE} characters"
    if _ADDRESS.search(text):
        return "no addresses of objects, which differ each time"
    return ""
