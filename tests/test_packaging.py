"""What ships beside the packages: the installer, the container, the cluster's manifests."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
INSTALLER = ROOT / "install.sh"
SCRIPTS = [INSTALLER, *sorted((ROOT / "packaging/check").glob("*.sh"))]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "packaging/k3s/gossamer.yaml").read_text())
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck here")
    subprocess.run(["shellcheck", "-s", "sh", "-x", str(script)], check=True, cwd=ROOT)


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(INSTALLER), *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )


def test_a_dry_run_says_each_step_and_does_nothing(tmp_path: Path) -> None:
    done = run("--dry-run", "--prefix", str(tmp_path / "gossamer"), "--mesh", "home")
    assert done.returncode == 0, done.stderr
    assert "[1/9] machine" in done.stderr
    assert "Nothing was done" in done.stderr
    assert not (tmp_path / "gossamer").exists()


def test_the_dry_run_works_through_a_pipe_as_the_one_line_does(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-s", "--", "--dry-run", "--prefix", str(tmp_path / "gossamer")],
        input=INSTALLER.read_text(),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "from gossamer-mesh" in done.stderr, "a pipe has no folder to install from"


def test_wrong_options_and_a_wheelhouse_that_is_none_are_told(tmp_path: Path) -> None:
    assert "unknown option --wheelhose" in run("--wheelhose", "x").stderr
    assert "joins one" in run("--mesh", "a", "--invitation-file", "b").stderr
    done = run("--dry-run", "--wheelhouse", str(tmp_path))
    assert done.returncode == 1
    assert "is no wheelhouse" in done.stderr


def test_a_damaged_wheelhouse_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/a.whl").write_text("changed on the way")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  wheels/a.whl\n")
    assert "damaged" in run("--dry-run", "--wheelhouse", str(tmp_path)).stderr


def test_the_installers_requirement_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(d for d in project["dependencies"] if d.startswith("llama-cpp-python"))
    assert f"LLAMA_REQUIREMENT='{wanted}'" in INSTALLER.read_text()
    assert f'"{wanted}"' in (ROOT / "Dockerfile").read_text()


def options_of(command: list[str]) -> set[str]:
    return {word for word in command if word.startswith("--")}


def known_options() -> set[str]:
    import typer.main

    from agents.faces.cli.boards import board_app

    group = typer.main.get_command(board_app)
    return {opt for param in group.commands["run"].params for opt in param.opts}  # type: ignore[attr-defined]


def test_containers_start_with_options_that_there_are() -> None:
    known = known_options()
    agents = [service["command"] for service in COMPOSE["services"].values()]
    daemon = next(m for m in MANIFESTS if m["kind"] == "DaemonSet")
    agents.append(daemon["spec"]["template"]["spec"]["containers"][0]["args"])
    for command in agents:
        assert options_of(command) <= known


def test_compose_has_three_agents_and_every_volume_that_they_name() -> None:
    services = COMPOSE["services"]
    assert len(services) == 3
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_no_manifest_holds_an_invitation() -> None:
    for path in ("compose.yaml", "Dockerfile", "packaging/k3s/gossamer.yaml"):
        assert not re.search(r"gossamer1\.\w", (ROOT / path).read_text())


def test_the_daemonset_fits_together() -> None:
    daemon = next(m for m in MANIFESTS if m["kind"] == "DaemonSet")
    spec = daemon["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    pod = spec["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None, reason="no kubernetes-validate"
)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: m["kind"])
def test_the_manifests_fit_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(manifest, "1.31", strict=True)
