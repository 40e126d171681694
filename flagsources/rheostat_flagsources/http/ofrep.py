"""OpenFeature's Remote Evaluation Protocol, by bulk evaluation: flagd, GO Feature Flag, Flipt and others, no SDK."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final

from rheostat.plugins import Identity, Reading, SourceUnavailable
from rheostat_flagsources.http.asking import AskedOptions, AskingSource

_BULK: Final = "/ofrep/v1/evaluate/flags"
_NOT_FOUND: Final = "FLAG_NOT_FOUND"


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class OfrepOptions(AskedOptions):
    """The ``source`` section: `url` is the server's, without the protocol's path; `attributes` are for targeting."""

    attributes: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


class OfrepSource(AskingSource):
    """Gives the flags that the server has evaluated for this process."""

    Options: ClassVar[type] = OfrepOptions

    def __init__(self, options: OfrepOptions, identity: Identity) -> None:
        context = {"targetingKey": identity.instance, **identity.attributes(options.attributes)}
        super().__init__("ofrep", options, path=_BULK, question=json.dumps({"context": context}).encode())

    def parsed(self, body: bytes, name: str) -> Reading:
        flags = _flags(body, name)
        values, reasons, errors = {}, {}, {}
        for flag in flags:
            key, error = str(flag.get("key", "")), flag.get("errorCode")
            if error == _NOT_FOUND or not key:
                continue
            reasons[key] = _reason(flag)
            if error is not None:
                errors[key] = str(flag.get("errorDetails") or error)
            elif isinstance(flag.get("value"), dict | list):
                errors[key] = "found a list or a mapping, expected a plain value"
            elif "value" in flag:
                values[key] = flag["value"]
        return Reading(values, reasons, errors)


def _flags(body: bytes, name: str) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(body)["flags"]
    # A deep nesting is no ValueError.
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise SourceUnavailable(f"{name}: found no answer of the protocol, expected JSON with flags")
    return [each for each in found if isinstance(each, Mapping)]


def _reason(flag: Mapping[str, Any]) -> str:
    reason, variant = str(flag.get("reason") or flag.get("errorCode") or ""), flag.get("variant")
    return f"{reason} ({variant})" if variant else reason
