"""What the console shows, as functions of what the agent says; no terminal is needed."""

from __future__ import annotations

import subprocess
import sys
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from agents.faces.console import marks, nodes, picture, record, route, streams
from agents.faces.console.money import money_body
from agents.faces.console.showing import VIEWS, Opened, Showing
from agents.faces.console.world import MAX_RUNNING, World
from agents.faces.sheets import plain
from agents.library.events import Delta, Plan, Retry
from agents.views import AnswerView, CloudView, PeerView
from tests.agents.faces.console import fake_source as fake


@pytest.fixture
def world() -> World:
    known = World()
    known.feed(fake.mesh_event())
    known.feed(fake.self_event())
    known.names = fake.NAMES
    return known


def shown(lines: list[marks.Line]) -> str:
    return "\n".join(marks.text_of(line) for line in lines)


def body(found: nodes.Body) -> str:
    return shown([*found.head, *(row.line for row in found.rows)])


def test_every_state_has_a_sign_of_its_own(world: World) -> None:
    spans = [marks.state_span(peer) for peer in world.ordered]
    assert [span.text.split()[1] for span in spans] == [
        "alive",
        "busy",
        "dead",
        "unwell",
        "suspect",
    ]
    signs = [sign for sign, _ in marks.STATES.values()]
    assert len(set(signs)) == len(signs)


def test_nodes_that_change_and_go_are_followed(world: World) -> None:
    world.feed(fake.mesh_event([PeerView(node="d4", name="gauge", state="alive")]))
    assert world.peer("gauge").state == "alive"  # type: ignore[union-attr]
    world.feed({"type": "mesh", "at": fake.AT, "peers": [], "gone": ["d4"]})
    assert world.peer("gauge") is None
    assert world.counts() == {"alive": 3, "suspect": 1}


def test_the_best_rate_is_the_most_that_was_seen_or_advertised(world: World) -> None:
    faster = msgspec.structs.replace(fake.peers()[0], tokens_per_s=900.0)
    world.feed(fake.mesh_event([faster]))
    world.feed(fake.mesh_event([msgspec.structs.replace(faster, tokens_per_s=1.0)]))
    assert world.best["a1"] == 900.0


@given(
    st.dictionaries(
        st.sampled_from(
            ["type", "at", "peers", "gone", "phase", "event", "answer", "load", "span"]
        ),
        st.recursive(
            st.none() | st.text(max_size=8) | st.floats(allow_nan=False) | st.just("mesh"),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.text(max_size=5), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    ),
    st.sampled_from(["mesh", "self", "request", "span", "event", "lost", "news"]),
)
def test_an_event_of_another_shape_never_ends_the_console(event: dict, kind: str) -> None:  # type: ignore[type-arg]
    known = World()
    known.feed({**event, "type": kind})
    known.feed(fake.mesh_event())
    assert len(known.peers) == 5


def test_requests_whose_end_is_lost_do_not_stay_for_ever(world: World) -> None:
    for number in range(MAX_RUNNING + 5):
        world.feed({"type": "request", "phase": "begin", "trace": str(number), "question": "q"})
    assert len(world.running) == MAX_RUNNING


def test_a_link_is_lit_while_a_step_runs_there_and_shortly_after(world: World) -> None:
    running = msgspec.to_builtins(fake.answer_events()[1])
    world.feed({"type": "request", "phase": "begin", "trace": "t", "question": "q", "at": fake.AT})
    assert not world.lit("abacus")
    world.feed({"type": "request", "phase": "event", "trace": "t", "event": running})
    assert world.working == {"abacus"}
    assert world.lit("abacus")
    world.feed({"type": "request", "phase": "end", "trace": "t", "elapsed_s": 1.0, "answer": {}})
    assert world.lit("abacus")
    world.feed(fake.self_event(at=fake.AT + 10))
    assert not world.lit("abacus")


def test_taken_rungs_are_kept_and_skipped_ones_are_not(world: World) -> None:
    answer = msgspec.to_builtins(fake.ANSWER)
    world.feed(
        {"type": "request", "phase": "end", "trace": "t", "elapsed_s": 1.0, "answer": answer}
    )
    assert [one["rule"] for one in world.escalations] == ["escalation.expert"]
    assert "expert" in body(money_body(None, world.escalations, 80, "no cloud"))


@pytest.mark.parametrize("column", range(len(nodes.COLUMNS)))
def test_the_table_sorts_by_any_column_and_back(world: World, column: int) -> None:
    key = nodes.COLUMNS[column].key
    there = [key(peer, world) for peer in nodes.chosen(world, "", column)]
    back = [key(peer, world) for peer in nodes.chosen(world, "", column, back=True)]
    if column:
        assert there == sorted(there, reverse=nodes.COLUMNS[column].down)
    assert back == sorted(back, reverse=not nodes.COLUMNS[column].down)


def test_the_filter_needs_every_word_somewhere(world: World) -> None:
    assert [p.name for p in nodes.chosen(world, "ARITH q4")] == ["abacus"]
    assert [p.name for p in nodes.chosen(world, "suspect")] == ["tally"]
    assert "no node fits" in body(nodes.nodes_body(world, 80, "nothing-such"))


def test_the_table_shows_load_rates_heat_and_battery(world: World) -> None:
    text = body(nodes.nodes_body(world, 130))
    row = next(line for line in text.split("\n") if line.startswith("abacus"))
    for part in ("◆ busy", "2/4", "33.5", "41.0", "4.2", "71", "arithmetic Q4_K", "pi5"):
        assert part in row
    assert "22%" in text


def test_what_a_peer_writes_cannot_move_the_cursor(world: World) -> None:
    assert "\x1b" not in body(nodes.nodes_body(world, 200))
    assert "\x1b" not in shown(nodes.node_lines(world.peer("gauge"), world, 80))  # type: ignore[arg-type]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(80, 21), (40, 8), (200, 60)])
def test_no_line_is_wider_than_the_screen(world: World, view: str, size: tuple[int, int]) -> None:
    showing = Showing(world)
    showing.show(view)
    turn = showing.ask("What is 48 * 27?")
    for event in fake.answer_events():
        turn.event(event)
    found = showing.body(*size)
    assert len(found.head) <= size[1]
    for line in [*found.head, *(row.line for row in found.rows)]:
        assert cell_len(marks.text_of(marks.fitted(line, size[0]))) <= size[0]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9, 64, 300])
