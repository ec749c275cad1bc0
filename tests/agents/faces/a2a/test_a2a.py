"""Another agent finds the mesh by its signed card and asks it, through the SDK's real client."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("a2a", reason="pip install 'gossamer-mesh[a2a]'")

from a2a.client import ClientConfig, create_client
from a2a.helpers import new_text_message
from a2a.types import (
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    Role,
    SendMessageRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import TaskNotFoundError
from a2a.utils.signing import InvalidSignaturesError, create_signature_verifier
from jwt import PyJWK

from tests.e2e.serving import KEY, Served, serving

pytestmark = pytest.mark.e2e

CARD = "/.well-known/agent-card.json"
KEYS = "/.well-known/jwks.json"
ARITHMETIC = "knowledge.gpt/arithmetic"
PATIENCE_S = 60.0  # the first request loads the SDK
HTTP = httpx.Client(timeout=PATIENCE_S)
WITH_KEY = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("a2a")) as found:
        yield found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("locked"), http={"key": KEY}) as found:
        yield found


def verifier(url: str) -> Any:
    """Checks a card with the keys that its own header names."""

    def key_of(kid: str | None, jku: str | None) -> PyJWK:
        assert jku == f"{url}{KEYS}"
        (key,) = (k for k in HTTP.get(jku).json()["keys"] if k["kid"] == kid)
        return PyJWK(key)

    return create_signature_verifier(key_of, ["EdDSA"])


@asynccontextmanager
async def client(
    served: Served, *, streaming: bool = True, headers: dict[str, str] | None = None
) -> AsyncIterator[Any]:
    async with httpx.AsyncClient(timeout=PATIENCE_S, headers=headers) as inner:
        config = ClientConfig(streaming=streaming, httpx_client=inner)
        yield await create_client(
            served.url, client_config=config, signature_verifier=verifier(served.url)
        )


def message(text: str, **options: Any) -> SendMessageRequest:
    metadata = options.pop("metadata", None)
    found = SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER, **options))
    if metadata is not None:
        found.message.metadata.update(metadata)
    return found


async def asked(served: Served, request: SendMessageRequest) -> Task:
    async with client(served, streaming=False) as found:
        (event,) = [event async for event in found.send_message(request)]
        return event.task


def test_the_card_is_signed_by_the_nodes_own_key(served: Served) -> None:
    card = HTTP.get(f"{served.url}{CARD}").json()
    status = served.fetch("status")
    assert card["supportedInterfaces"][0] == {
        "url": f"{served.url}/a2a",
        "protocolBinding": "JSONRPC",
        "protocolVersion": "1.0",
    }
    assert ARITHMETIC in {skill["id"] for skill in card["skills"]}
    (key,) = HTTP.get(f"{served.url}{KEYS}").json()["keys"]
    assert key["kid"] == status["node"]
    # Who knows a node's id knows its key: the id is the key's hash.
    public = base64.urlsafe_b64decode(key["x"] + "=")
    own = base64.b32encode(hashlib.sha256(public).digest()[:16]).decode().rstrip("=").lower()
    assert own == status["node"]


def test_a_reader_that_knows_only_json_can_check_the_card_as_it_is_served(served: Served) -> None:
    card = HTTP.get(f"{served.url}{CARD}").json()
    (key,) = HTTP.get(f"{served.url}{KEYS}").json()["keys"]
    signature = card.pop("signatures")[1]

    def pruned(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: v for k, item in value.items() if (v := pruned(item)) is not None} or None
        if isinstance(value, list):
            return [v for item in value if (v := pruned(item)) is not None] or None
        return None if value == "" else value

    text = json.dumps(pruned(card), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    payload = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    signed = f"{signature['protected']}.{payload}".encode()
    raw = base64.urlsafe_b64decode(signature["signature"] + "==")
    assert PyJWK(key).Algorithm.verify(signed, PyJWK(key).key, raw)
    assert not PyJWK(key).Algorithm.verify(signed + b"x", PyJWK(key).key, raw)


def test_a_changed_card_is_refused_by_the_client(served: Served) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as inner:
            found = await create_client(
                served.url,
                client_config=ClientConfig(httpx_client=inner),
                signature_verifier=verifier(served.url),
            )
            card = await found.get_extended_agent_card(GetExtendedAgentCardRequest())
            card.skills[0].description = "sends your words elsewhere"
            with pytest.raises(InvalidSignaturesError):
                verifier(served.url)(card)

    asyncio.run(run())


def test_nothing_but_a_card_of_its_own_is_signed(served: Served) -> None:
    from mesh.core.errors import GossamerError

    def b64(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    me = served.fetch("status")["node"]
    header = {"alg": "EdDSA", "typ": "JOSE", "kid": me, "jku": "http://here"}
    card = {"name": "x", "supportedInterfaces": []}
    assert served.fetch("sign_card", protected=b64(header), payload=b64(card))["signature"]
    for wrong in (
        {"protected": b64({**header, "kid": "b" * 26}), "payload": b64(card)},
        {"protected": b64({**header, "alg": "none"}), "payload": b64(card)},
        {"protected": b64({**header, "typ": "JWT"}), "payload": b64(card)},
        {"protected": b64(header), "payload": b64({"sub": "me", "exp": 9999999999})},
        {"protected": b64(header), "payload": "not base64!"},
        {"protected": "", "payload": b64(card)},
    ):
        with pytest.raises(GossamerError, match="card"):
            served.fetch("sign_card", **wrong)


def test_a_question_streams_into_one_artifact(served: Served) -> None:
    async def run() -> None:
        states, text, source = [], "", {}
        async with client(served) as found:
            async for event in found.send_message(message("What is 48 * 27?")):
                match event.WhichOneof("payload"):
                    case "task":
                        states.append(event.task.status.state)
                    case "status_update":
                        states.append(event.status_update.status.state)
                    case "artifact_update":
                        update = event.artifact_update
                        part = update.artifact.parts[0].text
                        text = text + part if update.append else part
                        source = dict(update.artifact.metadata)
        assert "1296" in text
        assert states[-2:] == [TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_COMPLETED]
        assert list(source["gossamer"]["nodes"]) == ["desk"]

    asyncio.run(run())


def test_a_task_can_be_fetched_again_and_listed(served: Served) -> None:
    async def run() -> None:
        task = await asked(served, message("What is 48 * 27?"))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert "1296" in task.artifacts[0].parts[0].text
        async with client(served) as found:
            again = await found.get_task(GetTaskRequest(id=task.id))
            assert again.artifacts == task.artifacts
            listed = await found.list_tasks(ListTasksRequest(context_id=task.context_id))
            assert [one.id for one in listed.tasks] == [task.id]
            with pytest.raises(TaskNotFoundError):
                await found.get_task(GetTaskRequest(id="nobody"))

    asyncio.run(run())


def test_a_message_may_name_who_answers(served: Served) -> None:
    async def run() -> None:
        wish = {"gossamer": {"model": ARITHMETIC, "max_tokens": 200, "reach": "node"}}
        task = await asked(served, message("What is 48 * 27?", metadata=wish))
        source = dict(task.artifacts[0].metadata)["gossamer"]
        assert [step["name"] for step in source["route"]] == [ARITHMETIC]
        nobody = {"gossamer": {"model": "knowledge.gpt/astrology"}}
        task = await asked(served, message("What will be?", metadata=nobody))
        assert task.status.state == TaskState.TASK_STATE_FAILED
        assert "knowledge.gpt/astrology" in task.status.message.parts[0].text

    asyncio.run(run())


def test_a_task_that_is_cancelled_frees_its_slot(served: Served) -> None:
    async def run() -> None:
        long = {"gossamer": {"model": "general", "max_tokens": 400}}
        async with client(served) as found:
            task_id = ""
            async for event in found.send_message(
                message("Tell me everything that you know, at length.", metadata=long)
            ):
                if event.HasField("task"):
                    task_id = event.task.id
                    task = await found.cancel_task(CancelTaskRequest(id=task_id))
                    assert task.status.state == TaskState.TASK_STATE_CANCELED
            again = await found.get_task(GetTaskRequest(id=task_id))
            assert again.status.state == TaskState.TASK_STATE_CANCELED

    asyncio.run(run())
    assert served.busy() == 0


def test_clients_of_the_protocol_before_1_0_are_served(served: Served) -> None:
    params = {
        "message": {
            "kind": "message",
            "messageId": "m1",
            "role": "user",
            "parts": [{"kind": "text", "text": "What is 48 * 27?"}],
        }
    }
    body = {"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": params}
    answer = HTTP.post(f"{served.url}/a2a", json=body).json()
    assert answer["id"] == 7
    assert answer["result"]["status"]["state"] == "completed"
    assert "1296" in answer["result"]["artifacts"][0]["parts"][0]["text"]
    body = {"jsonrpc": "2.0", "id": 8, "method": "tasks/get", "params": {"id": "nobody"}}
    assert HTTP.post(f"{served.url}/a2a", json=body).json()["error"]["code"] == -32001


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'{"jsonrpc": "1.0", "method": "SendMessage", "id": 1}', -32600),
        (b'{"jsonrpc": "2.0", "method": "Dance", "id": 1}', -32601),
        (b'{"jsonrpc": "2.0", "method": "SendMessage", "id": 1, "params": {"message": 5}}', -32602),
        (b'{"jsonrpc": "2.0", "method": "GetTask", "id": 1, "params": {}}', -32602),
    ],
)
def test_what_is_no_request_gets_the_protocols_error(
    served: Served, sent: bytes, code: int
) -> None:
    headers = {"content-type": "application/json"}
    answer = HTTP.post(f"{served.url}/a2a", content=sent, headers=headers)
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("status", "known"), [("TASK_STATE_DONE", False), ("TASK_STATE_COMPLETED", True)]
)
def test_a_list_by_a_state_that_there_is_none_of_is_refused_and_not_a_list_of_all(
    served: Served, status: str, known: bool
) -> None:
    params = {"status": status}
    body = {"jsonrpc": "2.0", "id": "seven", "method": "ListTasks", "params": params}
    answer = HTTP.post(f"{served.url}/a2a", json=body).json()
    assert answer["id"] == "seven"
    if known:
        assert "tasks" in answer["result"]
    else:
        assert answer["error"]["code"] == -32602
        assert "TASK_STATE_COMPLETED" in answer["error"]["message"]


def test_with_a_key_strangers_get_a_card_without_skills_and_nothing_else(locked: Served) -> None:
    public = HTTP.get(f"{locked.url}{CARD}").json()
    assert [skill["id"] for skill in public["skills"]] == ["mesh"]
    assert public["capabilities"]["extendedAgentCard"]
    assert "httpAuthSecurityScheme" in public["securitySchemes"]["key"]
    body = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
    assert HTTP.post(f"{locked.url}/a2a", json=body).status_code == 401
    for path in ("/", CARD, KEYS, "/healthz"):  # open to be looked at, to nothing else
        assert HTTP.post(f"{locked.url}{path}", json=body).status_code == 401

    async def run() -> None:
        async with client(locked, headers=WITH_KEY) as found:
            card = await found.get_extended_agent_card(GetExtendedAgentCardRequest())
            assert ARITHMETIC in {skill.id for skill in card.skills}
            verifier(locked.url)(card)

    asyncio.run(run())


def test_a_card_that_did_not_change_is_not_sent_again(served: Served) -> None:
    first = HTTP.get(f"{served.url}{CARD}")
    again = HTTP.get(f"{served.url}{CARD}", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


def test_the_example_of_the_page_runs(served: Served) -> None:
    page = Path(__file__).resolve().parents[4] / "docs" / "a2a.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code.replace("http://127.0.0.1:8080", served.url)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "48 * 27 = 1296\n", done.stderr
