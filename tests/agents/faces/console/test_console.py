"""The console on a screen, driven by Textual's own pilot, at a fake agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot

from agents.faces.console.app import Console
from agents.faces.console.screenshots import screen_text, without_links
from agents.faces.console.showing import VIEWS
from tests.agents.faces.console import fake_source as fake

SNAPSHOTS = Path(__file__).parent / "snapshots"
Play = Callable[[Pilot[None], Console, fake.FakeSource], Awaitable[None]]


def play(script: Play, size: tuple[int, int] = (80, 24)) -> fake.FakeSource:
    """Run a script against a console on a fake agent."""
    source = fake.FakeSource()

    async def connect() -> fake.FakeSource:
        return source

    async def run() -> None:
        app = Console(connect)
        async with app.run_test(size=size) as pilot:
            await asyncio.wait_for(app.painted.wait(), 10)
            await until(pilot, lambda: bool(app.showing.traces and app.world.names))
            await script(pilot, app, source)

    asyncio.run(run())
    return source


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Wait for something to come true; what is on the screen is the complaint when it does not."""
    for _ in range(500):
        await pilot.pause(0.01)
        if true():
            return
    raise AssertionError(screen_text(pilot.app))


def on_screen(app: Console, *words: str) -> Callable[[], bool]:
    return lambda: all(word in screen_text(app) for word in words)


async def ask(pilot: Pilot[None], app: Console, question: str) -> None:
    await pilot.press("c")
    app.query_one("#typed").value = question  # type: ignore[attr-defined]
    await pilot.press("enter")


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_looks_as_it_did(view: str) -> None:
    """A change of a view is a change of its snapshot: delete the file, run again, look at it."""

    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        if view == "chat":
            await ask(pilot, app, "What is 48 * 27?")
            await until(pilot, on_screen(app, "cost nothing"))
        elif view == "search":
            await pilot.press("9", *"arith")
        elif view == "streams":
            await pilot.press("7", "enter")
            await until(pilot, on_screen(app, "8 messages"))
        else:
            await pilot.press(str(VIEWS.index(view) + 1))
        await pilot.pause(0.2)
        seen = screen_text(app)
        kept = SNAPSHOTS / f"{view}.txt"
        if not kept.exists():
            SNAPSHOTS.mkdir(exist_ok=True)
            kept.write_text(seen, encoding="utf-8")
            pytest.fail(f"{kept.name} was not there and is written now: look at it, keep it")
        assert seen == kept.read_text(encoding="utf-8")

    play(script)


def test_the_chat_shows_the_route_while_the_answer_is_made() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        source.hold.clear()
        await ask(pilot, app, "What is 48 * 27?")
        await until(pilot, on_screen(app, "on abacus", "5 tokens, 3 thought", "48 * 27 = 1296"))
        assert "in 0.40 s" not in screen_text(app)
        source.hold.set()
        await until(pilot, on_screen(app, "12 tokens in 0.40 s", "trace 4185bf69"))

    source = play(script)
    assert source.asked == [("What is 48 * 27?", "mesh")]


def test_escape_stops_an_answer_and_the_agent_is_told() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        source.hold.clear()
        await ask(pilot, app, "a long one")
        await until(pilot, on_screen(app, "on abacus"))
        await pilot.press("escape")
        await until(pilot, on_screen(app, "✗ stopped"))
        assert source.left == 1

    play(script)


def test_the_reach_of_a_question_is_the_users_choice() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("c", "ctrl+r")
        app.query_one("#typed").value = "hello"  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: bool(source.asked))

    assert play(script).asked == [("hello", "cloud")]


def test_letters_typed_into_a_question_are_no_commands() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("c", *"quit123?/", "enter")
        await until(pilot, lambda: bool(source.asked))
        assert app.showing.view == "chat"

    assert play(script).asked == [("quit123?/", "mesh")]


def test_a_node_is_revoked_only_after_a_yes() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("2", "slash", *"tally", "enter", "a", "x")
        await until(pilot, on_screen(app, "Revoke tally?"))
        await pilot.press("n")
        await pilot.pause()
        assert not source.revoked
        await pilot.press("a", "x")
        await until(pilot, on_screen(app, "Revoke tally?"))
        await pilot.press("y")
        await until(pilot, on_screen(app, "tally is revoked"))

    assert play(script).revoked == ["tally"]


def test_a_refused_action_says_why() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        source.may_revoke = False
        await pilot.press("2", "end", "a", "x", "y")
        await until(pilot, on_screen(app, "no issuer"))

    assert not play(script).revoked


