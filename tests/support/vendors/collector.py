"""An OpenTelemetry collector on loopback that takes profiles: OTLP's profiles service over HTTP."""

import gzip
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
    ExportProfilesServiceResponse,
)

from support.vendors.http_document import DocumentServer, Handler

PATH = "/v1development/profiles"


class Received(NamedTuple):
    """One profile: the resource's attributes, the type of its samples, and by stack (leaf first) what was measured."""

    resource: Mapping[str, object]
    sample_type: str
    period: int
    seconds: float
    stacks: Mapping[tuple[str, ...], int]
    labels: frozenset[tuple[str, object]]


class Collector(DocumentServer):
    """Takes each request, and looks whether it keeps the rules of the protocol."""

    rejects = 0
    """Profiles of each request that it says it has rejected."""

    @property
    def endpoint(self) -> str:
        return self.url.removesuffix("/flags")

    def _give_document(self, handler: Handler) -> None:
        answer = ExportProfilesServiceResponse()
        if self.rejects:
            answer.partial_success.rejected_profiles = self.rejects
            answer.partial_success.error_message = "too many"
        with self._changed:
            self._changed.notify_all()
        handler.give(200, answer.SerializeToString())

    def wait_for(self, wanted: Callable[[Received], bool], timeout: float = 20.0) -> Received:
        """The first profile that is wanted, once it has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(wanted, self.received())), timeout), self.received()
        return next(filter(wanted, self.received()))

    def received(self) -> list[Received]:
        return [each for body in list(self.bodies) for each in profiles_of(body)]


def profiles_of(body: bytes) -> Iterable[Received]:
    request = ExportProfilesServiceRequest.FromString(gzip.decompress(body))
    tables = request.dictionary
    keeps_the_rules(tables)
    for each in request.resource_profiles:
        resource = {item.key: _value(item.value) for item in each.resource.attributes}
        assert len(resource) == len(each.resource.attributes)
        for profile in (profile for scope in each.scope_profiles for profile in scope.profiles):
            assert 16 == len(profile.profile_id)
            assert any(profile.profile_id)
            stacks: dict[tuple[str, ...], int] = {}
            labels = set()
            for sample in profile.samples:
                assert 1 == len(sample.values)
                stack = tuple(
                    _frame(tables, place) for place in tables.stack_table[sample.stack_index].location_indices
                )
                stacks[stack] = stacks.get(stack, 0) + sample.values[0]
                for index in sample.attribute_indices:
                    item = tables.attribute_table[index]
                    labels.add((tables.string_table[item.key_strindex], _value(item.value)))
            kind, unit = (tables.string_table[index] for index in _indices(profile.sample_type))
            seconds = profile.duration_nano / 1e9
            yield Received(resource, f"{kind}/{unit}", profile.period, seconds, stacks, frozenset(labels))


def keeps_the_rules(tables: Any) -> None:
    """The first entry of each table stands for none, and no entry is there twice."""
    for name in ("mapping", "location", "function", "link", "attribute", "stack"):
        table = [each.SerializeToString() for each in getattr(tables, f"{name}_table")]
        assert b"" == table[0], name
        assert len(table) == len({*table}), name
    assert "" == tables.string_table[0]
    assert len(tables.string_table) == len({*tables.string_table})


def _indices(kind: Any) -> tuple[int, int]:
    return kind.type_strindex, kind.unit_strindex


def _frame(tables: Any, place: int) -> str:
    (line,) = tables.location_table[place].lines
    function = tables.function_table[line.function_index]
    file = tables.string_table[function.filename_strindex].rpartition("/")[2]
    return f"{tables.string_table[function.name_strindex]} {file}:{line.line > 0}"


def _value(value: Any) -> object:
    return getattr(value, value.WhichOneof("value"))
