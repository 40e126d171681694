"""The configuration: one YAML file for each deployment."""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from rheostat._config.decode import INVALID, Decoder
from rheostat._config.document import Mapping as MappingNode
from rheostat._config.document import Node, Scalar, parse_yaml, read_bytes
from rheostat._config.document import Sequence as SequenceNode
from rheostat._config.interpolation import interpolate
from rheostat._config.problem import ConfigError, Place, Problem, Problems, TooManyProblems, did_you_mean, shown_key
from rheostat._config.registry import BACKENDS, LAYERS, SOURCES, Family, PluginError
from rheostat._config.settings import compile_rules, compile_tunable, with_tunables
from rheostat._contract.identity import Identity
from rheostat._contract.options import FilePath
from rheostat._contract.text import describe
from rheostat._core.policy import Policy
from rheostat._core.rules import Rules, Setting

LARGEST: Final = 256 * 1024
MOST_LAYERS: Final = 10
_LONGEST_KIND: Final = 500


class Document(NamedTuple):
    """The keys of the file. Sections that depend on plug-ins stay nodes until those are known."""

    version: Literal[1]
    application: str
    source: Node
    backend: Node
    enabled: Node
    settings: Node | None = None
    instance: str | None = None
    tags: Mapping[str, str] = MappingProxyType({})
    policy: Policy = Policy()
    disabled: bool = False
    state_dir: FilePath | None = None
    metrics: tuple[Literal["opentelemetry", "prometheus"], ...] = ()


class Section(NamedTuple):
    """A source or backend before its class is known; `path` is where it is in the document.

    `layer` names it among several sources, and is empty for a lone one.
    """

    family: Family
    kind: str
    kind_place: Place
    options: MappingNode
    path: str
    layer: str = ""

    @property
    def is_builtin(self) -> bool:
        return self.kind in self.family.builtins


class Plugin(NamedTuple):
    """A class with its decoded options, ready to be built."""

    cls: type[Any]
    options: Any

    def __repr__(self) -> str:
        """Without the options, which may hold secrets."""
        return f"Plugin({self.cls.__qualname__})"

    def build(self, identity: Identity) -> Any:
        return self.cls(self.options, identity)


class Wiring(NamedTuple):
    """All that depends on the plug-ins' classes. The sources are layers by name; a lone one has an empty name."""

    sources: Mapping[str, Plugin]
    backend: Plugin
    rules: Rules


class Config(NamedTuple):
    """A configuration that has been read and found valid, as far as that is known without third-party classes.

    `secrets` are the texts that must never be printed; third-party options add to it when they are wired.
    """

    path: str
    application: str
    instance: str
    tags: Mapping[str, str]
    policy: Policy
    disabled: bool
    sections: "Sections"
    secrets: list[str]
    wiring: Wiring | None = None
    """The result of `wire`, where no third-party class was needed for it."""
    state_dir: str = ""
    """Where processes leave word for each other; empty: a folder of the user's own."""
    metrics: tuple[Literal["opentelemetry", "prometheus"], ...] = ()
    """The libraries that metrics are for."""

    def __repr__(self) -> str:
        """Without the sections and the secrets."""
        return f"Config({self.path!r})"

    def identity(self) -> Identity:
        """Who this process is: called anew in each process, for the pid."""
        return Identity(self.application, self.instance, self.tags, os.getpid())

    def who(self) -> dict[str, Any]:
        """The fields by which the log lines of one service are told from those of another."""
        return {"application": self.application, "instance": self.instance, "tags": dict(self.tags)}

    def wire(self) -> Wiring:
        """Import the plug-ins' classes, decode their options and compile the rules. Raises `ConfigError`."""
        if self.wiring is not None:
            return self.wiring
        decoder = Decoder(os.path.dirname(self.path), Problems(), self.secrets)
        wiring = _wire(self.sections, decoder, third_party=True)
        if decoder.problems or wiring is None:
            raise ConfigError(decoder.problems)
        return wiring


