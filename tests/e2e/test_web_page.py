"""The web page in a real browser, at a mesh of three real agents."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from agents.faces import demo as demonstration
from agents.faces.http.browser import browser, chromium
from tests.e2e.serving import KEY, OWNER_KEY, Served, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not chromium(), reason="no chromium: apt-get install chromium"),
]
PATIENCE_MS = 15_000
QUESTION = "What is 48 * 27?"
# Roles and names as a screen reader hears them; what has none of these is out of its reach.
UNNAMED = """() => [...document.querySelectorAll("input, textarea, select, button, a")]
    .filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel))
    .map((one) => one.outerHTML)"""
# Relative luminance and contrast as WCAG 2 defines them, over every text that is in sight.
CONTRAST = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const back = (one) => {
        for (let at = one; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const one of document.querySelectorAll("body *:not(svg *)")) {
        const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !one.checkVisibility() || one.disabled || one.matches(".skip")) continue;
        const [a, b] = [light(parse(getComputedStyle(one).color)), light(back(one))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push([one.className || one.tagName, ratio.toFixed(2)]);
    }
    return poor;
}"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[demonstration.Demo, str]]:
    """desk shows the page, abacus and tally calculate."""
    root = tmp_path_factory.mktemp("page")
    with demonstration.Demo(demonstration.roster(3), root, http=True) as made:

        async def start() -> str:
            async with await demonstration.start(made) as client:
                return await demonstration.http_url(client)

        yield made, asyncio.run(start())


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An agent that others can reach: TLS, a key, and one of its owner."""
    http = {"host": "0.0.0.0", "key": KEY, "admin_key": OWNER_KEY}
    with serving(tmp_path_factory.mktemp("shown"), http=http) as found:
        yield found


@pytest.fixture(scope="module")
def running(mesh: Any, shown: Served) -> Iterator[Any]:
    """The browser. It comes last: while it runs, this thread has an event loop of its own."""
    with browser() as found:
        yield found


@pytest.fixture
def page(running: Any) -> Iterator[Any]:
    """A phone's page, whose errors fail the test."""
    context = running.new_context(viewport={"width": 390, "height": 844}, ignore_https_errors=True)
    found = context.new_page()
    found.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda said: wrong.append(said.text) if "Policy" in said.text else None)
    yield found
    context.close()
    assert not wrong


def answered(page: Any, count: int = 1) -> None:
    """Wait for the end of an answer, which went well."""
    page.wait_for_selector(f"#turns > li:nth-child({count})[data-over]")
    assert page.locator("#turns > li[data-over=wrong]").all_inner_texts() == []


def test_a_question_is_answered_and_its_route_is_shown(page: Any, mesh: Any) -> None:
    page.goto(mesh[1])
    page.wait_for_selector("#examples button")
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    answered(page)
    turn = page.locator("#turns > li").last
    assert "1296" in turn.locator(".answer").inner_text()
    step = turn.locator(".route li").last
    assert step.get_attribute("data-status") == "ok"
    node = step.get_attribute("data-node")
    assert node in {"abacus", "tally"}
    assert turn.locator(".piece .who").inner_text() == node
    assert re.search(r"\d+ tokens, \d+\.\d\d s", step.inner_text())
    assert f"by {node}" in turn.inner_text()


def test_the_route_is_seen_while_the_answer_is_made(page: Any, mesh: Any) -> None:
    page.goto(mesh[1])
    page.wait_for_selector("#examples button")
    page.evaluate("""() => {
        window.seen = new Set();
        new MutationObserver(() => {
            for (const one of document.querySelectorAll(".route li")) seen.add(one.dataset.status);
            if (document.querySelector("#picture line.lit")) seen.add("lit");
        }).observe(document.body, { childList: true, subtree: true, attributes: true });
    }""")
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    answered(page)
    page.wait_for_function("() => seen.has('lit')")
    # The way is lit only while a node works; a step may be over before the page draws it running.
    assert {"lit", "ok"} <= set(page.evaluate("() => [...seen]"))


def test_the_conversation_goes_along_and_survives_a_reload(page: Any, mesh: Any) -> None:
    sent: list[Any] = []
    page.on(
        "request",
        lambda one: sent.append(one.post_data_json) if one.url.endswith("/api/ask") else None,
    )
    page.goto(mesh[1])
    for count, question in enumerate((QUESTION, "What is 3 + 4?"), 1):
        page.fill("#question", question)
        page.press("#question", "Enter")
        answered(page, count)
    assert [one["role"] for one in sent[1]["history"]] == ["user", "assistant"]
    assert sent[1]["history"][0]["content"] == QUESTION
    page.reload()
    answered(page, 2)
    page.click("#fresh")
    assert page.locator("#turns > li").count() == 0


def test_everything_has_a_name_and_enough_contrast_in_light_and_dark(page: Any, mesh: Any) -> None:
    page.goto(mesh[1])
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    answered(page)
    page.set_viewport_size({"width": 1100, "height": 900})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert page.evaluate(CONTRAST) == []
    assert page.evaluate(UNNAMED) == []
    assert "alive" in page.get_attribute("#picture", "aria-label")
    still = page.evaluate(
        "() => document.getAnimations().filter((one) => one.playState === 'running').length"
    )
    assert still == 0
    overflow = "() => document.documentElement.scrollWidth - innerWidth"
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate(overflow) <= 0


