"""What one hop of the mesh adds to a call, beside what LiteLLM's proxy adds, on the same engine.

The engine and its HTTP are on one node. It is asked directly, through another node of the mesh
(HTTP there, then one encrypted hop), and through LiteLLM's proxy, in turn, one token each.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np

from benchmarks._http_target import Target, authority
from benchmarks._report import Options, progress

NAME = "knowledge.gpt/arithmetic"
START_S = 180.0
KEY = f"sk-{secrets.token_hex(16)}"  # without one LiteLLM's proxy does not start
CALLS, QUICK_CALLS = 300, 40
WARM = 10  # calls that are not counted: the first ones open connections and compile templates


def measure_overhead(litellm_python: Path | None, calls: int) -> dict[str, Any]:
    """Milliseconds added at p50 and p95; LiteLLM's are null without an interpreter that has it."""
    with TemporaryDirectory(prefix="gossamer-http-") as name, ExitStack() as stack:
        folder = Path(name)
        signer = authority(folder)
        model = {"path": "builtin:arithmetic", "context": 512, "threads": 1}
        far = stack.enter_context(Target(folder, signer, "far", models=[model]))
        far.wait()
        near = stack.enter_context(Target(folder, signer, "near", seeds=[far.seed]))
        near.wait(peers=1)
        ways = {"direct": f"{far.url}/v1", "hop": f"{near.url}/v1"}
        if litellm_python is not None:
            ways["litellm"] = stack.enter_context(_Proxy(litellm_python, far.url, folder)).url
        took = _ask(ways, calls)
    figures: dict[str, Any] = {"calls": calls, "direct_ms": _at(took["direct"])}
    for way, key in (("hop", ""), ("litellm", "litellm_")):
        for quantile in (50, 95):
            added = None
            if way in took:
                both = [float(np.percentile(took[w], quantile)) for w in (way, "direct")]
                added = round(both[0] - both[1], 2)
            figures[f"{key}p{quantile}"] = added
    return figures


def _at(values: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95)}


def _ask(ways: dict[str, str], calls: int) -> dict[str, list[float]]:
    """Milliseconds of each call, the ways in turn, each over a connection that stays open."""
    took: dict[str, list[float]] = {way: [] for way in ways}
    body = {"model": NAME, "messages": [{"role": "user", "content": "7 + 5"}], "max_tokens": 1}
    headers = {"authorization": f"Bearer {KEY}"}
    with ExitStack() as stack:
        clients = {
            way: stack.enter_context(httpx.Client(base_url=url, timeout=60, headers=headers))
            for way, url in ways.items()
        }
        for number in range(WARM + calls):
            for way, client in clients.items():
                began = time.perf_counter()
                answer = client.post("/chat/completions", json=body)
                elapsed_ms = (time.perf_counter() - began) * 1000
                answer.raise_for_status()
                if number >= WARM:
                    took[way].append(elapsed_ms)
    return took


class _Proxy(ExitStack):
    """LiteLLM's proxy, from an environment of its own, in front of one engine."""

    def __init__(self, python: Path, upstream: str, folder: Path) -> None:
        super().__init__()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        params = {"model": f"openai/{NAME}", "api_base": f"{upstream}/v1", "api_key": "none"}
        config = folder / "litellm.yaml"  # JSON is YAML
        config.write_text(
            json.dumps({"model_list": [{"model_name": NAME, "litellm_params": params}]})
        )
        log = self.enter_context((folder / "litellm.log").open("wb"))
        command = [str(python.parent / "litellm"), "--config", str(config)]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MASTER_KEY": KEY,
                "PYTHONPATH": "",
            },
        )
        self.callback(process.wait)
        self.callback(process.terminate)
        self.url = f"http://127.0.0.1:{port}/v1"
        progress("waiting for LiteLLM's proxy")
        until = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}/health/liveliness"):
            if process.poll() is not None or time.monotonic() > until:
                tail = (folder / "litellm.log").read_text()[-800:]
                self.close()
                raise RuntimeError(f"LiteLLM's proxy did not come up: {tail}")
            time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def part(options: Options) -> dict[str, Any]:
    """As a part of benchmarks.scheduling."""
    return measure_overhead(options.more.litellm_python, QUICK_CALLS if options.quick else CALLS)


PARTS = {"overhead_ms": part}
