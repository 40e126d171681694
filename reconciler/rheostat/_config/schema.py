"""The JSON Schema of a configuration, made from the same types that it is decoded by."""

import types
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from inspect import getdoc
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from rheostat._config.config import Document
from rheostat._config.decode import FILE_TWIN, fields_of, hints_of, is_secret
from rheostat._config.document import Node
from rheostat._config.registry import BACKENDS, LAYERS, SOURCES, Family, PluginError
from rheostat._contract.backend import Parameter
from rheostat._contract.options import Duration, FilePath
from rheostat._contract.secret import Secret
from rheostat._contract.values import Bytes, Percent, Seconds

Schema = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_INTERPOLATED: Final[Schema] = {"type": "string", "pattern": r"\$\{"}
"""A scalar that is filled from the environment may come to anything."""
_DURATION: Final[Schema] = {"type": ["number", "string"], "pattern": r"^\s*[0-9.]+\s*(ms|s|m|h|)\s*$|\$\{"}
_SIZE: Final[Schema] = {"type": ["integer", "string"], "pattern": r"^\s*[0-9.]+\s*([KMG]iB|kB|MB|GB|B|)\s*$|\$\{"}
_SHARE: Final[Schema] = {"type": ["number", "string"], "pattern": r"^\s*[0-9.]+\s*%?\s*$|\$\{"}
_TEXT: Final[Schema] = {"type": ["string", "number", "boolean"]}
_NUMBER: Final[Schema] = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*[-+]?[0-9.]+\s*$|\$\{"}]}
_PLAIN: Final[Mapping[Any, Schema]] = {
    bool: {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": r"^\s*([Tt]rue|[Ff]alse)\s*$|\$\{"}]},
    int: {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\s*[-+]?[0-9]+\s*$|\$\{"}]},
    float: _NUMBER,
    str: _TEXT,
    Duration: _DURATION,
    Seconds: _DURATION,
    Percent: _SHARE,
    Bytes: _SIZE,
    FilePath: {"type": "string"},
}


def schema() -> Schema:
    """For editors: that of every section, with the options of each plug-in that is installed."""
    sources, backends = _kinds(SOURCES), _kinds(BACKENDS)
    whole = _section(Document)
    properties = whole["properties"]
    properties["source"] = {"$ref": "#/$defs/source"}
    properties["backend"] = _plugin(BACKENDS, backends)
    properties["enabled"] = _setting(Parameter(bool, False))
    properties["settings"] = {"type": ["object", "null"], "additionalProperties": _setting(None)}
    tuned = [
        _if_kind("backend", kind, {"settings": _settings(cls.parameters, getattr(cls, "without_effect", ()))})
        for kind, cls in backends.items()
        if cls.parameters is not None
    ]
    return {
        "$schema": _DIALECT,
        "title": "Rheostat",
        **whole,
        "allOf": tuned,
        "$defs": {"source": _with_layers(_plugin(SOURCES, sources))},
    }


def _kinds(family: Family) -> dict[str, type[Any]]:
    """The classes of what ships with Rheostat, and of what else is installed and can be imported."""
    found = {}
    for kind in family.known():
        try:
            found[kind] = family.resolve(kind)
        except PluginError:
            continue
    return found


def _plugin(family: Family, kinds: Mapping[str, type[Any]]) -> Schema:
    known = [{"const": kind} for kind in [*kinds, *family.others]]
    return {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"anyOf": [*known, {"type": "string", "pattern": r"\S+:\S+|\$\{"}]}},
        "allOf": [
            {"if": _is_kind(kind), "then": _section(cls.Options, beside="kind")}
            for kind, cls in kinds.items()
            if cls.Options is not dict
        ],
    }


def _with_layers(plugin: Schema) -> Schema:
    """Several sources, each under its name."""
    layers = {
        "properties": {
            "kind": True,
            "layers": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/source"}},
        },
        "required": ["layers"],
    }
    return {**plugin, "allOf": [*plugin["allOf"], {"if": _is_kind(LAYERS), "then": layers}]}


def _is_kind(kind: str) -> Schema:
    return {"properties": {"kind": {"const": kind}}, "required": ["kind"]}


def _if_kind(section: str, kind: str, properties: Schema) -> Schema:
    return {
        "if": {"properties": {section: _is_kind(kind)}, "required": [section]},
        "then": {"properties": properties},
    }


def _settings(parameters: Mapping[str, Parameter], without_effect: Iterable[str]) -> Schema:
    known = {**dict.fromkeys(without_effect), **parameters}
    return {
        "type": ["object", "null"],
        "properties": {name: _setting(parameter) for name, parameter in known.items()},
        "additionalProperties": False,
    }


def _setting(parameter: Parameter | None) -> Schema:
    """A constant, or a flag with its default and its clamp."""
    value: Schema = {} if parameter is None else _value(parameter)
    bound = {} if parameter is None else _of(parameter.type)
    clamp = {
        "type": ["object", "null"],
        "properties": {
            "min": bound,
            "max": bound,
            "choices": {"type": "array", "minItems": 1, "items": value},
            "otherwise": {"enum": ["default", "hold", "off"]},
        },
        "additionalProperties": False,
    }
    flagged = {
        "type": "object",
        "properties": {"flag": {"type": "string", "minLength": 1}, "default": value, "clamp": clamp},
        "additionalProperties": False,
    }
    return {"if": {"type": "object"}, "then": flagged, "else": value}


def _value(parameter: Parameter) -> Schema:
    made = _of(parameter.type)
    if parameter.choices is not None:
        return {"anyOf": [{"enum": list(parameter.choices)}, _INTERPOLATED]}
    limits = {
        name: limit
        for name, limit in (("minimum", parameter.min), ("maximum", parameter.max))
        # Where a number may have a unit its bound says nothing.
        if limit is not None
    }
    return {**made, **limits, "default": parameter.default}


def _section(cls: Any, beside: str = "") -> Schema:
    """A mapping with the fields of a dataclass or named tuple."""
    hints, known = hints_of(cls), fields_of(cls)
    properties: Schema = {beside: True} if beside else {}
    required = []
    for name, is_required in known.items():
        properties[name] = _of(hints[name])
        if is_secret(hints[name]):
            properties[name + FILE_TWIN] = {"type": "string"}
        elif is_required:
            required.append(name)
    first = (getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
    return {
        "type": "object",
        # What a class without a docstring of its own has is its signature.
        **({"description": first} if first and not first.startswith(f"{cls.__name__}(") else {}),
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _of(annotation: Any) -> Schema:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return dict(_PLAIN[annotation])
    if annotation is object or annotation == Node:
        return {}
    if origin is Annotated:
        return _setting(next(each for each in arguments[1:] if isinstance(each, Parameter)))
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(each) for each in arguments if each is not types.NoneType] + [{"type": "null"}]}
    if origin is Literal:
        return {"anyOf": [{"enum": list(arguments)}, _INTERPOLATED]}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": ["object", "null"], "additionalProperties": _of(arguments[1])}
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        return dict(_TEXT)
    if isinstance(annotation, type) and (is_dataclass(annotation) or hasattr(annotation, "_fields")):
        # A section all of whose keys are commented out is null, and some have a short form.
        short = [{"type": "string"}] if hasattr(annotation, "from_text") else []
        return {"anyOf": [_section(annotation), {"type": "null"}, *short]}
    return {"type": "string"} if hasattr(annotation, "from_text") else {}
