"""The ``rheostat`` command."""

import argparse
import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rheostat import __version__
from rheostat._cli.checked import Checked, configurations, show_checked
from rheostat._cli.diagram import mermaid
from rheostat._cli.launch import run
from rheostat._cli.plan import PATIENCE, plan, silent_sources
from rheostat._config.config import Config, load_config
from rheostat._config.problem import ConfigError, Place, Problem
from rheostat._contract.backend import Reachable
from rheostat._contract.options import parse_duration
from rheostat._contract.text import describe
from rheostat._contract.values import Bytes, Unreadable, in_words, read_as
from rheostat._host.state_folder import StateFolder
from rheostat._report.journal import Journal
from rheostat._report.metrics import missing_library
from rheostat._report.sinks import Nowhere, StderrSink

if TYPE_CHECKING:
    from rheostat._cli.processes import Governed

FINE, FINDING, INVALID = 0, 1, 2

_LAST_PORT = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code: 0 fine, 1 a finding, 2 wrong usage or an invalid configuration."""
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        # A flag may say what the terminal's encoding cannot.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    code = FINE
    try:
        code = int(options.act(options))
        sys.stdout.flush()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return INVALID
    except BrokenPipeError:
        # The reader has gone away; the interpreter would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rheostat", description="Control continuous profilers from feature flags, within limits declared in YAML."
    )
    parser.add_argument("--version", action="version", version=f"rheostat {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    runner = commands.add_parser(
        "run",
        help="run a service with its profiler governed",
        usage="rheostat run --config CONFIG [--log text|json|none] [--tag KEY=VALUE] [--instance NAME] "
        "[--strict] -- COMMAND ...",
        description="Exec COMMAND; the Python processes below it are governed. With an invalid configuration it runs "
        "unprofiled, after one ERROR.",
    )
    runner.add_argument("--config", required=True, help="the YAML configuration")
    runner.add_argument(
        "--log",
        choices=("text", "json", "none"),
        default="text",
        help="lines on stderr; with none the records go to the service's own logging (logger rheostat)",
    )
    _add_identity(runner)
    runner.add_argument("--strict", action="store_true", help="exit with 2 if the configuration is invalid")
    runner.add_argument("command", nargs=argparse.REMAINDER, help="the service, after --")
    runner.set_defaults(act=_run, parser=runner)

    for name, act, text in (
        ("check", _check, "say all that is wrong with a configuration"),
        ("plan", _plan, "read the live flags once and say what would happen"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if act is _check:
            command.add_argument(
                "configs",
                nargs="+",
                metavar="CONFIG",
                help="a YAML configuration, or a folder: all configurations in it, at any depth",
            )
            command.add_argument(
                "--format",
                choices=("text", "json", "github"),
                default="text",
                help="github: as annotations of a workflow's run",
            )
        else:
            command.add_argument("config", help="the YAML configuration")
        _add_identity(command)
        command.add_argument(
            "--import",
            dest="modules",
            action="append",
            default=[],
            metavar="MODULE",
            help="import it first: the application's module that a client: or provider: names",
        )
        command.set_defaults(act=act)
        if act is _check:
            command.add_argument(
                "--online",
                action="store_true",
                help="also ask the flag sources for the flags, and send the profiler's server one empty push, with the "
                "configured credentials",
            )

    status = commands.add_parser(
        "status",
        help="show the governed processes of this host",
        description="Show what each governed process does, at what settings, and who decided. The exit code is 1 if "
        "any is stuck or has failed.",
    )
    status.add_argument("--json", action="store_true", help="all that is known, for programs")
    status.add_argument("--watch", action="store_true", help="every second, until interrupted")
    _add_folders(status)
    status.set_defaults(act=_status)
    explain = commands.add_parser("explain", help="say who decides in one process, and about what")
    explain.add_argument("pid", type=int, help="of the process")
    _add_folders(explain)
    explain.set_defaults(act=_explain)

    mirrored = commands.add_parser(
        "mirror",
        help="keep a file of flags as the configured source says, for the processes of a host",
        description="One client of the flag product for all processes of a host: they read FILE with kind: yaml, and "
        "max_age: 60s tells them that nobody writes it any more.",
    )
    mirrored.add_argument("--config", required=True, help="the YAML configuration, whose source is read")
    mirrored.add_argument("--to", required=True, metavar="FILE", help="the file of flags")
    mirrored.add_argument(
        "--heartbeat", type=_duration, default=10.0, metavar="DURATION", help="how often to touch it (10s)"
    )
    mirrored.add_argument("--log", choices=("text", "json"), default="text", help="lines on stderr")
    _add_identity(mirrored)
    mirrored.set_defaults(act=_mirror, modules=[])

    receiver = commands.add_parser(
        "receive",
        help="take profiles on this host, keep them as files, and show them on a page",
        description="A receiver for a look: point the agent's server_address at it, and open the same address in a "
        "browser. It listens on loopback only, and is no store.",
    )
    receiver.add_argument("--port", type=_port, default=4040, help="of the address (4040; 0: a free one)")
    receiver.add_argument("--dir", metavar="DIR", help="keep each profile there as a file (.pb.gz)")
    receiver.add_argument(
        "--keep", type=_size, default=256 * 2**20, metavar="SIZE", help="of these files at most (256MiB)"
    )
    receiver.set_defaults(act=_receive)
    schema = commands.add_parser("schema", help="print the JSON Schema of a configuration, for editors")
    schema.set_defaults(act=_schema)
    completion = commands.add_parser("completion", help="print the completion of this command for a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(act=_completion)
    diagram = commands.add_parser("diagram", help="print the state machine as a Mermaid diagram")
    diagram.set_defaults(act=_diagram)
    demo = commands.add_parser("demo", help="see it work: a small service, flags that flip, profiles that arrive")
    demo.set_defaults(act=_demo)
    return parser


def _add_folders(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--state-dir", action="append", default=[], metavar="DIR", help="of processes that have their own"
    )
    command.add_argument("--all-users", action="store_true", help="also those of other users, as far as may be read")


def _add_identity(command: argparse.ArgumentParser) -> None:
    """Who the service is, beyond what the configuration says: flags may be targeted by it."""
    command.add_argument("--tag", action="append", default=[], type=_tag, metavar="KEY=VALUE", help="one more tag")
    command.add_argument("--instance", type=_name, metavar="NAME", help="in the place of the configuration's instance")


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("found nothing, expected a name")
    return text


def _duration(text: str) -> float:
    try:
        return max(0.1, parse_duration(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a duration like 10s") from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a port, 0 to {_LAST_PORT}")
    return int(text)


def _size(text: str) -> int:
    try:
        return int(read_as(Bytes, text))
    except Unreadable:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {in_words(Bytes)}") from None


def _tag(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected KEY=VALUE")
    return key, value


def _run(options: argparse.Namespace) -> int:
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        options.parser.error("no command: expected one after --, like: -- python app.py")
    run(command, options.config, options.log, dict(options.tag), options.instance, strict=options.strict)


def _load(options: argparse.Namespace, path: str | None = None) -> Config:
    """With the working folder on the path, as it is for the service: its own classes may be named."""
    sys.path.insert(0, "")
    for module in options.modules:
        try:
            importlib.import_module(module)
        # It is the application's code.
        except BaseException as error:
            raise ConfigError([Problem(Place("--import"), "", f"{module}: {describe(error)}", "a module")]) from None
    path = options.config if path is None else path
    return load_config(path, tags=dict(options.tag), instance=options.instance, third_party=True)


def _check(options: argparse.Namespace) -> int:
    checked = [_checked(path, options) for path in configurations(options.configs)]
    show_checked(checked, options.format)
    if any(each.problems for each in checked):
        return INVALID
    return FINDING if any(each.findings for each in checked) else FINE


def _checked(path: str, options: argparse.Namespace) -> Checked:
    try:
        config = _load(options, path)
    except ConfigError as error:
        return Checked(path, error.problems)
    return Checked(config.path, (), [*_findings(config), *(_unreachable(config) if options.online else ())])


def _findings(config: Config) -> list[str]:
    """The parts that a valid configuration still lacks on this machine."""
    findings = []
    for section in (*config.sections.sources, config.sections.backend):
        builtin = section.family.builtins.get(section.kind) if section is not None else None
        missing = builtin.missing() if builtin is not None else None
        if section is not None and missing is not None:
            findings.append(f"{section.path}.kind: {missing}")
    if config.state_dir:
        try:
            StateFolder(config.state_dir).make()
        except OSError as error:
            findings.append(f"state_dir: it cannot be used: {error}")
    findings += [f"metrics: {missing}" for kind in config.metrics if (missing := missing_library(kind)) is not None]
    wiring = config.wire()
    journal = Journal(Nowhere(), time.monotonic, config.secrets)
    sources = ((f"source {layer}".strip(), plugin) for layer, plugin in wiring.sources.items())
    for name, plugin in (*sources, ("backend", wiring.backend)):
        try:
            plugin.build(config.identity())
        # A third-party constructor may raise anything.
        except BaseException as error:
            findings.append(f"{name}: it cannot be built: {journal.describe(error)}")
    return findings


def _unreachable(config: Config) -> list[str]:
    """The servers and sources that do not answer now."""
    findings = silent_sources(config)
    journal = Journal(Nowhere(), time.monotonic, config.secrets)
    try:
        backend = config.wire().backend.build(config.identity())
        if isinstance(backend, Reachable):
            backend.reach(PATIENCE)
    # What cannot be built has been found already; a third-party backend may raise anything.
    except BaseException as error:
        findings.append(f"backend: {journal.describe(error)}")
    return findings


def _plan(options: argparse.Namespace) -> int:
    # What is piped goes to a file or to another program, which is to have all of it.
    width = shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None
    made = plan(_load(options), width)
    print("\n".join(made.lines))
    return FINDING if made.finding else FINE


def _status(options: argparse.Namespace) -> int:
    from rheostat._cli.processes import governed
    from rheostat._cli.status import as_json, is_troubled, show

    def found() -> "list[Governed]":
        return governed(options.state_dir, all_users=options.all_users)

    if options.json:
        processes, now = found(), time.time()
        print(as_json(processes, now))
        return FINDING if any(is_troubled(each, now) for each in processes) else FINE
    where = (
        f"in {', '.join(options.state_dir)}"
        if options.state_dir
        else "of this host"
        if options.all_users
        else "of yours"
    )
    return FINDING if show(options.watch, found, where) else FINE


def _explain(options: argparse.Namespace) -> int:
    from rheostat._cli.processes import governed
    from rheostat._cli.status import explanation, is_troubled

    now = time.time()
    for each in governed(options.state_dir, all_users=options.all_users):
        if each.process.pid == options.pid:
            print("\n".join(explanation(each, now)).rstrip())
            return FINDING if is_troubled(each, now) else FINE
    print(
        f"no governed process has the id {options.pid}; `rheostat status` shows those that there are", file=sys.stderr
    )
    return INVALID


def _mirror(options: argparse.Namespace) -> int:
    from rheostat._cli.mirror import mirror

    mirror(_load(options), options.to, options.heartbeat, StderrSink(options.log))
    return FINE


def _receive(options: argparse.Namespace) -> int:
    try:
        from rheostat.receive.serve import serve
    except ImportError as error:
        print(f"the receiver needs one more package ({error}): pip install 'rheostat[demo]'", file=sys.stderr)
        return FINDING
    return serve(options.port, options.dir, options.keep)


def _schema(options: argparse.Namespace) -> int:
    from rheostat._config.schema import schema

    print(json.dumps(schema(), indent=2))
    return FINE


def _completion(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        print("completion needs one more package: pip install 'rheostat[cli]'", file=sys.stderr)
        return FINDING
    print(shtab.complete(_parser(), options.shell))
    return FINE


def _diagram(options: argparse.Namespace) -> int:
    print(mermaid())
    return FINE


def _demo(options: argparse.Namespace) -> int:
    try:
        from rheostat.demo.story import tell
    except ImportError as error:
        print(f"the demo needs more packages ({error}): pip install 'rheostat[demo]'", file=sys.stderr)
        return FINDING
    return tell()
