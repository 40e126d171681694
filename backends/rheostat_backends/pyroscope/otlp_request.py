"""From profiles in the format of pprof to a request of OTLP's profiles service (v1development)."""

import os
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.profiles.v1development import profiles_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from rheostat.plugins import parse_pprof
from rheostat_backends.pyroscope.push import PushedProfile

_NAMES: Final = {"service_name": "service.name", "instance": "service.instance.id"}
"""OpenTelemetry's names for labels of Pyroscope's."""
_SCOPE: Final = ("otel.scope.name", "otel.scope.version")
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "ProfilesDictionary": ("stack_table", "attribute_table", "location_table", "function_table", "string_table"),
    "Profile": ("sample_type", "samples", "time_unix_nano", "duration_nano", "profile_id"),
    "Sample": ("stack_index", "values", "attribute_indices"),
    "KeyValueAndUnit": ("key_strindex", "value"),
    "Stack": ("location_indices",),
    "Line": ("function_index", "line"),
}
"""By message, the fields that are filled: while the protocol is in development they may get other names."""

_Item = TypeVar("_Item")


def missing() -> str:
    """The first message or field that the installed opentelemetry-proto lacks."""
    for message, names in _NEEDED.items():
        cls = getattr(profiles_pb2, message, None)
        if cls is None:
            return message
        for name in names:
            if name not in cls.DESCRIPTOR.fields_by_name:
                return f"{message}.{name}"
    return ""


def export_request(profiles: Iterable[PushedProfile], attributes: Mapping[str, int]) -> bytes:
    """One request with these profiles; `attributes` are the resource's, beside the profiles' own labels.

    Raises google.protobuf's DecodeError or LookupError for a profile that is malformed.
    """
    tables = _Tables()
    resources: dict[tuple[tuple[str, str], ...], Any] = {}
    for labels, pprof in profiles:
        named = tuple(sorted((name, text) for name, text in labels.items() if name != "__name__"))
        if named not in resources:
            resources[named] = _resource(dict(named), attributes)
        resources[named].scope_profiles[0].profiles.extend(_converted(parse_pprof(pprof), tables))
    request = profiles_service_pb2.ExportProfilesServiceRequest(
        resource_profiles=resources.values(), dictionary=tables.dictionary()
    )
    return request.SerializeToString()


def _resource(labels: Mapping[str, str], attributes: Mapping[str, int]) -> Any:
    said = [
        KeyValue(key=_NAMES.get(name, name), value=AnyValue(string_value=text))
        for name, text in labels.items()
        if name not in _SCOPE
    ]
    said += [KeyValue(key=name, value=AnyValue(int_value=number)) for name, number in attributes.items()]
    name, version = (labels.get(each, "") for each in _SCOPE)
    scope = profiles_pb2.ScopeProfiles(scope=InstrumentationScope(name=name, version=version))
    return profiles_pb2.ResourceProfiles(resource=Resource(attributes=said), scope_profiles=[scope])


def _converted(pprof: Any, tables: "_Tables") -> Iterable[Any]:
    """A profile for each type of sample: OTLP has one type in each."""
    text = dict(enumerate(pprof.string_table))
    functions = {
        each.id: tables.functions.index_of((tables.string(text[each.name]), tables.string(text[each.filename])))
        for each in pprof.function
    }
    locations = {
        each.id: tables.locations.index_of(tuple((functions[line.function_id], line.line) for line in each.line))
        for each in pprof.location
    }
    samples = [
        (
            tables.stacks.index_of(tuple(locations[each] for each in sample.location_id)),
            [tables.attribute(text[label.key], text[label.str] if label.str else label.num) for label in sample.label],
            sample.value,
        )
        for sample in pprof.sample
    ]

    def value_type(kind: Any) -> Any:
        return profiles_pb2.ValueType(
            type_strindex=tables.string(text[kind.type]), unit_strindex=tables.string(text[kind.unit])
        )

    for column, kind in enumerate(pprof.sample_type):
        yield profiles_pb2.Profile(
            sample_type=value_type(kind),
            samples=[
                profiles_pb2.Sample(stack_index=stack, attribute_indices=attributes, values=[values[column]])
                for stack, attributes, values in samples
                if values[column]
            ],
            time_unix_nano=max(0, pprof.time_nanos),
            duration_nano=max(0, pprof.duration_nanos),
            period_type=value_type(pprof.period_type),
            period=pprof.period,
            profile_id=os.urandom(16),
        )


class _Table(Generic[_Item]):
    """Gives each distinct item a number, in the order in which they come; the first stands for none."""

    def __init__(self, none: _Item) -> None:
        self._numbers: dict[Hashable, int] = {none: 0}

    def index_of(self, item: _Item) -> int:
        return self._numbers.setdefault(item, len(self._numbers))

    def items(self) -> Iterable[Any]:
        return self._numbers


class _Tables:
    """The dictionary that all profiles of a request share."""

    def __init__(self) -> None:
        self._strings = _Table("")
        self.functions = _Table((0, 0))
        self.locations: _Table[tuple[tuple[int, int], ...]] = _Table(())
        self.stacks: _Table[tuple[int, ...]] = _Table(())
        self._attributes: _Table[tuple[int, str | int]] = _Table((0, ""))

    def string(self, text: str) -> int:
        return self._strings.index_of(text)

    def attribute(self, key: str, value: str | int) -> int:
        return self._attributes.index_of((self.string(key), value))

    def dictionary(self) -> Any:
        made = profiles_pb2.ProfilesDictionary(string_table=self._strings.items())
        # No code of Python's is mapped, and no sample linked to a span.
        made.mapping_table.add()
        made.link_table.add()
        for name, filename in self.functions.items():
            made.function_table.add(name_strindex=name, filename_strindex=filename)
        for lines in self.locations.items():
            location = made.location_table.add()
            for function, line in lines:
                location.lines.add(function_index=function, line=line)
        for stack in self.stacks.items():
            made.stack_table.add(location_indices=stack)
        for key, value in self._attributes.items():
            # The first is none, and has no value either.
            said = {} if not key else {"value": _any_value(value)}
            made.attribute_table.add(key_strindex=key, **said)
        return made


def _any_value(value: str | int) -> Any:
    return AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
