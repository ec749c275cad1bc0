"""Who may use the HTTP server, and how much of it: the guard, with a real server behind it."""

from __future__ import annotations

import asyncio
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from agents.config import HttpSection
from agents.faces.http.__main__ import listen
from agents.faces.http.child import HttpDoor, settings_of
from agents.faces.http.errors import HttpError
from agents.faces.http.guard import Guard
from agents.faces.http.metrics import HttpMetrics
from agents.faces.http.settings import Settings
from mesh.core.errors import ConfigError
from tests.e2e.serving import KEY, Served, serving

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An agent whose HTTP needs a key and takes little."""
    http = {"key": KEY, "max_body_kb": 4, "max_requests": 1, "origins": ["http://tablet.local"]}
    with serving(tmp_path_factory.mktemp("guarded"), http=http) as found:
        yield found


def get(served: Served, path: str = "/v1/models", **headers: str) -> httpx.Response:
    return httpx.get(served.url + path, headers=headers)


@pytest.mark.e2e
def test_without_the_key_nothing_but_health_answers(guarded: Served) -> None:
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}):
            answer = get(guarded, path, **headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
    assert get(guarded, "/healthz").json() == {"status": "ok"}
    assert get(guarded, authorization=f"Bearer {KEY}").status_code == 200


@pytest.mark.e2e
def test_another_name_of_this_machine_is_refused(served: Served) -> None:
    answer = get(served, host="evil.example:8080")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"
    assert get(served, host="localhost:1").status_code == 200


@pytest.mark.e2e
def test_a_page_from_elsewhere_may_not_use_the_server(served: Served, guarded: Served) -> None:
    assert get(served, origin="https://evil.example").status_code == 403
    assert get(served, origin="null").status_code == 403
    assert get(served, origin=served.url).status_code == 200
    allowed = get(guarded, origin="http://tablet.local", authorization=f"Bearer {KEY}")
    assert allowed.headers["access-control-allow-origin"] == "http://tablet.local"


@pytest.mark.e2e
def test_a_large_body_is_refused_in_openais_shape(guarded: Served) -> None:
    answer = httpx.post(
        guarded.url + CHAT, content=b"x" * 5000, headers={"authorization": f"Bearer {KEY}"}
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.e2e
def test_one_request_too_many_is_told_when_to_come_again(guarded: Served) -> None:
    body = {
        "model": "knowledge.gpt/arithmetic",
        "messages": [{"role": "user", "content": "What is 48 * 27?"}],
    }

    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as client:
            work = [client.post(guarded.url + CHAT, json=body, timeout=60) for _ in range(4)]
            return await asyncio.gather(*work)

    answers = asyncio.run(crowd())
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.e2e
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 1}', b"\xff\xfe", b"[" * 3000])
def test_what_is_no_request_is_answered_400(served: Served, body: bytes) -> None:
    for path in (CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings"):
        answer = httpx.post(served.url + path, content=body)
        assert answer.status_code == 400
        assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


@pytest.mark.e2e
def test_unknown_addresses_and_methods_are_answered_in_openais_shape(served: Served) -> None:
    assert get(served, "/v1/nothing").json()["error"]["code"] == "unknown_url"
    wrong = httpx.get(served.url + CHAT)
    assert wrong.status_code == 405
    assert "error" in wrong.json()


@pytest.mark.e2e
def test_a_client_that_leaves_while_it_is_sending_is_no_error_of_the_server(
    served: Served,
) -> None:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port)) as door:
        door.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{{".encode()
        )
    until = time.monotonic() + 20
    while 'status="499"' not in (page := get(served, "/metrics").text):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert 'status="500"' not in page


async def _slow_body(body_s: float, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("agents.faces.http.guard.BODY_S", body_s)
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    async def receive() -> Message:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    guard = Guard(app, Settings(state=""), HttpMetrics())
    scope = {"type": "http", "path": CHAT, "method": "POST", "headers": [(b"host", b"localhost")]}
    await guard(scope, receive, send)
    assert guard.busy == 0
    return int(sent[0]["status"])


def test_a_body_that_never_comes_does_not_hold_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asyncio.run(_slow_body(0.01, monkeypatch)) == 408


def test_listening_for_others_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no key"):
        settings_of(HttpSection(host="0.0.0.0"), tmp_path)
    with pytest.raises(ConfigError, match="characters"):
        settings_of(HttpSection(host="0.0.0.0", key="short"), tmp_path)
    assert settings_of(HttpSection(host="0.0.0.0", key=KEY), tmp_path).keys == [KEY]
    assert settings_of(HttpSection(), tmp_path).keys == []


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{KEY}\n\n")
    path.chmod(stat.S_IRUSR | stat.S_IROTH)
    section = HttpSection(key_file=path)
    with pytest.raises(ConfigError, match="read by others"):
        settings_of(section, tmp_path)
    path.chmod(stat.S_IRUSR)
    found = settings_of(section, tmp_path)
    assert found.known(KEY)
    assert not found.known(KEY + "x")
    assert not found.known("")


def test_a_refusal_has_a_status_that_says_whether_to_try_again() -> None:
    error = HttpError(429, "full", retry_after_s=7.4)
    assert error.headers() == {"retry-after": "7"}
    assert HttpError(400, "wrong").headers() == {}


def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    # asyncio sets TCP_NODELAY only on sockets that were made as TCP ones.
    with listen(Settings(state="")) as door:
        assert door.proto == socket.IPPROTO_TCP


def test_a_taken_port_is_told_with_what_to_do(tmp_path: Path) -> None:
    with listen(Settings(state="")) as door:
        port = door.getsockname()[1]
        door.listen()

        async def run() -> str:
            child = HttpDoor(tmp_path, HttpSection(port=port))
            await child.start()
            for _ in range(600):
                if child.trouble:
                    break
                await asyncio.sleep(0.05)
            await child.stop()
            return child.trouble

        assert "choose another http.port" in asyncio.run(run())
