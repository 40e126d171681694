"""The features of Unleash as they are defined; what they come to for this process is another matter."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from rheostat.plugins import Reading, SourceUnavailable, import_vendor
from rheostat_flagsources.http.asking import AskedOptions, AskingSource

NAME: Final = "unleash"
REQUIREMENT: Final = "rheostat[unleash]"
_PATH: Final = "/client/features"

LARGEST: Final = 4 * 2**20
"""Bytes of an answer, unpacked: it has every feature of the environment, hundreds of them are usual."""


class Features(AskingSource):
    """Keeps the features as they are defined: by name, the JSON of the feature and of the segments that it refers to.

    They are texts because there may be thousands, and a few are wanted.
    """

    make_engine: Callable[[], Any] | None = None

    def __init__(self, options: AskedOptions, query: Mapping[str, str]) -> None:
        super().__init__(NAME, options, path=f"{_PATH}?{urlencode(query)}" if query else _PATH, largest=LARGEST)

    def ask(self) -> Reading:
        # Here rather than where it is used: it takes seconds in a busy process.
        if self.make_engine is None:
            self.make_engine = import_vendor("yggdrasil_engine.engine", REQUIREMENT).UnleashEngine
        return super().ask()

    def parsed(self, body: bytes, name: str) -> Reading:
        try:
            document = json.loads(body, object_hook=_settled)
            segments = {each["id"]: each for each in document.get("segments") or ()}
            return Reading({each["name"]: _definition(each, segments) for each in document["features"]})
        # A deep nesting is no ValueError.
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise SourceUnavailable(
                f"{name}: found no answer of Unleash's client API, expected JSON with features: does url end with /api?"
            ) from None


def document_of(flag: str, defined: Mapping[str, Any]) -> tuple[str, str]:
    """What an engine is to know for this feature, and one that it depends on and that is not defined; empty texts."""
    features: dict[str, Any] = {}
    segments: dict[object, Any] = {}
    needed, unknown = [flag], ""
    while needed:
        name = needed.pop()
        if name not in defined:
            unknown = name
        elif name not in features:
            features[name], used = json.loads(defined[name])
            segments.update((each["id"], each) for each in used)
            parents = [
                each.get("feature") for each in _listed(features[name], "dependencies") if isinstance(each, dict)
            ]
            needed.extend(each for each in parents if isinstance(each, str))
    if not features:
        return "", ""
    return json.dumps({"version": 2, "features": [*features.values()], "segments": [*segments.values()]}), unknown


def _settled(each: dict[str, Any]) -> dict[str, Any]:
    """What is left to chance is drawn once for each instance: drawn at each look, profiling would go on and off."""
    parameters = each.get("parameters")
    if each.get("name") == "gradualRolloutRandom" and isinstance(parameters, dict):
        rollout = {"rollout": parameters.get("percentage", "0"), "stickiness": "default"}
        return {**each, "name": "flexibleRollout", "parameters": rollout}
    return {**each, "stickiness": "default"} if each.get("stickiness") == "random" else each


def _definition(feature: Any, segments: Mapping[object, Any]) -> str:
    ids = [each for strategy in _listed(feature, "strategies") for each in _listed(strategy, "segments")]
    return json.dumps([feature, [segments[each] for each in ids if isinstance(each, int) and each in segments]])


def _listed(holder: Any, name: str) -> list[Any]:
    """Of what is malformed nothing: the engine will not take it."""
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else []
