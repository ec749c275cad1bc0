"""LangChain and LiteLLM reach the mesh as they reach OpenAI."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from tests.e2e.serving import Served

pytestmark = pytest.mark.e2e

NAME = "knowledge.gpt/arithmetic"


def test_langchain_asks_streams_and_uses_a_tool(served: Served) -> None:
    library = pytest.importorskip("langchain_openai", reason="pip install 'gossamer-mesh[clients]'")
    model = library.ChatOpenAI(base_url=f"{served.url}/v1", api_key="none", model="mesh")
    answer = model.invoke("What is 48 * 27?")
    assert "1296" in answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    assert "1296" in "".join(piece.content for piece in model.stream("What is 48 * 27?"))
    assert "1296" in asyncio.run(model.ainvoke("What is 48 * 27?")).content

    def set_lamp(on: bool) -> str:
        """Switches a lamp."""
        return str(on)

    expert = library.ChatOpenAI(base_url=f"{served.url}/v1", api_key="none", model=NAME)
    bound = expert.bind_tools([set_lamp], tool_choice="set_lamp")
    call = bound.invoke("What is 48 * 27?").tool_calls[0]
    assert call["name"] == "set_lamp"
    assert isinstance(call["args"]["on"], bool)


def test_langchain_embeds(served: Served) -> None:
    library = pytest.importorskip("langchain_openai", reason="pip install 'gossamer-mesh[clients]'")
    embedder = library.OpenAIEmbeddings(
        base_url=f"{served.url}/v1",
        api_key="none",
        model="general",
        check_embedding_ctx_length=False,
    )
    assert len(embedder.embed_documents(["one", "two"])) == 2


LITELLM = """
import sys, litellm
asked = dict(model="openai/" + sys.argv[2], api_base=sys.argv[1], api_key="none",
             messages=[{"role": "user", "content": "What is 48 * 27?"}])
print(litellm.completion(**asked).choices[0].message.content)
pieces = litellm.completion(**asked, stream=True)
print("".join(piece.choices[0].delta.content or "" for piece in pieces))
"""


def test_litellm_asks_and_streams(served: Served) -> None:
    # It holds openai at 2.x, so it may live in an environment of its own.
    python = os.environ.get("GOSSAMER_LITELLM_PYTHON", "")
    if not python:
        pytest.importorskip("litellm", reason="gossamer-mesh[litellm], or GOSSAMER_LITELLM_PYTHON")
    found = subprocess.run(
        [python or sys.executable, "-c", LITELLM, f"{served.url}/v1", NAME],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    assert found.stdout.split("\n")[:2] == ["48 * 27 = 1296"] * 2, found.stderr[-2000:]
