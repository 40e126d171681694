"""From a ``kind:`` to a class: built-in names, entry points, or ``package.module:Class``."""

import importlib.util
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rheostat._config.problem import did_you_mean
from rheostat._contract.text import describe
from rheostat._host.importing import import_apart
from rheostat._host.vendor import foreign_build, reinstall


class BuiltIn(NamedTuple):
    """A plug-in that ships with Rheostat: where it is, the vendors' packages that it needs, and the extra with them."""

    target: str
    vendors: tuple[str, ...] = ()
    extra: str = ""

    def missing(self) -> str | None:
        """The advice if a vendor's package is not installed for this Python, found out without importing it."""
        return next(filter(None, map(self._missing, self.vendors)), None)

    def _missing(self, vendor: str) -> str | None:
        if importlib.util.find_spec(vendor) is not None:
            foreign = foreign_build(vendor)
            return f"{foreign}: {reinstall(f'rheostat[{self.extra}]')}" if foreign else None
        return f"the package {vendor!r} is not installed: pip install 'rheostat[{self.extra}]'"


class Family(NamedTuple):
    """One sort of plug-in: its noun, its section of the configuration, its entry points, and what ships with Rheostat.

    Built-ins are found by name here, because scanning entry points costs 55 to 70 ms and 6.6 MB.
    """

    noun: str
    section: str
    group: str
    builtins: Mapping[str, BuiltIn]
    needs: tuple[str, ...]
    others: tuple[str, ...] = ()
    """Kinds that stand for no class."""

    def resolve(self, kind: str) -> type[Any]:
        """The class for a kind; imports it. Raises `UnknownKind` or `BrokenPlugin`."""
        if kind in self.builtins:
            return self._load(kind, self.builtins[kind].target)
        if ":" in kind:
            return self._load(kind, kind)
        return self._load(kind, self._entry_point(kind))

    def known(self) -> list[str]:
        """The kinds of what ships with Rheostat, and of what else is installed."""
        metadata = import_apart("importlib.metadata")
        installed = {each.name for each in metadata.entry_points(group=self.group)}
        return [*self.builtins, *sorted(installed - self.builtins.keys())]

    def look_up(self, kind: str) -> None:
        """Find out whether there is such a kind, without importing it. Raises `UnknownKind`."""
        if kind not in self.builtins and ":" not in kind:
            self._entry_point(kind)

    def _entry_point(self, kind: str) -> str:
        metadata = import_apart("importlib.metadata")
        found = {each.name: f"{each.module}:{each.attr}" for each in metadata.entry_points(group=self.group)}
        if kind not in found:
            raise UnknownKind(self, kind, {*self.builtins, *self.others, *found})
        return found[kind]

    def _load(self, kind: str, target: str) -> type[Any]:
        module, _, name = target.partition(":")
        try:
            loaded: Any = import_apart(module)
            for part in name.split("."):
                loaded = getattr(loaded, part)
        # The module is third-party code: it may raise anything, SystemExit included, and must not end the host.
        except BaseException as error:
            raise BrokenPlugin(self, kind, describe(error)) from error
        if not isinstance(loaded, type):
            raise BrokenPlugin(self, kind, "it is not a class")
        lacks = [each for each in self.needs if not hasattr(loaded, each)]
        if lacks:
            raise BrokenPlugin(self, kind, f"it has no {', '.join(lacks)}")
        return loaded


class PluginError(LookupError):
    """A ``kind:`` that gives no usable class; `found`, `expected` and `hint` are for a `Problem`."""

    found: str
    expected: str
    hint: str = ""


class UnknownKind(PluginError):
    """No built-in and no entry point has this name."""

    def __init__(self, family: Family, kind: str, known: set[str]) -> None:
        self.found = repr(kind)
        self.expected = f"one of {', '.join(sorted(known))}, or package.module:Class"
        self.hint = did_you_mean(kind, known)
        super().__init__(f"{family.noun} kind: found {self.found}, expected {self.expected} {self.hint}".strip())


class BrokenPlugin(PluginError):
    """The class exists in name only: it cannot be imported, or it is not what the contract asks for."""

    def __init__(self, family: Family, kind: str, why: str) -> None:
        self.found = f"{kind!r}, which cannot be used: {why}"
        self.expected = f"an importable {family.noun} class with {', '.join(family.needs)}"
        super().__init__(f"{family.noun} kind: found {self.found}, expected {self.expected}")


LAYERS: Final = "layers"
"""The kind of a source section that is a list of sources, the strongest first."""

SOURCES: Final = Family(
    noun="flag source",
    section="source",
    group="rheostat.flagsources",
    builtins={
        "env": BuiltIn("rheostat_flagsources.env:EnvSource"),
        "growthbook": BuiltIn("rheostat_flagsources.growthbook:GrowthBookSource", ("growthbook",), "growthbook"),
        "http": BuiltIn("rheostat_flagsources.http.source:HttpSource", ("urllib3",), "http"),
        "launchdarkly": BuiltIn("rheostat_flagsources.launchdarkly:LaunchDarklySource", ("ldclient",), "launchdarkly"),
        "ofrep": BuiltIn("rheostat_flagsources.http.ofrep:OfrepSource", ("urllib3",), "http"),
        "openfeature": BuiltIn("rheostat_flagsources.openfeature:OpenFeatureSource", ("openfeature",), "openfeature"),
        "redis": BuiltIn("rheostat_flagsources.redis.source:RedisSource", ("redis",), "redis"),
        "unleash": BuiltIn(
            "rheostat_flagsources.http.unleash:UnleashSource", ("yggdrasil_engine", "urllib3"), "unleash"
        ),
        "yaml": BuiltIn("rheostat_flagsources.yaml_file:YamlFileSource"),
    },
    needs=("Options", "open", "read", "close"),
    others=(LAYERS,),
)

BACKENDS: Final = Family(
    noun="backend",
    section="backend",
    group="rheostat.backends",
    builtins={
        "datadog": BuiltIn("rheostat_backends.datadog.backend:DatadogBackend", ("ddtrace",), "datadog"),
        "files": BuiltIn("rheostat_backends.pyroscope.files:FilesBackend", ("pyroscope",), "files"),
        "noop": BuiltIn("rheostat_backends.noop:NoopBackend"),
        "otlp": BuiltIn("rheostat_backends.pyroscope.otlp:OtlpBackend", ("pyroscope", "opentelemetry.proto"), "otlp"),
        "pyroscope": BuiltIn("rheostat_backends.pyroscope.backend:PyroscopeBackend", ("pyroscope",), "pyroscope"),
        "sentry": BuiltIn("rheostat_backends.sentry:SentryBackend", ("sentry_sdk",), "sentry"),
    },
    needs=("Options", "parameters", "start", "stop"),
)
