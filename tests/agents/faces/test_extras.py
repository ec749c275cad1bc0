"""Without an extra a face says which one is missing; nothing else of the agent needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# An import of these fails, as it does where they are not installed.
WITHOUT = "import sys; sys.modules.update({{name: None for name in {names}}});"
MCP = """
from agents.faces.cli import main
sys.argv = ["gossamer", "mcp"]
main()
"""
A2A = """
import asyncio, httpx
from agents.faces.http.app import make_app
from agents.faces.http.settings import Settings
from agents.library import Agent

async def run():
    app = httpx.ASGITransport(make_app(Settings(state="/nowhere"), Agent("/nowhere")))
    async with httpx.AsyncClient(transport=app, base_url="http://localhost") as client:
        answers = [
            await client.get("/.well-known/agent-card.json"),
            await client.get("/.well-known/jwks.json"),
            await client.post("/a2a", json={}),
            await client.get("/openapi.json"),
        ]
    print([answer.status_code for answer in answers])
    print(answers[0].text)

asyncio.run(run())
"""


def run(code: str, *names: str) -> subprocess.CompletedProcess[str]:
    whole = WITHOUT.format(names=list(names)) + code
    return subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, check=False, input=""
    )


def test_without_the_mcp_sdk_the_command_says_what_to_install() -> None:
    done = run(MCP, "mcp", "mcp_types")
    assert done.returncode == 1
    assert "pip install 'gossamer-mesh[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_a2a_sdk_its_paths_answer_501_and_the_others_as_ever() -> None:
    done = run(A2A, "a2a")
    assert done.returncode == 0, done.stderr
    statuses, body = done.stdout.splitlines()
    assert statuses == "[501, 501, 501, 200]"
    error = json.loads(body)["error"]
    assert error["code"] == "not_installed"
    assert "pip install 'gossamer-mesh[a2a]'" in error["message"]


@pytest.mark.parametrize("module", ["a2a", "mcp", "google.protobuf", "opentelemetry"])
def test_the_http_process_starts_without_the_libraries_of_the_extras(module: str) -> None:
    done = run(f"import agents.faces.http.__main__; print({module!r} in sys.modules)")
    assert done.stdout == "False\n", done.stderr
