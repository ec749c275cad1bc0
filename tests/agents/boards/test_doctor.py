"""What doctor finds, on made-up machines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.boards import doctor
from agents.boards.checks import FAIL, OK, WARN, Check
from agents.faces.cli.app import app
from tests.agents.faces.fake_agent import running


def test_an_old_python_fails_and_a_new_one_passes() -> None:
    assert doctor.check_python((3, 10, 9)).status == FAIL
    assert doctor.check_python((3, 11, 0)).status == OK
    assert doctor.check_python((4, 0, 0)).status == OK


def test_a_missing_compiler_is_a_warning_that_says_what_to_install() -> None:
    check = doctor.check_compiler(lambda name: "/usr/bin/cc" if name == "cc" else None)
    assert check.status == WARN
    assert "build-essential" in check.advice
    assert doctor.check_compiler(lambda name: f"/usr/bin/{name}").status == OK


@pytest.mark.parametrize(("available_mb", "status"), [(200, FAIL), (600, WARN), (4000, OK)])
def test_memory_is_held_against_what_an_agent_takes(
    tmp_path: Path, available_mb: int, status: str
) -> None:
    meminfo = tmp_path / "proc/meminfo"
    meminfo.parent.mkdir()
    meminfo.write_text(f"MemTotal: 9999999 kB\nMemAvailable: {available_mb * 1024} kB\n")
    check = doctor.check_memory(tmp_path)
    assert check.status == status
    assert bool(check.advice) == (status != OK)


def test_another_distribution_with_our_package_name_is_named() -> None:
    check = doctor.check_neighbours({"agents": ["openai-agents"], "mesh": ["gossamer-mesh"]})
    assert check.status == FAIL
    assert check.value == "openai-agents owns agents"
    assert "environment of its own" in check.advice
    assert doctor.check_neighbours({"agents": ["gossamer-mesh"]}).status == OK


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("raise ImportError('libgomp.so.1 is missing')", "libgomp.so.1"),
    ],
)
def test_native_code_that_dies_while_loading_is_one_finding(code: str, value: str) -> None:
    check = doctor.check_llama([sys.executable, "-c", code])
    assert check.status == FAIL
    assert value in check.value
    assert "pip install" in check.advice


def test_the_features_that_llama_uses_are_listed() -> None:
    code = "print('CPU : AVX = 1 | AVX512 = 0 | NEON = 1 |')"
    assert doctor.check_llama([sys.executable, "-c", code]).value == "loads; uses AVX, NEON"


def test_embedded_models_are_listed_and_a_damaged_one_fails(tmp_path: Path) -> None:
    assert doctor.check_models(tmp_path).status == WARN
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF" + bytes(2_000_000))
    assert doctor.check_models(tmp_path).value == "tiny (2.0 MB)"
    (tmp_path / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1")
    check = doctor.check_models(tmp_path)
    assert check.status == FAIL
    assert "pointer.gguf" in check.value


def test_a_running_agent_is_found(tmp_path: Path) -> None:
    assert doctor.check_agent(tmp_path).value == "none runs here"
    with running(tmp_path):
        assert doctor.check_agent(tmp_path).value.startswith("desk up 5 s")


def test_every_required_library_is_looked_for() -> None:
    names = {check.name for check in doctor.check_libraries()}
    assert {"pyzmq", "msgspec", "cryptography", "llama-cpp-python", "typer"} <= names
    assert not {"pytest", "torch"} & names


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(_: Path) -> Check:
        raise OSError("no such file")

    monkeypatch.setattr(doctor, "check_memory", broken)
    monkeypatch.setattr(doctor, "check_llama", lambda: Check(name="llama.cpp", status=OK, value=""))
    checks = {check.name: check for check in doctor.examine(tmp_path)}
    assert checks["memory"].status == WARN
    assert "no such file" in checks["memory"].value
    assert checks["agent"].value == "none runs here"


@pytest.mark.parametrize(("status", "code"), [(OK, 0), (WARN, 0), (FAIL, 1)])
def test_the_exit_code_is_0_unless_something_failed(
    monkeypatch: pytest.MonkeyPatch, status: str, code: int
) -> None:
    found = [Check(name="thing", status=status, value="as it is", advice="mend it")]
    monkeypatch.setattr(doctor, "examine", lambda _: found)
    plain = CliRunner().invoke(app, ["doctor"])
    assert plain.exit_code == code
    assert "mend it" in plain.stdout
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert told["ok"] == (code == 0)
    assert told["checks"][0]["name"] == "thing"
