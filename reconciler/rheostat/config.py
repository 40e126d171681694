"""The configuration: one YAML file for each deployment."""

import os
import socket
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from . import document
from .decode import INVALID, Decoder
from .document import Node, Scalar, parse_yaml, read_bytes
from .identity import Identity
from .interpolation import interpolate
from .options import InvalidOptions
from .policy import Policy
from .problem import ConfigError, Place, Problem
from .registry import BACKENDS, SOURCES, Family, PluginError
from .rules import Rules
from .settings import compile_rules

LARGEST: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """The keys of the file. Sections that depend on plug-ins stay nodes until those are known."""

    version: Literal[1]
    application: str
    source: Node
    backend: Node
    enabled: Node
    settings: Node | None = None
    instance: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    policy: Policy = field(default_factory=Policy)
    disabled: bool = False

    def __post_init__(self) -> None:
        if not self.application.strip():
            raise InvalidOptions({"application": "the name of the application"})


@dataclass(frozen=True, slots=True)
class Section:
    """The ``source`` or ``backend`` section before its class is known."""

    family: Family
    kind: str
    kind_place: Place
    options: document.Mapping

    @property
    def is_builtin(self) -> bool:
        return self.kind in self.family.builtins

    @property
    def name(self) -> str:
        return "source" if self.family is SOURCES else "backend"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A class with its decoded options, ready to be built."""

    cls: type[Any]
    options: Any

    def build(self, identity: Identity) -> Any:
        return self.cls(self.options, identity)


@dataclass(frozen=True, slots=True)
class Wiring:
    """All that depends on the plug-ins' classes."""

    source: Plugin
    backend: Plugin
    rules: Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration that has been read and found valid, as far as that is known without strangers' classes.

    `secrets` are the texts that must never be printed; strangers' options add to it when they are wired.
    """

    path: Path
    application: str
    instance: str
    tags: Mapping[str, str]
    policy: Policy
    disabled: bool
    source: Section
    backend: Section
    enabled: Node
    settings: Node | None
    secrets: MutableSequence[str]

    def identity(self) -> Identity:
        """Who this process is: called anew in each process, for the pid."""
        return Identity(application=self.application, instance=self.instance, tags=self.tags, pid=os.getpid())

    def wire(self) -> Wiring:
        """Import the plug-ins' classes, decode their options and compile the rules. Raises `ConfigError`."""
        decoder = Decoder(self.path.parent, [], self.secrets)
        wiring = _wire(self, decoder)
        if decoder.problems or wiring is None:
            raise ConfigError(decoder.problems)
        return wiring


def load_config(
    path: str | os.PathLike[str],
    *,
    tags: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Config:
    """Read a configuration file; `tags` are added to its own, `env` (default: the environment) fills ``${VAR}``.

    Built-in plug-ins' sections are checked here too; a stranger's class is only imported by `Config.wire`.

    Raises `ConfigError` with every problem at once.
    """
    path = Path(os.path.abspath(path))
    tree = parse_yaml(read_bytes(path, LARGEST), str(path))
    decoder = Decoder(path.parent, [], [])
    tree = interpolate(tree, os.environ if env is None else env, decoder.problems)
    config = _config(path, tree, decoder)
    if config is not None and config.source.is_builtin and config.backend.is_builtin:
        _wire(config, decoder)
    if decoder.problems or config is None:
        raise ConfigError(decoder.problems)
    return replace(config, tags=MappingProxyType({**config.tags, **(tags or {})}))


def _config(path: Path, tree: document.Mapping, decoder: Decoder) -> Config | None:
    read = decoder.section(_Document, tree, "")
    source = _section(SOURCES, tree, decoder)
    backend = _section(BACKENDS, tree, decoder)
    if read is INVALID or source is None or backend is None:
        return None
    return Config(
        path=path,
        application=read.application,
        instance=read.instance or socket.gethostname(),
        tags=read.tags,
        policy=read.policy,
        disabled=read.disabled,
        source=source,
        backend=backend,
        enabled=read.enabled,
        settings=read.settings,
        secrets=decoder.secrets,
    )


def _section(family: Family, tree: document.Mapping, decoder: Decoder) -> Section | None:
    name = "source" if family is SOURCES else "backend"
    entry = tree.entries.get(name)
    if entry is None:
        return None
    kinds = ", ".join(sorted(family.builtins))
    node = entry.node
    if isinstance(node, Scalar):
        decoder.fail(node, name, f"a mapping, like {{kind: {sorted(family.builtins)[0]}}}")
        return None
    if not isinstance(node, document.Mapping) or "kind" not in node.entries:
        found = "no kind" if isinstance(node, document.Mapping) else None
        decoder.fail(node, f"{name}.kind", f"one of {kinds}, or package.module:Class", found)
        return None
    kind = node.entries["kind"].node
    if not isinstance(kind, Scalar) or not kind.text:
        decoder.fail(kind, f"{name}.kind", f"one of {kinds}, or package.module:Class")
        return None
    options = {key: each for key, each in node.entries.items() if key != "kind"}
    return Section(family, kind.text, kind.place, document.Mapping(node.place, options))


def _wire(config: Config, decoder: Decoder) -> Wiring | None:
    source = _plugin(config.source, decoder)
    backend = _plugin(config.backend, decoder)
    parameters = getattr(backend.cls, "parameters", None) if backend is not None else None
    rules = compile_rules(
        config.enabled, config.settings, parameters, config.backend.kind, decoder, known=backend is not None
    )
    if source is None or backend is None or rules is None:
        return None
    return Wiring(source, backend, rules)


def _plugin(section: Section, decoder: Decoder) -> Plugin | None:
    try:
        cls = section.family.resolve(section.kind)
    except PluginError as error:
        place = section.kind_place
        problem = Problem(place, f"{section.name}.kind", error.found, error.expected, error.hint)
        decoder.problems.append(problem)
        return None
    if cls.Options is dict:
        return Plugin(cls, section.options.value())
    options = decoder.section(cls.Options, section.options, section.name)
    # Without its options the class still tells the parameters, so that the settings are checked in the same go.
    return Plugin(cls, options)
