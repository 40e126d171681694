"""An OpenFeature provider that asks a server for each evaluation, as some do, and never gives up waiting."""

import json
import os
import urllib.request
from collections.abc import Mapping
from typing import Any

from openfeature.exception import FlagNotFoundError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata

url = ""
made: list["RemoteProvider"] = []


class RemoteProvider(AbstractProvider):
    """`flags` is what GrowthBook's API answers; a value that is a mapping gives each process its own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.shutdowns: list[int] = []
        """The processes in which it was shut down."""

    def initialize(self, evaluation_context: object) -> None:
        self._flags()

    def shutdown(self) -> None:
        self.shutdowns.append(os.getpid())

    def get_metadata(self) -> Metadata:
        return Metadata(name="remote")

    def get_provider_hooks(self) -> list[Any]:
        return []

    def resolve_boolean_details(self, flag_key: str, default_value: bool, evaluation_context: Any = None) -> Any:
        return self._resolve(flag_key, evaluation_context)

    def resolve_string_details(self, flag_key: str, default_value: str, evaluation_context: Any = None) -> Any:
        return self._resolve(flag_key, evaluation_context)

    def resolve_integer_details(self, flag_key: str, default_value: int, evaluation_context: Any = None) -> Any:
        return self._resolve(flag_key, evaluation_context)

    def resolve_float_details(self, flag_key: str, default_value: float, evaluation_context: Any = None) -> Any:
        return self._resolve(flag_key, evaluation_context)

    def resolve_object_details(self, flag_key: str, default_value: Any, evaluation_context: Any = None) -> Any:
        return self._resolve(flag_key, evaluation_context)

    def _resolve(self, key: str, context: Any) -> Any:
        flags = self._flags()
        if key not in flags:
            raise FlagNotFoundError(key)
        value = flags[key]["defaultValue"]
        if isinstance(value, Mapping):
            value = value["of"].get(str(context.attributes.get("pid")), value["else"])
        return FlagResolutionDetails(value=value, reason=Reason.STATIC)

    def _flags(self) -> Mapping[str, Any]:
        with urllib.request.urlopen(self._url) as answer:
            flags: Mapping[str, Any] = json.load(answer)["features"]
        return flags


def make() -> RemoteProvider:
    made.append(RemoteProvider(url))
    return made[-1]
