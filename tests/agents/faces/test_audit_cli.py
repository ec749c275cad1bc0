"""``gossamer audit`` on the log of a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from agents.faces.cli.audit import register
from mesh.core.identity import Authority
from mesh.net import audit
from mesh.net.audit import AuditLog, audit_folder
from mesh.net.statedir import create_identity

app = typer.Typer()
register(app)


@app.callback()
def _main() -> None:
    """A command line with this one part."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    authority = Authority(b"a" * 32)
    node = tmp_path / "node"
    identity = create_identity(
        node, authority, "home", name="node", groups=(), publish=("data.gpt/**",)
    )
    log = AuditLog(audit_folder(node), mesh=identity.trust.mesh, signing=identity.keys.signing)
    log.open()
    log.record("admission", "cam-1", group="cameras")
    log.record("refusal", "cam-\x1b[31m2", code="denied")
    log.close()
    return node


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", *map(str, words)])
    return result.exit_code, result.output


def test_a_log_that_holds_says_so_and_what_to_note(state: Path) -> None:
    code, said = run("verify", "--state", state)
    assert code == 0
    assert "lines hold" in said
    noted = said.split()[-1]
    assert run("verify", "--state", state, "--kept", noted)[0] == 0
    code, said = run("verify", "--state", state, "--json")
    assert json.loads(said)["ok"] is True


def test_a_changed_line_is_named_and_the_exit_code_is_1(state: Path) -> None:
    code, said = run("verify", "--state", state)
    noted = said.split()[-1]
    file = audit_folder(state) / audit.CURRENT
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"cam-1", b"cam-9"))
    code, said = run("verify", "--state", state)
    assert code == 1
    assert "BROKEN at line 2" in said
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]))  # the end cut off: seen by whoever noted it
    assert run("verify", "--state", state)[0] == 0
    code, said = run("verify", "--state", state, "--kept", noted, "--json")
    assert code == 1
    assert "cut off" in json.loads(said)["broken"]["why"]


def test_the_log_is_shown_without_what_a_terminal_obeys(state: Path) -> None:
    code, said = run("show", "--state", state)
    assert code == 0
    assert "cameras" in said
    assert "\x1b[31m" not in said
    code, said = run("show", "--state", state, "--what", "refusal", "--json")
    [entry] = json.loads(said)
    assert entry["detail"] == {"code": "denied"}


def test_without_a_log_or_with_a_wrong_note_one_line_tells_what_to_do(
    state: Path, tmp_path: Path
) -> None:
    code, said = run("verify", "--state", tmp_path / "nowhere")
    assert code == 1
    assert "cannot be read" in said
    assert run("verify", "--state", state, "--kept", "12")[0] == 2