def test_the_picture_has_room_for_any_number_of_nodes(count: int) -> None:
    known = World()
    views = [fake.peers()[0]] if count else []
    views += [PeerView(node=str(i), name=f"node-{i}", state="alive") for i in range(count - 1)]
    known.feed(fake.mesh_event(views))
    lines = picture.picture(known, 80, 21)
    assert len(lines) <= 21
    text = shown(lines)
    if 0 < count <= 64:
        assert all(peer.name in text for peer in known.peers.values())
    if count == 300:
        assert "more" in text


def test_the_picture_lights_the_link_that_is_used(world: World) -> None:
    assert "━" not in shown(picture.picture(world, 80, 21)[:-1])
    world.feed({"type": "span", "span": {"node": "abacus"}, "at": fake.AT})
    assert "━" in shown(picture.picture(world, 80, 21)[:-1])


def test_a_route_grows_while_the_answer_is_made() -> None:
    turn = route.Turn("What is 48 * 27?")
    plan, started, thought, first, second, ended, answer = fake.answer_events()
    turn.event(plan)
    assert "waits" in shown(route.turn_lines(turn, 80))
    turn.event(started)
    turn.event(thought)
    turn.event(first)
    running = shown(route.turn_lines(turn, 80))
    assert "48 * 27" in running
    assert "on abacus" in running
    assert "3 tokens, 3 thought" in running
    turn.event(second)
    turn.event(ended)
    turn.event(answer)
    whole = shown(route.turn_lines(turn, 80))
    for part in ("48 * 27 = 1296", "12 tokens in 0.40 s", "30/s", "not by tally", "rung expert"):
        assert part in whole
    assert "own_model" not in whole  # a rung that was skipped is no part of the way
    assert turn.over


def test_text_of_a_lost_attempt_is_taken_back() -> None:
    turn = route.Turn("q")
    turn.event(Plan(steps=[fake.changed(status="running", attempts=[])]))
    turn.event(Delta(step=1, text="wrong"))
    turn.event(Retry(step=1, node="abacus", reason="it died", discarded_chars=5))
    text = shown(route.turn_lines(turn, 80))
    assert "wrong" not in text
    assert "not by abacus: it died" in text


def test_several_steps_say_which_text_is_whose() -> None:
    turn = route.Turn("two things")
    steps = [fake.changed(id=1), fake.changed(id=2, node="desk", text="A mesh.")]
    turn.event(Plan(steps=steps))
    turn.event(Delta(step=2, text="A mesh."))
    turn.event(Delta(step=1, text="48 * 27 = 1296"))
    text = "48 * 27 = 1296\nA mesh."
    turn.event(msgspec.structs.replace(fake.ANSWER, text=text, steps=steps))
    lines = shown(route.turn_lines(turn, 80)).split("\n")
    assert "[1] 48 * 27 = 1296" in lines
    assert "[2] A mesh." in lines