def test_the_agent_itself_is_not_offered_for_revocation() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("2", "home", "a")
        await until(pilot, on_screen(app, "What about desk?", "drain", "load a model"))
        assert "revoke" not in screen_text(app)
        await pilot.press("x", "escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)

    assert not play(script).revoked


def test_a_node_is_drained_after_a_yes_and_refusals_are_told() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("2", "slash", *"abacus", "enter", "a", "d")
        await until(pilot, on_screen(app, "Drain abacus?"))
        assert not source.orders
        await pilot.press("y")
        await until(pilot, on_screen(app, "abacus is drained"))
        source.may_revoke = False
        await pilot.press("a", "d", "y")
        await until(pilot, on_screen(app, "this node may not"))

    assert play(script).orders == [("drain", "abacus")]


def test_models_come_and_go_and_a_policy_is_chosen() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("2", "slash", *"abacus", "enter", "a", "l")
        await until(pilot, on_screen(app, "Load which model"))
        await pilot.press(*"builtin:general", "enter")
        await until(pilot, on_screen(app, "abacus serves builtin:general"))
        await pilot.press("a", "u", "1")
        await until(pilot, on_screen(app, "Unload arithmetic Q4_K at abacus?"))
        await pilot.press("y")
        await until(pilot, on_screen(app, "has unloaded"))
        await pilot.press("a", "p")
        await until(pilot, on_screen(app, "schedules by load_aware", "2  random"))
        await pilot.press("2")
        await until(pilot, on_screen(app, "abacus schedules by random"))
        await pilot.press("a", "l", "escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)

    assert play(script).orders == [
        ("load", "abacus", "builtin:general"),
        ("unload", "abacus", "arithmetic Q4_K"),
        ("policy", "abacus", "random"),
    ]


def test_a_drained_node_has_a_sign_of_its_own_and_is_offered_to_be_resumed() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        views = [msgspec.structs.replace(v, draining=v.name == "abacus") for v in fake.peers()]
        source.tell(fake.mesh_event(views))
        await pilot.press("2")
        await until(pilot, on_screen(app, "‖ draining"))
        await pilot.press("slash", *"abacus", "enter", "a", "r")
        await until(pilot, on_screen(app, "abacus takes work again"))

    assert play(script).orders == [("resume", "abacus")]


def test_a_conversation_goes_along_until_a_new_one_is_begun() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await ask(pilot, app, "What is 48 * 27?")
        await until(pilot, on_screen(app, "cost"))
        assert source.history == []
        await ask(pilot, app, "And half of it?")
        await until(pilot, lambda: len(source.asked) == 2 and app.showing.turns[-1].over)
        assert source.history == [
            ("user", "What is 48 * 27?"),
            ("assistant", "48 * 27 = 1296"),
        ]
        await pilot.press("ctrl+n")
        await ask(pilot, app, "Who are you?")
        await until(pilot, lambda: len(source.asked) == 3 and app.showing.turns[-1].over)
        assert source.history == []

    play(script)


def test_a_trace_opens_replays_and_closes() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("5", "enter")
        await until(pilot, on_screen(app, "SPANS", "48 * 27 = 1296"))
        await pilot.press("p")
        await until(pilot, on_screen(app, "of 0.50 s"))
        await until(pilot, on_screen(app, "SPANS"))
        await pilot.press("escape")
        await until(pilot, on_screen(app, "QUESTION"))

    play(script)


def test_nodes_are_sorted_filtered_and_opened_by_keys() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("2", "s", "s")
        await until(pilot, on_screen(app, "BUSY▼"))
        assert screen_text(app).split("\n")[3].startswith("abacus")
        await pilot.press("slash", *"phone")
        await until(pilot, lambda: "abacus" not in screen_text(app))
        await pilot.press("enter", "enter")
        await until(pilot, on_screen(app, "tally", "suspect", "22%"))

    play(script)


def test_a_change_in_the_mesh_is_seen_without_a_key() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        dead = [peer for peer in fake.peers() if peer.name == "abacus"]
        await pilot.press("2")
        source.tell(fake.mesh_event([fake.msgspec.structs.replace(dead[0], state="dead")]))
        source.tell({"type": "event", "what": "dead", "name": "abacus", "at": fake.AT + 1})
        await until(pilot, on_screen(app, "✗ 2 dead"))
        await pilot.press("8")
        await until(pilot, on_screen(app, "abacus dead"))

    play(script)


def test_an_agent_that_goes_is_said_to_be_gone_and_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agents.faces.console.app.RETRY_S", 0.05)

    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        source.tell(None)
        await until(pilot, on_screen(app, "closed the connection", "trying again"))
        source.tell(fake.mesh_event())
        await until(pilot, on_screen(app, "3 alive"))

    assert play(script).closed


def test_the_help_closes_with_escape_and_keys_mean_nothing_under_it() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("question_mark")
        await until(pilot, on_screen(app, "colour-blind"))
        await pilot.press("2")
        assert app.showing.view == "mesh"
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)

    play(script)


def test_leaving_a_stream_ends_its_subscription() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        await pilot.press("7", "enter")
        await until(pilot, on_screen(app, "8 messages", "▁"))
        await pilot.press("enter")
        await until(pilot, lambda: source.left == 1)
        assert "not subscribed" in screen_text(app)

    play(script)


def test_leaving_the_console_closes_the_connection_and_what_was_asked() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        source.hold.clear()
        await ask(pilot, app, "q")
        await until(pilot, on_screen(app, "on abacus"))

    source = play(script)
    assert source.closed
    assert source.left == 1


@pytest.mark.parametrize("size", [(30, 6), (200, 60)])
def test_it_draws_on_small_and_large_terminals(size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        for number in range(1, 10):
            await pilot.press(f"f{number}")
            await pilot.pause()
        assert "desk" in screen_text(app)

    play(script, size)


def test_a_picture_for_the_docs_needs_nothing_from_outside() -> None:
    async def script(pilot: Pilot[None], app: Console, source: fake.FakeSource) -> None:
        svg = app.export_screenshot()
        assert "http" in svg.split("<style>", 1)[1]  # fonts from elsewhere, as Textual writes them
        cleaned = without_links(svg)
        assert "url(" not in cleaned.split("<style>", 1)[1].split("</style>", 1)[0]
        assert "src:" not in cleaned
        assert "desk" in cleaned

    play(script)