class Sections(NamedTuple):
    """The parts of the file whose meaning depends on the plug-ins; None, or too few, where they are not usable."""

    sources: tuple[Section | None, ...]
    backend: Section | None
    enabled: Node | None
    settings: Node | None
    policy: Node | None
    tunables: tuple[Setting, ...]


def load_config(
    path: str | os.PathLike[str],
    *,
    tags: Mapping[str, str] | None = None,
    instance: str | None = None,
    env: Mapping[str, str] | None = None,
    third_party: bool = False,
) -> Config:
    """Read a configuration file; `env` (default: the environment) fills ``${VAR}``.

    `tags` are added to its own, `instance` takes the place of its own.

    Built-in plug-ins' sections are checked here too; a third-party class is only imported for `third_party`, and by
    `Config.wire`.

    Raises `ConfigError` with every problem at once.
    """
    path = locate(path)
    tree = parse_yaml(read_bytes(path, LARGEST), path)
    secrets: list[str] = []
    decoder = Decoder(os.path.dirname(path), Problems(), secrets)
    decoder.compile_setting = partial(compile_tunable, decoder)
    tree = interpolate(tree, os.environ if env is None else env, decoder.problems)
    read = decoder.section(Document, tree, "")
    name = _node(tree, "application")
    if isinstance(name, Scalar) and not name.is_null and not name.text.strip():
        decoder.fail(name, "application", "the name of the application")
    sections = Sections(
        sources=_sources(_node(tree, SOURCES.section), decoder),
        backend=_section(BACKENDS, _node(tree, BACKENDS.section), BACKENDS.section, decoder),
        enabled=_node(tree, "enabled"),
        settings=_node(tree, "settings"),
        policy=_node(tree, "policy"),
        tunables=() if read is INVALID else read.policy.tunables,
    )
    wiring = _wire(sections, decoder, third_party=third_party)
    if decoder.problems:
        raise ConfigError(decoder.problems)
    return Config(
        path=path,
        application=read.application,
        instance=instance or read.instance or os.uname().nodename,
        tags=MappingProxyType({**read.tags, **(tags or {})}),
        policy=read.policy,
        disabled=read.disabled,
        sections=sections,
        secrets=secrets,
        wiring=wiring,
        state_dir=read.state_dir or "",
        metrics=tuple(dict.fromkeys(read.metrics)),
    )


def locate(path: str | os.PathLike[str]) -> str:
    """The absolute path, or the path as it is where there is no working folder any more."""
    try:
        return os.path.abspath(os.fspath(path))
    except OSError:
        return os.fspath(path)


def _node(tree: MappingNode, key: str) -> Node | None:
    entry = tree.entries.get(key)
    return None if entry is None else entry.node


def _sources(node: Node | None, decoder: Decoder) -> tuple[Section | None, ...]:
    path = SOURCES.section
    kind = _node(node, "kind") if isinstance(node, MappingNode) else None
    if not isinstance(node, MappingNode) or not isinstance(kind, Scalar) or kind.text != LAYERS:
        return (_section(SOURCES, node, path, decoder),)
    for key, entry in node.entries.items():
        if key not in ("kind", LAYERS):
            hint = did_you_mean(key, [LAYERS])
            where = f"{path}.{shown_key(key)}"
            decoder.problems.append(Problem(entry.place, where, "an unknown key", f"kind or {LAYERS}", hint))
    layers = _node(node, LAYERS)
    if not isinstance(layers, SequenceNode) or not layers.items:
        found = "no such key" if layers is None else "an empty list" if isinstance(layers, SequenceNode) else None
        decoder.fail(layers or node, f"{path}.{LAYERS}", "a list of sources, the strongest first", found)
        return (None,)
    if len(layers.items) > MOST_LAYERS:
        decoder.fail(layers, f"{path}.{LAYERS}", f"at most {MOST_LAYERS} sources", str(len(layers.items)))
        return (None,)
    return tuple(_layer(number, each, decoder) for number, each in enumerate(layers.items))


