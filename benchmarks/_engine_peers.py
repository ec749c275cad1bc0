"""The servers that the engine is measured beside, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 240.0
READ_S = 600.0
# One line of Python is the whole server; it ends when its standard input does.
_XLLAMACPP = """
import sys, xllamacpp as x
path, threads, context, slots = sys.argv[1], *map(int, sys.argv[2:5])
p = x.CommonParams()
p.model.path = path
p.n_ctx, p.n_parallel, p.kv_unified, p.port, p.warmup = context, slots, True, 0, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
p.no_extra_bufts = bool(int(sys.argv[5]))
server = x.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@dataclass
class Peer:
    """A server that speaks the completions API over HTTP."""

    name: str
    url: str
    process: subprocess.Popen[str]

    async def stream(self, prompt: str, tokens: int) -> AsyncIterator[float]:
        """The time of each piece of the answer, which has exactly ``tokens`` where it can."""
        import httpx

        # As the chat template of the synthetic models renders it, so that both sides read the same.
        prompt = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        body: dict[str, Any] = {"prompt": prompt, "stream": True, "temperature": 0.0}
        if self.name != "llama_cpp.server":
            # No side keeps prompts here: the template's beginning would be spared on one only.
            body |= {"n_predict": tokens, "ignore_eos": True, "cache_prompt": False}
            path = "/completion"
        else:
            body |= {"max_tokens": tokens}
            path = "/v1/completions"
        async with (
            httpx.AsyncClient(timeout=READ_S) as client,
            client.stream("POST", self.url + path, json=body) as reply,
        ):
            reply.raise_for_status()
            async for line in reply.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                data = json.loads(line.removeprefix("data: "))
                # A piece without text is a token too: half a character, or an unused one.
                if not data.get("stop"):
                    yield time.perf_counter()

    def stop(self) -> None:
        """End it and wait."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


async def xllamacpp(path: Path, *, threads: int, context: int, slots: int, safe: bool) -> Peer:
    """llama.cpp's own server, as the xllamacpp wheel ships it."""
    sizes = [str(path), str(threads), str(context), str(slots), str(int(safe))]
    process = subprocess.Popen(  # noqa: ASYNC220 - milliseconds, and nothing else runs
        [sys.executable, "-c", _XLLAMACPP, *sizes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    url = ""
    while not url.startswith("http"):
        line = await asyncio.to_thread(process.stdout.readline)
        if not line:
            raise RuntimeError("xllamacpp's server did not start")
        url = line.strip()
    peer = Peer("xllamacpp", url, process)
    await _answering(peer)
    return peer


async def llama_server(
    binary: Path, path: Path, *, threads: int, context: int, slots: int, safe: bool
) -> Peer:
    """A llama-server that somebody built, with the settings that the wheel's is given."""
    port = _free_port()
    command = [str(binary), "--model", str(path), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ctx-size", str(context), "--parallel", str(slots), "--kv-unified", "--no-ui"]
    command += ["--threads", str(threads), "--threads-batch", str(threads), "--log-disable"]
    command += ["--no-repack"] if safe else []
    process = subprocess.Popen(  # noqa: ASYNC220 - as above
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    peer = Peer("llama-server", f"http://127.0.0.1:{port}", process)
    await _answering(peer)
    return peer


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def llama_cpp_server(path: Path, *, threads: int, context: int, safe: bool) -> Peer:
    """The server of llama-cpp-python."""
    port = _free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(path)]
    command += ["--n_ctx", str(context), "--n_threads", str(threads), "--port", str(port)]
    command += ["--n_threads_batch", str(threads), "--verbose", "false"]
    process = subprocess.Popen(  # noqa: ASYNC220 - as above
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    peer = Peer("llama_cpp.server", f"http://127.0.0.1:{port}", process)
    await _answering(peer)
    return peer


async def _answering(peer: Peer) -> None:
    import httpx

    deadline = time.monotonic() + START_S
    async with httpx.AsyncClient(timeout=5) as client:
        while time.monotonic() < deadline:
            if peer.process.poll() is not None:
                raise RuntimeError(f"{peer.name} ended with code {peer.process.returncode}")
            try:
                if (await client.get(peer.url + "/v1/models")).status_code < 400:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
    peer.stop()
    raise RuntimeError(f"{peer.name} did not answer within {START_S:.0f} s")


def builds(server: Path | None = None) -> dict[str, str]:
    """What each side's native code was compiled for, or by."""

    import llama_cpp.llama_cpp as lib

    found = {"gossamer": lib.llama_print_system_info().decode().strip()}
    try:
        import xllamacpp

        found["xllamacpp"] = str(xllamacpp.get_system_info()).strip()
    except ImportError:
        pass
    if server is not None:
        told = subprocess.run(
            [str(server), "--version"], capture_output=True, text=True, timeout=30, check=False
        )
        found["llama-server"] = " ".join((told.stdout + told.stderr).split())
    return found