def test_the_keyboard_alone_is_enough(page: Any, mesh: Any) -> None:
    page.goto(mesh[1])
    page.wait_for_selector("#nodes tr", state="attached")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link that skips to the question
    page.keyboard.press("Tab")
    for _ in range(8):
        if page.evaluate("() => document.activeElement.id") == "question":
            break
        page.keyboard.press("Tab")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    answered(page)


def test_a_killed_node_is_shown_dead(page: Any, mesh: Any) -> None:
    made, url = mesh
    page.goto(url)
    page.click("[data-show=mesh]")
    page.wait_for_selector('#nodes [data-node="tally"][data-state="alive"]')
    tally = made.processes["tally"]
    os.killpg(tally.pid, signal.SIGKILL)
    tally.wait()
    page.wait_for_selector('#nodes [data-node="tally"][data-state="dead"]')
    assert page.locator('#picture [data-node="tally"]').get_attribute("data-state") == "dead"
    assert page.locator('#picture line[data-to="tally"]').count() == 0
    page.wait_for_function("() => /tally dead/.test(document.querySelector('#events').innerText)")


def test_a_lost_server_is_told_with_what_to_do_and_found_again(page: Any, mesh: Any) -> None:
    made, url = mesh
    page.goto(url)
    page.wait_for_function("() => /alive/.test(document.querySelector('#state').textContent)")
    agent = psutil.Process(made.processes["desk"].pid)
    server = next(one for one in agent.children() if "agents.faces.http" in one.cmdline())
    server.kill()
    page.wait_for_selector("#notice:not([hidden])")
    assert "Trying again in" in page.inner_text("#notice")
    assert page.inner_text("#state") == "Not connected"
    page.wait_for_selector("#notice[hidden]", state="attached")
    page.wait_for_function("() => /alive/.test(document.querySelector('#state').textContent)")


def test_off_loopback_the_page_asks_for_the_key_over_tls(page: Any, shown: Served) -> None:
    page.goto(shown.url)
    page.wait_for_selector("#key-form:not([hidden])")
    assert "key" in page.inner_text("#notice")
    page.fill("#key", "not-the-key-of-this-agent")
    page.click("#key-form button")
    page.wait_for_function("() => /does not take/.test(notice.innerText)")
    page.fill("#key", KEY)
    page.click("#key-form button")
    page.wait_for_selector("#key-form[hidden]", state="attached")
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    answered(page)
    assert "1296" in page.inner_text("#turns .answer")
    assert page.evaluate("() => localStorage.length") == 0


def drained(shown: Served) -> str:
    """Why, as the agent says it; asked in a thread, since the browser's loop runs in this one."""
    with ThreadPoolExecutor(1) as aside:
        return str(aside.submit(shown.fetch, "status").result()["drained"])


def test_the_owner_drains_and_resumes_a_node_after_a_question(page: Any, shown: Served) -> None:
    page.goto(shown.url)
    page.fill("#key", KEY)
    page.click("#key-form button")
    page.click("[data-show=mesh]")
    page.wait_for_selector('#nodes [data-node="desk"][data-state="alive"]')
    page.wait_for_selector("#manage:not([hidden])")
    assert not page.is_visible("#order")
    page.fill("#owner-key", KEY)
    page.click("#owner-form button")  # the key to ask with is not enough, and goes on asking
    page.wait_for_function("() => /may not administer/.test(managed.innerText)")
    page.fill("#owner-key", OWNER_KEY)
    page.press("#owner-key", "Enter")
    page.wait_for_selector("#order:not([hidden])")
    assert page.is_disabled("#resume")
    page.click("#drain")
    assert "Drain desk?" in page.inner_text("#confirm")
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(UNNAMED) == []
    page.keyboard.press("Escape")
    assert not page.is_visible("#confirm")
    assert not drained(shown)  # a question that is not answered changes nothing
    page.click("#drain")
    page.fill("#reason", "a loose wire")
    page.click("#confirm-yes")
    page.wait_for_selector('#nodes [data-node="desk"][data-state="draining"]')
    assert "desk takes nothing new" in page.inner_text("#managed")
    assert drained(shown) == "desk is drained: a loose wire"
    page.click("#resume")
    page.wait_for_selector('#nodes [data-node="desk"][data-state="alive"]')
    assert "desk takes work again" in page.inner_text("#managed")
    assert not drained(shown)
    assert page.evaluate("() => localStorage.length") == 0


def test_where_no_owner_has_a_key_the_page_offers_nothing_to_change(page: Any, mesh: Any) -> None:
    with page.expect_response(re.compile("/web/api/rights")):
        page.goto(mesh[1])
    # Asked again, not read from that response: the browser drops bodies of a page that it leaves.
    told = page.evaluate("() => fetch('/web/api/rights').then(answer => answer.json())")
    assert told == {"offered": False, "administer": False}
    page.click("[data-show=mesh]")
    assert not page.is_visible("#manage")
