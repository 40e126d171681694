"""How the core's modules import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
CORE = Path(__file__).parents[2] / "reconciler" / "rheostat"
IN_A_SERVICE = sorted(each for each in CORE.glob("_*/*.py") if each.parent.stem not in ("__pycache__", "_cli"))


@pytest.mark.parametrize("module", IN_A_SERVICE, ids=lambda path: path.stem)
def test_no_module_waits_for_the_package(module: Path) -> None:
    """Two threads that import it at once would each wait for what the other has begun, and one would get half of it.

    The application may import the package while the launcher's thread imports one of its modules. Python waits for a
    package that another thread imports where it is imported itself, but not where one of its modules is.
    """
    waits = [
        ast.unparse(each)
        for each in ast.parse(module.read_text()).body
        if (isinstance(each, ast.ImportFrom) and (each.level, each.module) in ((1, None), (0, "rheostat")))
        or (isinstance(each, ast.Import) and any(name.name.partition(".")[0] == "rheostat" for name in each.names))
    ]
    assert [] == waits


@pytest.mark.parametrize("late", ["logging", "transitions"])
def test_reading_a_configuration_loads_nothing_of_the_control_loop(late: str) -> None:
    """It is the caller of ``start`` who waits for it."""
    read = "from rheostat._config.config import load_config; load_config(sys.argv[1])"
    code = f"import sys; sys.path[:] = {sys.path!r}; {read}; sys.exit(sys.argv[2] in sys.modules)"
    # Without the environment's own hooks, which load what they like.
    command = [sys.executable, "-S", "-c", code, str(EXAMPLE), late]
    subprocess.run(command, check=True, timeout=20)


BACKENDS_OPTIONS = {
    "files": "folder: profiles",
    "otlp": "report_pid: true",
    "datadog": "output: profiles",
    "sentry": "",
}
"""With an option of each that is no default."""


@pytest.mark.parametrize("kind", BACKENDS_OPTIONS)
def test_a_backend_that_is_off_has_loaded_nothing_for_its_session(tmp_path: Path, kind: str) -> None:
    """Neither a vendor's package nor what only a session needs: being off costs a class and its options."""
    config = tmp_path / "config.yaml"
    backend = f"backend: {{kind: {kind}, {BACKENDS_OPTIONS[kind]}}}"
    config.write_text(
        f"version: 1\napplication: shop\nsource: {{kind: yaml, path: f}}\n{backend}\nenabled: {{flag: x}}\n"
    )
    read = "from rheostat._config.config import load_config; made = load_config(sys.argv[1])"
    build = "made.wire().backend.build(made.identity())"
    late = {"socket", "ssl", "secrets", "hashlib", "gzip", "zlib", "pathlib", "urllib.request"}
    late |= {"pyroscope", "ddtrace", "sentry_sdk", "opentelemetry", "google.protobuf", "urllib3", "logging"}
    code = f"import sys; sys.path[:] = {sys.path!r}; {read}; {build}; print(*{late!r} & {{*sys.modules}})"
    command = [sys.executable, "-S", "-c", code, str(config)]
    assert "\n" == subprocess.run(command, check=True, timeout=20, capture_output=True, text=True).stdout