def _layer(number: int, node: Node, decoder: Decoder) -> Section | None:
    path = f"{SOURCES.section}.{LAYERS}[{number}]"
    section = _section(SOURCES, node, path, decoder)
    if section is not None and section.kind == LAYERS:
        decoder.fail(node, f"{path}.kind", "a source that is no list of layers itself", repr(LAYERS))
        return None
    return section and section._replace(layer=f"layer {number + 1} ({section.kind})")


def _section(family: Family, node: Node | None, path: str, decoder: Decoder) -> Section | None:
    if node is None:
        return None
    expected = f"one of {', '.join(sorted((*family.builtins, *family.others)))}, or package.module:Class"
    if not isinstance(node, MappingNode):
        decoder.fail(node, path, f"a mapping with a kind: {expected}")
        return None
    kind = _node(node, "kind")
    if kind is None:
        decoder.fail(node, f"{path}.kind", expected, found="no kind")
        return None
    if not isinstance(kind, Scalar) or kind.is_null or not 0 < len(kind.text) <= _LONGEST_KIND:
        decoder.fail(kind, f"{path}.kind", expected)
        return None
    options = {key: each for key, each in node.entries.items() if key != "kind"}
    return Section(family, kind.text, kind.place, MappingNode(node.place, options), path)


def _wire(sections: Sections, decoder: Decoder, *, third_party: bool) -> Wiring | None:
    sources = {
        section.layer: plugin
        for section in sections.sources
        if section is not None and (plugin := _plugin(section, decoder, third_party=third_party)) is not None
    }
    backend = _plugin(sections.backend, decoder, third_party=third_party)
    rules = _rules(sections, backend, decoder)
    if len(sources) < len(sections.sources) or backend is None or rules is None:
        return None
    return Wiring(MappingProxyType(sources), backend, rules)


def _plugin(section: Section | None, decoder: Decoder, *, third_party: bool) -> Plugin | None:
    if section is None:
        return None
    try:
        if not (third_party or section.is_builtin):
            section.family.look_up(section.kind)
            return None
        cls = section.family.resolve(section.kind)
    except PluginError as error:
        path = f"{section.path}.kind"
        decoder.problems.append(Problem(section.kind_place, path, error.found, error.expected, error.hint))
        return None
    if cls.Options is dict:
        return Plugin(cls, section.options.value())
    try:
        # Even with invalid options the class tells the parameters, so that the settings are checked in the same go.
        return Plugin(cls, decoder.section(cls.Options, section.options, section.path, beside=("kind",)))
    except TooManyProblems:
        raise
    # What a third party calls Options may raise anything.
    except Exception as error:
        _blame_plugin(section, error, "options that are a frozen, keyword-only dataclass of known types", decoder)
        return None


def _rules(sections: Sections, backend: Plugin | None, decoder: Decoder) -> Rules | None:
    if sections.enabled is None:
        return None
    if backend is None or sections.backend is None:
        return compile_rules(sections.enabled, sections.settings, None, "", decoder, known=False)
    kind = sections.backend.kind
    try:
        parameters = backend.cls.parameters
        forgone: Mapping[str, str] = getattr(backend.cls, "without_effect", {})
        idle = {name: why for name, why in forgone.items() if name not in (parameters or ())}
        rules = compile_rules(sections.enabled, sections.settings, parameters, kind, decoder, without_effect=idle)
        rules = rules and rules._replace(
            rate=getattr(backend.cls, "cost_grows_with", ""),
            estimate=getattr(backend.cls, "estimate", None),
            without_effect={name: idle[name] for name in _configured(sections.settings) if name in idle},
        )
        return rules and with_tunables(rules, sections.tunables, sections.policy, decoder)
    except TooManyProblems:
        raise
    except Exception as error:
        _blame_plugin(sections.backend, error, "parameters that map names to rheostat.plugins.Parameter", decoder)
        return None


def _configured(settings: Node | None) -> Iterable[str]:
    return settings.entries if isinstance(settings, MappingNode) else ()


def _blame_plugin(section: Section, error: Exception, expected: str, decoder: Decoder) -> None:
    found = f"{section.kind!r}, which cannot be used: {describe(error)}"
    decoder.problems.append(Problem(section.kind_place, f"{section.path}.kind", found, expected))
