"""A server that is not ours as the cloud: llama-cpp-python's own, where its extra is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing

import httpx
import pytest

from capabilities.cloud.client import Endpoint
from capabilities.cloud.failover import Asked, Cloud
from capabilities.cloud.keys import Secret
from capabilities.cloud.provider import Provider
from capabilities.messages import Delta, Done, Generate, Message
from capabilities.slm.embedded import embedded_models
from tests.capabilities.cloud.purses import FakePurse

NEEDED = ("fastapi", "sse_starlette", "starlette_context")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED),
        reason="llama-cpp-python[server] is not installed (the extra peers has it)",
    ),
]
KEY = "sk-llama-server"
START_S = 120.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--port", str(port), "--api_key", KEY]
    command += ["--model", str(embedded_models()["general"].path), "--n_threads", "1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                httpx.get(f"{base}/models", headers={"authorization": f"Bearer {KEY}"})
                break
            except httpx.HTTPError:
                assert server.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)
        yield base
    finally:
        server.terminate()
        server.wait(30)


def test_an_answer_of_another_server_streams_and_is_paid_for(url: str) -> None:
    async def main() -> None:
        provider = Provider(
            name="llama", base_url=url, model="any", prompt_price=1.0, completion_price=2.0
        )
        purse = FakePurse()
        cloud = Cloud([Endpoint(provider, Secret(KEY))], purse)
        body = Generate(messages=[Message("user", "What is Gossamer?")], max_tokens=48)
        text = ""
        asked = Asked(body=body, deadline=time.monotonic() + 60)
        async with aclosing(cloud.answer(asked)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    text += event.text
                else:
                    assert isinstance(event, Done)
                    assert event.text == text
                    assert event.paid is not None
                    assert event.paid.cost > 0
        assert text
        bill = purse.bills["1"]
        assert bill is not None
        assert 0 < bill.nano <= purse.claims[0].nano
        await cloud.close()

    asyncio.run(main())