def test_the_cloud_names_its_price_and_the_reason() -> None:
    cloud = CloudView(
        provider="acme",
        model="big",
        prompt_tokens=9,
        completion_tokens=5,
        cost=0.0012,
        currency="USD",
        estimated=False,
        why="every node was full",
    )
    turn = route.Turn("q")
    step = fake.changed(cloud=cloud)
    turn.event(
        AnswerView(text="x", degraded=True, elapsed_s=1, steps=[step], nodes=["acme"], cost=0.0012)
    )
    text = shown(route.turn_lines(turn, 100, "USD"))
    assert "acme big: 0.001200 USD, every node was full" in text
    assert "cost 0.001200 USD" in text
    assert "! degraded" in text


def test_a_replay_shows_what_was_known_at_that_time() -> None:
    kept = fake.record()
    early = shown(record.trace_lines(kept, 80, 0.1))
    assert "1296" not in early
    assert "0.10 of 0.50 s" in early
    late = shown(record.trace_lines(kept, 80))
    for part in (
        "48 * 27 = 1296",
        "SPANS",
        "client knowledge.gpt/arithmetic > abacus",
        "DECISIONS",
    ):
        assert part in late


@pytest.mark.parametrize(
    "kept", [{}, {"trace": "ab", "spans": [], "answer": 3}, {"events": [[0, 7]]}]
)
def test_a_trace_with_little_in_it_is_still_shown(kept: dict) -> None:  # type: ignore[type-arg]
    assert record.trace_lines(kept, 80)


def test_sparklines_rise_with_their_values() -> None:
    assert marks.spark([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert marks.spark([5, 5, 5], 8) == "▁▁▁"
    assert marks.spark([], 8) == ""
    assert marks.spark([9, 9, 0, 1], 2) == "▁█"


def test_streams_show_the_latest_value_and_its_way(world: World) -> None:
    for value in (1.0, 3.0, 2.0):
        world.sample(f"{fake.DATA} load", value)
    text = body(streams.streams_body(world, 80, "", {fake.DATA: "from gauge, 3 messages"}))
    assert "from gauge, 3 messages" in text
    assert next(x for x in text.split("\n") if x.startswith("  load")).split()[1:] == ["2", "▁█▅"]


def test_the_search_finds_nodes_names_and_requests(world: World) -> None:
    showing = Showing(world)
    showing.traces = [fake.record()]
    showing.show("search")
    showing.filters["search"] = "abacus"
    assert {row.key for row in showing.body(80, 20).rows} == {"node:abacus", f"name:{fake.SUMS}"}
    showing.filters["search"] = "48 27"
    assert [row.key for row in showing.body(80, 20).rows] == [f"trace:{fake.TRACE}"]


def test_an_open_node_that_goes_is_said_to_be_gone(world: World) -> None:
    showing = Showing(world)
    showing.opened = Opened("node", "tally")
    assert "suspect" in body(showing.body(80, 20))
    world.feed({"type": "mesh", "at": fake.AT, "peers": [], "gone": ["c3"]})
    assert "not known any more" in body(showing.body(80, 20))


@given(st.text(max_size=200), st.integers(4, 60))
def test_wrapped_text_fits_and_loses_no_word(text: str, width: int) -> None:
    lines = marks.wrapped(text, width)
    assert all(cell_len(line) <= width for line in lines)
    kept = "".join("".join(lines).split())
    assert kept == "".join(marks.printable(text, lines=True).split())


def test_the_views_need_no_textual_so_that_top_and_scripts_stay_light() -> None:
    script = (
        "import sys; import agents.faces.console.top, agents.faces.console.run,"
        " agents.faces.cli.watching; print([m for m in sys.modules if m.startswith('textual')])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)  # noqa: PLW1510
    assert found.stdout.strip() == "[]", found.stderr


def test_a_models_quantization_is_seen_where_its_name_is_cut() -> None:
    assert marks.squeezed("gossamer-arithmetic Q8_0", 19) == "gossamer-arit… Q8_0"
    assert marks.squeezed("general Q8_0", 14) == "general Q8_0  "
    assert marks.squeezed("a-model-without-one", 8) == "a-model…"


def test_a_request_stands_at_the_time_of_the_machines_own_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    one = {"trace": "ab" * 16, "question": "?", "at": 0.0, "elapsed_s": 1.0, "error": ""}
    assert "09:00:00" in plain(record.traces_sheet([one]))
