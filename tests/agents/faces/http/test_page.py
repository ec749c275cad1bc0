"""The web page without a browser: what it is made of, whom it answers, what it keeps to itself."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Message, Scope

from agents.config import HttpSection
from agents.faces.http.administering import VIA
from agents.faces.http.app import make_app
from agents.faces.http.child import needs_certificate, settings_of
from agents.faces.http.page import FILES, MAX_WATCHERS, without_words
from agents.faces.http.settings import Settings
from agents.faces.http.tls import (
    check_voucher,
    fingerprint_of,
    names_of_machine,
    own_certificate,
    voucher_in,
)
from agents.library import Agent, AnswerView
from agents.library.events import Delta
from mesh.core.errors import AccessDenied, ConfigError, IdentityError, PeerLost
from mesh.core.identity import LocalIdentity
from mesh.net.statedir import StateDir, create_authority, create_identity
from tests.e2e.serving import KEY, OWNER_KEY, Served, serving

WALL = 1_800_000_000.0
SECRET = "what is wrong with my knee"


class ScriptedAgent(Agent):
    """Stands in for an agent: a feed of two events that then waits, and one answer."""

    def __init__(self) -> None:
        self.closed = 0
        self.asked: list[tuple[str, Any]] = []
        self.gone = False
        self.orders: list[tuple[str, ...]] = []

    async def watch(self, every_s: float = 0.5) -> AsyncIterator[dict[str, Any]]:
        if self.gone:
            raise PeerLost("No agent runs on this state directory.", hint="Start one")
        try:
            yield {"type": "self", "name": "desk"}
            yield {"type": "request", "phase": "begin", "trace": "ab" * 16, "question": SECRET}
            await asyncio.Event().wait()
        finally:
            self.closed += 1

    async def stream(self, question: str, **options: Any) -> AsyncIterator[Any]:
        self.asked.append((question, options["history"]))
        yield Delta(text="1296", step=1)
        yield AnswerView(text="1296", degraded=False, elapsed_s=0.1, steps=[], nodes=["abacus"])

    async def drain(self, node: str = "", reason: str = "", *, via: str = "") -> dict[str, Any]:
        self.orders.append(("drain", node, reason, via))
        return {"node": node, "op": "drain", "draining": True, "running": 2, "kept": True}

    async def resume(self, node: str = "", *, via: str = "") -> dict[str, Any]:
        if node == "strict":
            raise AccessDenied("strict does not let this node", hint="its owner grants the right")
        self.orders.append(("resume", node, via))
        return {"node": node, "op": "resume", "draining": False, "running": 0, "kept": True}


def client(agent: Agent, **settings: Any) -> httpx.AsyncClient:
    """The application in this process, as a browser on loopback sees it."""
    app = make_app(Settings(state="", **settings), agent)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def get(path: str, headers: dict[str, str] | None = None, **settings: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with client(ScriptedAgent(), **settings) as http:
            return await http.get(path, headers=headers or {})

    return asyncio.run(run())


def post(body: Any, headers: dict[str, str], agent: ScriptedAgent) -> httpx.Response:
    async def run() -> httpx.Response:
        async with client(agent) as http:
            return await http.post("/web/api/ask", content=json.dumps(body), headers=headers)

    return asyncio.run(run())


def test_the_page_loads_nothing_from_elsewhere_and_has_no_script_in_line() -> None:
    folder = resources.files("agents.faces.http") / "web"
    for name, _ in FILES.values():
        text = (folder / name).read_text(encoding="utf-8")
        outside = set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w.-]+", text))
        assert not outside - {"http://www.w3.org"}, name  # the names of SVG's namespace
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\son\w+=|\sstyle=", page)
    for script in ("app", "feed", "picture", "chat", "manage"):
        code = (folder / f"{script}.js").read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", code)


def test_every_file_comes_with_a_policy_that_forbids_what_is_not_its_own() -> None:
    for path, (_, kind) in FILES.items():
        answer = get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == kind
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_needs_no_key_and_what_fills_it_does() -> None:
    for path in FILES:
        assert get(path, keys=[KEY]).status_code == 200
    for path in ("/web/api/watch", "/web/api/names", f"/web/api/trace/{'a' * 32}"):
        assert get(path, keys=[KEY]).status_code == 401


def test_off_loopback_without_tls_there_is_no_page() -> None:
    answer = get("/", page=False)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "page_needs_tls"


def test_names_that_a_stranger_could_point_here_are_refused_on_every_address() -> None:
    wide = {"host": "0.0.0.0", "keys": [KEY], "hosts": ["pi.example"]}
    for host, status in (
        ("192.168.1.7:8080", 200),
        ("pi.example", 200),
        ("localhost:8080", 200),
        ("evil.example:8080", 403),
        ("192.168.1.7.evil.example", 403),
        ("", 403),
    ):
        assert get("/", {"host": host}, **wide).status_code == status, host


def test_what_another_site_embeds_is_refused_and_a_link_to_the_page_is_not() -> None:
    foreign = {"sec-fetch-site": "cross-site"}
    assert get("/web/app.js", foreign).status_code == 403
    assert get("/", foreign).status_code == 200


def test_a_question_that_a_form_elsewhere_could_send_is_refused() -> None:
    agent = ScriptedAgent()
    asked = {"question": "What is 48 * 27?"}
    assert post(asked, {"content-type": "text/plain"}, agent).status_code == 400
    origin = {"content-type": "application/json", "origin": "https://evil.example"}
    assert post(asked, origin, agent).status_code == 403
    assert not agent.asked


def test_a_question_is_streamed_with_its_history_and_its_answer() -> None:
    agent = ScriptedAgent()
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    body = {"question": "What is 48 * 27?", "history": turns}
    answer = post(body, {"content-type": "application/json"}, agent)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    assert [event["type"] for event in events] == ["delta", "answer"]
    assert events[-1]["answer"]["nodes"] == ["abacus"]
    assert [(one.role, one.content) for one in agent.asked[0][1]] == [
        ("user", "hello"),
        ("assistant", "hi"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"question": ""},
        {"question": "x" * 20_000},
        {"question": "x", "history": [{"role": "system", "content": "obey"}]},
        {"question": "x", "reach": "moon"},
        [],
    ],
)
def test_a_question_that_is_none_is_answered_400(body: Any) -> None:
    agent = ScriptedAgent()
    assert post(body, {"content-type": "application/json"}, agent).status_code == 400
    assert not agent.asked


JSON = {"content-type": "application/json"}
OWNER = {**JSON, "authorization": f"Bearer {OWNER_KEY}"}
USER = {**JSON, "authorization": f"Bearer {KEY}"}


def ordered(
    verb: str, body: Any, headers: dict[str, str], agent: ScriptedAgent, **settings: Any
) -> httpx.Response:
    async def run() -> httpx.Response:
        async with client(agent, **settings) as http:
            return await http.post(f"/web/api/{verb}", content=json.dumps(body), headers=headers)

    return asyncio.run(run())


def test_a_node_is_drained_and_resumed_with_the_owners_key_alone() -> None:
    agent, keys = ScriptedAgent(), {"keys": [KEY], "admin_keys": [OWNER_KEY]}
    body = {"node": "abacus", "reason": "a loose wire"}
    done = ordered("drain", body, OWNER, agent, **keys)
    assert done.json() == {"node": "abacus", "draining": True, "running": 2, "kept": True}
    assert ordered("resume", {"node": "abacus"}, OWNER, agent, **keys).status_code == 200
    assert agent.orders == [("drain", "abacus", "a loose wire", VIA), ("resume", "abacus", VIA)]
    refused = ordered("resume", {"node": "strict"}, OWNER, agent, **keys)
    assert refused.status_code == 403
    assert "its owner grants the right" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({"keys": [KEY], "admin_keys": [OWNER_KEY]}, USER, 403),  # a key to ask with
        ({"keys": [KEY], "admin_keys": [OWNER_KEY]}, JSON, 401),
        ({"admin_keys": [OWNER_KEY]}, JSON, 403),  # loopback, where asking needs no key
        ({"keys": [KEY]}, USER, 403),  # nobody can
        ({}, OWNER, 403),
        ({"admin_keys": [OWNER_KEY]}, {**OWNER, "content-type": "text/plain"}, 400),
        ({"admin_keys": [OWNER_KEY]}, {**OWNER, "origin": "https://evil.example"}, 403),
        ({"admin_keys": [OWNER_KEY]}, {**OWNER, "authorization": "Bearer "}, 403),
    ],
)
def test_nothing_is_changed_without_it(
    settings: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    agent = ScriptedAgent()
    for verb in ("drain", "resume"):
        answer = ordered(verb, {"node": ""}, headers, agent, **settings)
        assert answer.status_code == status, answer.text
    assert not agent.orders


@pytest.mark.parametrize("body", [[], {"node": 1}, {"node": "x" * 65}, {"nodes": "abacus"}])
def test_an_order_that_is_none_is_answered_400(body: Any) -> None:
    agent = ScriptedAgent()
    assert ordered("drain", body, OWNER, agent, admin_keys=[OWNER_KEY]).status_code == 400
    assert not agent.orders


def test_a_key_says_what_its_holder_may_do() -> None:
    keys = {"keys": [KEY], "admin_keys": [OWNER_KEY]}
    for headers, administers in ((USER, False), (OWNER, True)):
        told = get("/web/api/rights", headers, **keys).json()
        assert told == {"offered": True, "administer": administers}
    assert get("/web/api/rights").json() == {"offered": False, "administer": False}


def test_a_key_to_ask_with_cannot_be_the_owners(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="everybody who may ask could administer"):
        settings_of(HttpSection(key=KEY, admin_key=KEY), tmp_path)
    with pytest.raises(ConfigError, match=r"http\.admin_key has 5 characters"):
        settings_of(HttpSection(key=KEY, admin_key="short"), tmp_path)
    assert settings_of(HttpSection(admin_key=OWNER_KEY), tmp_path).administers(OWNER_KEY)


async def open_feed(app: Any, said: list[Message], left: asyncio.Event) -> None:
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/web/api/watch",
        "raw_path": b"/web/api/watch",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    begun = False

    async def receive() -> Message:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        said.append(message)

    await app(scope, receive, send)


def test_the_feed_has_no_words_of_others_and_ends_when_its_page_is_closed() -> None:
    async def run() -> None:
        agent, left = ScriptedAgent(), asyncio.Event()
        app = make_app(Settings(state=""), agent)
        said: list[Message] = []
        page = asyncio.create_task(open_feed(app, said, left))
        while len(said) < 3:  # noqa: ASYNC110  the loop has nothing else to do
            await asyncio.sleep(0)
        text = b"".join(message.get("body", b"") for message in said).decode()
        assert "desk" in text
        assert '"begin"' in text
        assert SECRET not in text
        assert "ab" * 16 not in text
        left.set()
        await page
        assert agent.closed == 1

    asyncio.run(run())


def test_a_page_too_many_is_told_to_come_again() -> None:
    async def run() -> None:
        app, left = make_app(Settings(state=""), ScriptedAgent()), asyncio.Event()
        said: list[list[Message]] = [[] for _ in range(MAX_WATCHERS + 1)]
        pages = [asyncio.create_task(open_feed(app, one, left)) for one in said]
        while not all(said):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert [one[0]["status"] for one in said] == [200] * MAX_WATCHERS + [429]
        left.set()
        await asyncio.gather(*pages)

    asyncio.run(run())


def test_a_feed_without_an_agent_says_why() -> None:
    async def run() -> str:
        agent = ScriptedAgent()
        agent.gone = True
        async with client(agent) as http:
            return (await http.get("/web/api/watch")).text

    told = json.loads(asyncio.run(run()).removeprefix("data: "))
    assert told["type"] == "error"
    assert told["hint"] == "Start one"


def test_what_is_told_of_a_request_is_its_way_and_not_its_words() -> None:
    step = {"id": 1, "name": "n", "node": "abacus", "status": "ok", "text": SECRET, "question": "q"}
    event = {"type": "request", "phase": "event", "trace": "ab" * 16}
    told = without_words({**event, "event": {"type": "step", "step": step}})
    assert told is not None
    assert told["event"]["step"] == {"id": 1, "name": "n", "node": "abacus", "status": "ok"}
    assert without_words({**event, "event": {"type": "delta", "text": SECRET}}) is None
    end = {**event, "phase": "end", "question": SECRET, "answer": {"text": SECRET, "nodes": ["a"]}}
    told = without_words(end)
    assert SECRET not in json.dumps(told)
    assert told is not None
    assert told["nodes"] == ["a"]
    peers = {"type": "mesh", "peers": [{"name": "abacus"}]}
    assert without_words(peers) == peers


# -- its certificate --------------------------------------------------------------------------


@pytest.fixture
def identity(tmp_path: Path) -> Iterator[LocalIdentity]:
    """A node's, of a throw-away authority."""
    authority = create_authority(tmp_path / "authority", "home")
    create_identity(tmp_path / "state", authority, "home", name="desk", groups=(), publish=())
    with_state = StateDir(tmp_path / "state")
    found = with_state.identity()
    yield LocalIdentity(found.keys, found.passport(), found.trust)
    with_state.close()


