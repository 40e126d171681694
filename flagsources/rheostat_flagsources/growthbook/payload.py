"""Answers of GrowthBook's API."""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Decrypt = Callable[[str, str], str]
"""The SDK's: from a ciphertext and a key to the text."""


class Unusable(ValueError):
    """An answer that cannot be used; says what was found and what was expected."""


class Payload(NamedTuple):
    """The features of an environment, as GrowthBook describes them, with the saved groups that they refer to."""

    features: Mapping[str, Any]
    saved_groups: Mapping[str, Any] = MappingProxyType({})
    updated: str = ""
    """When it was made (RFC 3339), where the server says."""

    def is_older_than(self, other: "Payload") -> bool:
        """Caches between the server and us may still hold what the stream has overtaken."""
        return bool(self.updated and other.updated) and self.updated < other.updated

    def says_the_same_as(self, other: "Payload") -> bool:
        return is_same((self.features, self.saved_groups), (other.features, other.saved_groups))

    def needed_for(self, flag: str) -> dict[str, Any]:
        """The feature and those that are its prerequisites, so that no other can do harm."""
        needed: dict[str, Any] = {}
        wanted = [flag]
        while wanted:
            name = wanted.pop()
            if name in self.features and name not in needed:
                needed[name] = self.features[name]
                wanted.extend(_prerequisites(needed[name]))
        return needed


def is_same(one: object, other: object) -> bool:
    """Equal, and of the same types throughout: to Python 1 and True are equal, to a reader of flags they are not."""
    return one == other and repr(one) == repr(other)


def read_payload(data: bytes | str, decryption_key: str, decrypt: Decrypt) -> Payload:
    """The payload in an answer, or in an event of the stream. Raises `Unusable`."""
    document = _mapping(_parsed(data), "the answer")
    features = _section(document, "features", "encryptedFeatures", decryption_key, decrypt)
    if features is None:
        raise Unusable(f"found JSON without features (keys: {', '.join(sorted(map(str, document))[:5]) or 'none'})")
    groups = _section(document, "savedGroups", "encryptedSavedGroups", decryption_key, decrypt)
    updated = document.get("dateUpdated")
    return Payload(features, groups or {}, updated if isinstance(updated, str) else "")


def _section(
    document: Mapping[str, Any], plain: str, encrypted: str, decryption_key: str, decrypt: Decrypt
) -> Mapping[str, Any] | None:
    if encrypted not in document:
        return _mapping(document[plain], plain) if document.get(plain) is not None else None
    if not decryption_key:
        raise Unusable(f"found {encrypted}, expected plain ones: set decryption_key")
    try:
        text = decrypt(document[encrypted], decryption_key)
        return _mapping(json.loads(text), plain)
    # The cipher's errors are of many kinds; none of them says more than this.
    except Exception:
        raise Unusable(f"{encrypted} cannot be decrypted: is decryption_key the one of this SDK connection?") from None


def _parsed(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    # A deep nesting is no ValueError.
    except (ValueError, RecursionError):
        found = "nothing" if not data.strip() else "HTML" if _is_html(data) else "something else"
        raise Unusable(f"found {found}, expected JSON with features: is api_host GrowthBook's API or proxy?") from None


def _is_html(data: bytes | str) -> bool:
    begin = data[:200].lstrip()[:1]
    return begin in (b"<", "<")


def _mapping(value: Any, called: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Unusable(f"{called}: found {type(value).__name__}, expected a mapping")
    return value


def _prerequisites(feature: Any) -> list[str]:
    """The features that its rules ask about; of a malformed feature none, its evaluation will say what is wrong."""
    conditions = [each for rule in _listed(feature, "rules") for each in _listed(rule, "parentConditions")]
    return [each["id"] for each in conditions if isinstance(each, Mapping) and isinstance(each.get("id"), str)]


def _listed(holder: Any, name: str) -> list[Any]:
    """From the API it is a mapping, from the application's client an object of the SDK's."""
    found = holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
    return found if isinstance(found, list) else []
