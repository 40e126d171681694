"""Unleash, as its client API speaks: all features of an environment as one document, and somewhere to report to."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

from .faults import Fault
from .server import FlagServer, error
from .wire import Page, Request, compact

Feature = Mapping[str, Any]

FEATURES_PATH: Final = "/api/client/features"
REGISTER_PATH: Final = "/api/client/register"
METRICS_PATH: Final = "/api/client/metrics"

_FOR_EVERYBODY: Final = {"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "default"}}
_STREAMS: Final = (Fault.STREAM_ENDS_AT_ONCE, Fault.STREAM_ENDS_EVERY_SECOND, Fault.STREAM_SILENT)


class UnleashServer(FlagServer):
    """`GET /api/client/features`, and `POST /api/client/register` and `/api/client/metrics`."""

    faults: ClassVar[tuple[Fault, ...]] = tuple(
        fault for fault in Fault if fault not in (*_STREAMS, Fault.ENCRYPTED_WRONG)
    )

    def __init__(self, api_token: str = "default:production.secret-of-the-tests") -> None:
        super().__init__()
        self.api_token = api_token
        self.instead: Page | None = None
        """What is answered in place of the features."""
        self._features: Sequence[Feature] = ()
        self._segments: Sequence[Mapping[str, Any]] = ()
        self._asked_for: Mapping[str, list[str]] = {}

    @property
    def api(self) -> str:
        """What SDKs are given as the URL."""
        return f"{self.url}/api"

    @property
    def fetches(self) -> list[Request]:
        return [each for each in self.requests if urlsplit(each.path).path == FEATURES_PATH]

    def set_flags(self, values: Mapping[str, object]) -> None:
        """Make these all the features there are, the same for everyone."""
        self.set_features([feature_of(name, value) for name, value in values.items()])

    def set_features(self, features: Sequence[Feature], segments: Sequence[Mapping[str, Any]] = ()) -> None:
        """Make these all the features and segments there are."""
        with self._changed:
            self._features, self._segments = list(features), list(segments)

    def _denied(self, request: Request) -> Page | None:
        path = urlsplit(request.path)
        if request.headers.get("Authorization") != self.api_token:
            return error(HTTPStatus.UNAUTHORIZED)
        if (request.method, path.path) in (("POST", REGISTER_PATH), ("POST", METRICS_PATH)):
            return Page(status=HTTPStatus.ACCEPTED)
        if (request.method, path.path) != ("GET", FEATURES_PATH):
            return error(HTTPStatus.NOT_FOUND)
        self._asked_for = parse_qs(path.query)
        return self.instead

    def _wants_stream(self, request: Request) -> bool:
        return False

    def _page(self) -> Page:
        features: Sequence[object] = [each for each in self._features if self._is_asked_for(each)]
        if self._fault is Fault.MALFORMED:
            features = ["no feature"] * len(features) or ["no feature"]
        return Page(compact({"version": 2, "features": features, "segments": self._segments, "query": {}}).encode())

    def _is_asked_for(self, feature: Feature) -> bool:
        begins = self._asked_for.get("namePrefix", [""])[0]
        projects = self._asked_for.get("project", [feature.get("project", "default")])
        return str(feature["name"]).startswith(begins) and feature.get("project", "default") in projects

    def _greeting(self) -> bytes:
        return b""

    def _everything(self) -> bytes:
        return b""

    def _garbage(self) -> bytes:
        return b""

    def _heartbeat(self) -> bytes:
        return b""


def feature(name: str, *strategies: Mapping[str, Any], **changes: object) -> Feature:
    """A feature that is enabled for everybody, or by these strategies, and whatever is to differ from that."""
    return {
        "name": name,
        "type": "release",
        "enabled": True,
        "project": "default",
        "stale": False,
        "strategies": list(strategies) or [_FOR_EVERYBODY],
        "variants": [],
        "description": None,
        "impressionData": False,
        **changes,
    }


def feature_of(name: str, value: object) -> Feature:
    """One that is enabled or not, if that is the value, and otherwise has a variant with it for everybody."""
    if isinstance(value, bool):
        return feature(name, enabled=value)
    return feature(name, strategy(variants=[variant("only", value)]))


def strategy(name: str = "flexibleRollout", **changes: object) -> Mapping[str, Any]:
    """One that lets everybody in, and whatever is to differ from that; its parameters are texts, as all are."""
    parameters = _FOR_EVERYBODY["parameters"] if name == "flexibleRollout" else {}
    return {"name": name, "constraints": [], "parameters": parameters, "variants": [], **changes}


def only_for(name: str, *among: str, **changes: object) -> Mapping[str, Any]:
    """A constraint: this field or property of the context is one of these."""
    base = {"contextName": name, "operator": "IN", "values": among, "inverted": False, "caseInsensitive": False}
    return {**base, **changes}


def variant(name: str, value: object = None, **changes: object) -> Mapping[str, Any]:
    """One that everybody gets; without a value it has no payload."""
    whole = {"name": name, "weight": 1000, "weightType": "variable", "stickiness": "default", **changes}
    if value is None:
        return whole
    kind = "string" if isinstance(value, str) else "number" if isinstance(value, int | float) else "json"
    return {**whole, "payload": {"type": kind, "value": value if isinstance(value, str) else compact(value)}}
