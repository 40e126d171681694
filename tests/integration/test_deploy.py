"""What `deploy/` says is what Kubernetes, systemd and Rheostat take."""

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from rheostat._config.config import load_config
from support.children import Child, ended

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.31"

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")


def rendered(overlay: str) -> list[dict[str, Any]]:
    ran = ended(["kubectl", "kustomize", str(DEPLOY / "kubernetes" / overlay)], ROOT)
    assert 0 == ran.returncode, ran.stderr
    return list(yaml.safe_load_all(ran.stdout))


def one(resources: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in resources if each["kind"] == kind and each["metadata"]["name"].startswith(name)]
    return found


@needs_kubectl
@pytest.mark.parametrize("overlay", ["service", "profiled", "mirrored"])
def test_kubernetes_takes_the_manifests(overlay: str) -> None:
    """Each resource is valid, strictly; and what a container mounts is a volume of its pod."""
    resources = rendered(overlay)
    for each in resources:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    pod = one(resources, "Deployment", "checkout")["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in pod.get("volumes", ())}
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        assert {each["name"] for each in container.get("volumeMounts", ())} <= volumes.keys()
    names = {each["metadata"]["name"] for each in resources if each["kind"] == "ConfigMap"}
    assert {each["configMap"]["name"] for each in volumes.values() if "configMap" in each} == names


@needs_kubectl
@pytest.mark.parametrize("overlay", ["profiled", "mirrored"])
def test_the_configurations_that_are_mounted_are_fine(tmp_path: Path, overlay: str) -> None:
    """And the image stays as it was: nothing in the service's own container but what is mounted."""
    resources = rendered(overlay)
    (tmp_path / "client_key").write_text("sdk-abc")
    for each in resources:
        for name, text in each.get("data", {}).items():
            path = tmp_path / name
            path.write_text(text.replace("/etc/rheostat/secrets", str(tmp_path)))
            if name != "flags.yaml":
                assert load_config(path, env={"HOSTNAME": "checkout-1"}, third_party=True).application == "checkout"
    [before] = one(rendered("service"), "Deployment", "checkout")["spec"]["template"]["spec"]["containers"]
    [after] = one(resources, "Deployment", "checkout")["spec"]["template"]["spec"]["containers"]
    assert before.items() <= after.items()


@needs_kubectl
def test_the_environment_of_the_pod_governs_and_opentelemetry_stays_active(tmp_path: Path) -> None:
    """A Python without Rheostat, with what the init container brings and OpenTelemetry's own sitecustomize."""
    [app] = one(rendered("profiled"), "Deployment", "checkout")["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each["value"] for each in app["env"] if "value" in each}
    target = tmp_path / "opt"
    for package in ("rheostat", "rheostat_backends", "yaml", "transitions", "six", "rheostat_flagsources"):
        install(package, target)
    (tmp_path / "config.yaml").write_text(
        "version: 1\napplication: checkout\nstate_dir: state\nsource: {kind: yaml, path: flags.yaml}\n"
        "backend: {kind: noop}\nenabled: {flag: profiling_enabled}\n"
    )
    (tmp_path / "flags.yaml").write_text("profiling_enabled: true\n")
    (tmp_path / "app.py").write_text(
        "import sys\nfrom opentelemetry import trace\nsys.stdin.read()\n"
        "print(type(trace.get_tracer_provider()).__module__)\n"
    )
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    found = importlib.util.find_spec("opentelemetry.instrumentation.auto_instrumentation")
    assert found is not None
    assert found.origin is not None
    theirs = [os.path.dirname(found.origin), sysconfig.get_path("purelib")]
    path = env["PYTHONPATH"].replace("/opt/rheostat/", f"{target}/").replace(":/opt/rheostat", f":{target}")
    child_env = {
        **env,
        "PYTHONPATH": os.pathsep.join([path, *theirs]),
        "RHEOSTAT_CONFIG": str(tmp_path / "config.yaml"),
        "RHEOSTAT_START_AFTER": "0",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    with Child([str(tmp_path / "bare/bin/python"), "app.py"], tmp_path, child_env) as child:
        child.event("transition", to="running")
        assert 0 == child.finish()
        assert "opentelemetry.sdk.trace" == child.out.next()


def install(package: str, target: Path) -> None:
    found = importlib.util.find_spec(package)
    assert found is not None
    if found.submodule_search_locations:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(next(iter(found.submodule_search_locations)), target / package, ignore=ignore)
    else:
        assert found.origin is not None
        target.mkdir(exist_ok=True)
        shutil.copy(found.origin, target)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: path.stem)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    """With a program that is there in the place of what is installed elsewhere."""
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", unit.read_text(), flags=re.MULTILINE)
    (tmp_path / unit.name).write_text(text.replace("User=checkout\n", ""))
    verified = ended(["systemd-analyze", "verify", "--man=no", unit.name], tmp_path)
    said = [line for line in verified.stderr.splitlines() if unit.name in line]
    assert (0, []) == (verified.returncode, said), verified.stderr


def test_what_compose_mounts_is_there() -> None:
    """And it is what each program reads; the names of services are those that the others use."""
    folder = DEPLOY / "compose"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    for service in services.values():
        for mount in service.get("volumes", ()):
            assert (folder / mount.partition(":")[0]).exists()
    assert load_config(folder / "config.yaml", env={}, third_party=True).metrics == ("prometheus",)
    named = re.findall(
        r"http://(\w+):|targets: \[\"(\w+):", "".join(each.read_text() for each in folder.glob("*.yaml"))
    )
    assert {name for pair in named for name in pair if name} <= services.keys()
