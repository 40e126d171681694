"""Where the flags are in the JSON that an endpoint gives."""

import json
from typing import Any, Final

from .trouble import Trouble

_KINDS: Final = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


def flags_in(body: bytes, pointer: str) -> dict[str, object]:
    """The object at a JSON pointer (RFC 6901, through objects only): its members are the flags.

    Raises `Trouble`.
    """
    found = _parsed(body)
    where = ""
    for token in pointer.split("/")[1:]:
        members = _members(found, where)
        where += f"/{token}"
        found = members.get(token.replace("~1", "/").replace("~0", "~"))
    return _members(found, where)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    # A deep nesting is no ValueError.
    except (ValueError, RecursionError):
        raise Trouble("found no JSON, expected an object of flags") from None


def _members(found: Any, where: str) -> dict[str, object]:
    if isinstance(found, dict):
        return found
    at = f" at {where}" if where else ""
    raise Trouble(f"found {_KINDS.get(type(found), 'nothing')}{at}, expected an object")