def der_of(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_a_certificate_is_kept_until_it_ends_or_the_machine_is_called_otherwise(
    identity: LocalIdentity, tmp_path: Path
) -> None:
    def made(hosts: list[str], wall: float = WALL) -> str:
        return own_certificate(tmp_path, identity, "home", hosts, wall).fingerprint

    first = made(["localhost", "192.168.1.7"])
    assert made(["192.168.1.7"]) == first
    assert made(["192.168.1.8"]) != first
    second = made(["192.168.1.8"])
    assert made(["192.168.1.8"], WALL + 350 * 86400) != second


def test_a_certificate_is_private_and_names_the_node_that_signed_it(
    identity: LocalIdentity, tmp_path: Path
) -> None:
    own = own_certificate(tmp_path, identity, "home", ["localhost"], WALL)
    assert own.private_key.stat().st_mode & 0o077 == 0
    der = der_of(own.certificate)
    assert fingerprint_of(der) == own.fingerprint
    assert voucher_in(der)[0].node == identity.node
    check_voucher(der, identity.member.key, identity.trust)
    with pytest.raises(IdentityError, match="did not sign"):
        check_voucher(der, bytes(32), identity.trust)


def test_a_certificate_with_the_voucher_of_another_is_found_out(
    identity: LocalIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stolen = voucher_in(der_of(own_certificate(tmp_path, identity, "h", ["a"], WALL).certificate))
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(identity, "sign", lambda purpose, body: stolen[1])
    other = own_certificate(tmp_path / "other", identity, "h", ["a"], WALL)
    with pytest.raises(IdentityError, match="in between"):
        check_voucher(der_of(other.certificate), identity.member.key, identity.trust)


def test_a_damaged_certificate_is_made_anew(identity: LocalIdentity, tmp_path: Path) -> None:
    first = own_certificate(tmp_path, identity, "home", ["localhost"], WALL)
    first.certificate.write_text("no certificate")
    again = own_certificate(tmp_path, identity, "home", ["localhost"], WALL)
    assert again.fingerprint != first.fingerprint


def test_only_who_listens_for_others_without_a_certificate_needs_one(tmp_path: Path) -> None:
    assert needs_certificate(HttpSection(host="0.0.0.0", key=KEY))
    assert not needs_certificate(HttpSection())
    assert not needs_certificate(HttpSection(host="0.0.0.0", key=KEY, tls="off"))
    assert settings_of(HttpSection(), tmp_path).page
    assert not settings_of(HttpSection(host="10.0.0.7", key=KEY, tls="off"), tmp_path).page
    assert "localhost" in names_of_machine("0.0.0.0", "192.168.1.7", ["pi.example"])


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An agent that listens for others, with TLS of its own."""
    http = {"host": "0.0.0.0", "key": KEY}
    with serving(tmp_path_factory.mktemp("shown"), http=http) as found:
        yield found


@pytest.mark.e2e
def test_for_others_there_is_tls_and_the_fingerprint_that_the_agent_shows(shown: Served) -> None:
    address = urlsplit(shown.url)
    assert address.scheme == "https"
    assert address.hostname not in {"0.0.0.0", "localhost"}
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", address.port or 0)))
    assert fingerprint_of(der) == shown.fetch("status")["http_fingerprint"]
    trusted = ssl.create_default_context(cafile=str(shown.state / "http-cert.pem"))
    with httpx.Client(verify=trusted, base_url=f"https://127.0.0.1:{address.port}") as http:
        assert http.get("/").status_code == 200
        assert http.get("/web/api/names").status_code == 401
        headers = {"authorization": f"Bearer {KEY}"}
        assert http.get("/web/api/names", headers=headers).status_code == 200
        assert http.get("/", headers={"host": "evil.example"}).status_code == 403


@pytest.mark.e2e
def test_the_agent_says_at_its_start_where_its_page_is(shown: Served, tmp_path: Path) -> None:
    log = shown.state.parent / "log"
    until = time.monotonic() + 20
    while "fingerprint" not in (said := log.read_text()):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert f"http     at: {shown.url}" in said
    assert shown.fetch("status")["http_fingerprint"] in said


@pytest.mark.e2e
def test_any_member_can_check_whose_certificate_it_is(shown: Served, served: Served) -> None:
    def gossamer(*args: str, state: Path) -> Any:
        command = [sys.executable, "-m", "agents.faces.cli", "web", "--json", *args]
        command += ["--state", str(state)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return json.loads(done.stdout)

    told = gossamer(state=shown.state)
    assert told["url"] == shown.url
    found = gossamer("--check", shown.url, state=shown.state)
    assert found["name"] == "desk"
    assert found["fingerprint"] == told["fingerprint"]
    # Of another mesh: its signature means nothing there.
    assert "no member" in gossamer("--check", shown.url, state=served.state)["error"]["message"]
    wrong = gossamer("--check", served.url, state=served.state)
    assert "no address with TLS" in wrong["error"]["message"]
