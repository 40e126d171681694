"""GrowthBook, as its API and its proxy speak: features as a document, pushed whole or as word that they changed."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, Literal

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .faults import Fault
from .server import GARBAGE, FlagServer, error
from .wire import Page, Request, compact

DECRYPTION_KEY: Final = base64.b64encode(b"sixteen bytes---").decode()
WRONG_KEY: Final = base64.b64encode(b"not the same key").decode()

StreamEvent = Literal["features", "features-updated"]


class GrowthBookServer(FlagServer):
    """`GET /api/features/<client key>` and `GET /sub/<client key>`."""

    faults: ClassVar[tuple[Fault, ...]] = tuple(Fault)

    def __init__(self, client_key: str = "sdk-test", decryption_key: str | None = None) -> None:
        super().__init__()
        self.client_key = client_key
        self.decryption_key = decryption_key
        """Base64 of 16 bytes to encrypt with from the next answer on; None for plain features."""
        self.stream_event: StreamEvent = "features"
        """Whether streams carry the features, or only word that they have changed."""
        self._features: Mapping[str, Any] = {}
        self._saved_groups: Mapping[str, Sequence[object]] = {}
        self._updated = datetime.now(UTC)
        self._restored = timedelta()
        self._events = 0

    @property
    def features_path(self) -> str:
        return f"/api/features/{self.client_key}"

    @property
    def stream_path(self) -> str:
        return f"/sub/{self.client_key}"

    def set_flags(self, values: Mapping[str, object], *, push: bool = True) -> None:
        """Make these all the features there are, each with one value for everyone."""
        self.set_features({key: {"defaultValue": value} for key, value in values.items()}, push=push)

    def set_features(
        self,
        features: Mapping[str, Any],
        saved_groups: Mapping[str, Sequence[object]] | None = None,
        *,
        push: bool = True,
    ) -> None:
        """Make these all the features there are. Without `push` no stream says so, as if it fell into a gap."""
        with self._changed:
            self._features = dict(features)
            self._saved_groups = dict(saved_groups or {})
            # Two updates in one millisecond differ too.
            self._updated = max(datetime.now(UTC) - self._restored, self._updated + timedelta(milliseconds=1))
            if push:
                self._push(self._everything())

    def set_back(self, seconds: float) -> None:
        """From the next change on, date all as if the server had been restored from a backup so old."""
        with self._changed:
            self._updated -= timedelta(seconds=seconds)
            self._restored = timedelta(seconds=seconds)

    def payload(self) -> dict[str, Any]:
        """The payload that is served now."""
        with self._changed:
            features = _malformed(self._features) if self._fault is Fault.MALFORMED else self._features
            key = WRONG_KEY if self._fault is Fault.ENCRYPTED_WRONG else self.decryption_key
            updated = self._updated.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            plain: dict[str, Any] = {"status": 200, "features": features, "dateUpdated": updated}
            if self._saved_groups:
                plain["savedGroups"] = self._saved_groups
        return plain if key is None else _encrypted(plain, key)

    def _denied(self, request: Request) -> Page | None:
        known = request.method == "GET" and request.path in (self.features_path, self.stream_path)
        return None if known else error(404)

    def _wants_stream(self, request: Request) -> bool:
        return request.path.startswith("/sub/")

    def _page(self) -> Page:
        return Page(compact(self.payload()).encode(), headers={"x-sse-support": "enabled"})

    def _greeting(self) -> bytes:
        return b"retry: 10000\n\n"

    def _everything(self) -> bytes:
        return self._event(compact(self.payload()).encode() if self.stream_event == "features" else b"")

    def _garbage(self) -> bytes:
        return self._event(GARBAGE)

    def _heartbeat(self) -> bytes:
        return b"data: \n\n"

    def _event(self, data: bytes) -> bytes:
        self._events += 1
        # The space after the number is what the real proxy writes.
        return b"id: %d \nevent: %b\ndata: %b\n\n" % (self._events, self.stream_event.encode(), data)


def encrypt(text: str, key: str) -> str:
    """The text as the SDKs decrypt it: the initialisation vector, a dot, and AES-CBC, both in base64."""
    # Made from the text, so that what has not changed looks the same, as from a server that encrypts once.
    vector = hashlib.sha256(text.encode()).digest()[:16]
    padder = padding.PKCS7(128).padder()
    padded = padder.update(text.encode()) + padder.finalize()
    encryptor = Cipher(algorithms.AES128(base64.b64decode(key)), modes.CBC(vector)).encryptor()
    encrypted = encryptor.update(padded) + encryptor.finalize()
    return f"{base64.b64encode(vector).decode()}.{base64.b64encode(encrypted).decode()}"


def _encrypted(plain: Mapping[str, Any], key: str) -> dict[str, Any]:
    # The real API leaves an empty "features" beside the encrypted ones.
    payload = {**plain, "features": {}, "encryptedFeatures": encrypt(compact(plain["features"]), key)}
    if "savedGroups" in payload:
        payload["encryptedSavedGroups"] = encrypt(compact(payload.pop("savedGroups")), key)
    return payload


def _malformed(features: Mapping[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(features or ("malformed",), "no feature")
