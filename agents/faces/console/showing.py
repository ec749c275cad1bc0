"""What is on the screen: which view, how it is filtered and sorted, what is open; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from agents.faces.console.marks import Line, Span, line, number, seconds, text_of
from agents.faces.console.money import money_body
from agents.faces.console.nodes import COLUMNS, Body, Row, names_body, node_lines, nodes_body
from agents.faces.console.picture import picture
from agents.faces.console.record import trace_lines, traces_body
from agents.faces.console.route import Turn, turn_lines
from agents.faces.console.streams import streams_body
from agents.faces.console.world import World
from capabilities.messages import Message

VIEWS = ("mesh", "nodes", "names", "chat", "traces", "budget", "streams", "events", "search")
MAX_TURNS = 50
MAX_HISTORY = 16  # messages that go along: models of the mesh have small contexts
REACHES = ("mesh", "cloud", "group", "node")


class Opened(NamedTuple):
    """Something shown in full over its view: a node, a name or a trace."""

    kind: str
    key: str


class Showing:
    """The state of the screen, and the lines that it comes to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.view = "mesh"
        self.filters: dict[str, str] = {}
        self.sort = 0
        self.back = False
        self.opened: Opened | None = None
        self.turns: list[Turn] = []
        self.traces: list[dict[str, Any]] = []
        self.record: dict[str, Any] | None = None
        self.replay_s: float | None = None
        self.budget: dict[str, Any] | None = None
        self.budget_why = ""
        self.subscribed: dict[str, str] = {}
        self.reach = REACHES[0]
        self.said = ""  # the last thing that the user should know
        self.gone = ""  # why the agent is not there, empty while it is

    @property
    def filter(self) -> str:
        """The filter of this view."""
        return self.filters.get(self.view, "")

    def show(self, view: str) -> None:
        """Go to a view; what was open over the old one is closed."""
        self.view, self.opened = view, None

    def ask(self, question: str) -> Turn:
        """A new turn of the chat; the oldest goes."""
        turn = Turn(question)
        self.turns = [*self.turns[-MAX_TURNS + 1 :], turn]
        return turn

    def history(self, now: Turn) -> list[Message]:
        """What was said before this turn and goes along with it: the latest that has an answer."""
        said: list[Message] = []
        for turn in self.turns:
            if turn is not now and turn.answer is not None:
                said += [Message("user", turn.question), Message("assistant", turn.answer.text)]
        return said[-MAX_HISTORY:]

    def next_sort(self, step: int = 1) -> None:
        """Sort the nodes by the next column."""
        self.sort, self.back = (self.sort + step) % len(COLUMNS), False

    def body(self, width: int, height: int) -> Body:
        """What the middle of the screen shows."""
        if self.opened is not None:
            return Body([], [Row("", one) for one in self._opened(width)])
        shown: dict[str, Callable[[], Body]] = {
            "mesh": lambda: _still(picture(self.world, width, height)),
            "nodes": lambda: nodes_body(self.world, width, self.filter, self.sort, back=self.back),
            "names": lambda: names_body(self.world.names, width, self.filter),
            "chat": lambda: self._chat(width),
            "traces": lambda: traces_body(self.traces, width, self.filter),
            "budget": lambda: money_body(
                self.budget, self.world.escalations, width, self.budget_why
            ),
            "streams": lambda: streams_body(self.world, width, self.filter, self.subscribed),
            "events": self._events,
            "search": lambda: search_body(self, width, self.filter),
        }
        return shown[self.view]()

    def head(self, width: int) -> Line:
        """The first line: who this is, how the mesh is."""
        me, world = self.world.me, self.world
        if self.gone:
            return line(Span(f"✗ {self.gone}", "bad"))
        counts = world.counts()
        spans: list[str | Span] = [
            Span(f"{me.get('name', '...')}", "name"),
            Span(f" in {me.get('mesh', '...')}  ", ""),
            Span(f"● {counts.get('alive', 0)} alive", "good"),
        ]
        for state, sign, tone in (("suspect", "◐", "warn"), ("dead", "✗", "bad")):
            if counts.get(state):
                spans.append(Span(f"  {sign} {counts[state]} {state}", tone))
        busy = len(world.running)
        spans.append(Span(f"  {busy} under way", "busy" if busy else "dim"))
        rate = sum(peer.tokens_per_s for peer in world.peers.values() if peer.inflight)
        if rate:
            spans.append(Span(f"  {number(rate)} tok/s", "busy"))
        spans.append(Span(f"  up {seconds(float(me.get('uptime_s') or 0.0))}", "dim"))
        troubles = me.get("troubles") or []
        if troubles:
            spans.append(Span(f"  ! {troubles[-1]}", "warn"))
        if world.lost:
            spans.append(Span(f"  {world.lost} events missed", "warn"))
        return line(*spans)

    def tabs(self) -> Line:
        """The views and their keys."""
        return line(
            *(
                Span(
                    f"{i}{'·' if name != self.view else '▸'}{name} ",
                    "name" if name == self.view else "dim",
                )
                for i, name in enumerate(VIEWS, 1)
            ),
        )

    def keys(self) -> Line:
        """What can be done here; what was just said stands before it."""
        if self.said:
            return line(Span(self.said, "warn"))
        here = {
            "mesh": "enter nodes  4 ask",
            "nodes": "s/S sort  r reverse  / filter  enter open  a actions",
            "names": "/ filter  enter ask it",
            "chat": f"enter sends  esc stops  ^n new  ^r reach: {self.reach}",
            "traces": "enter open  / filter",
            "streams": "enter subscribe, leave  / filter",
            "search": "/ words  enter open",
        }.get(self.view, "arrows scroll")
        if self.opened is not None:
            here = "p replay  esc back" if self.opened.kind == "trace" else "a actions  esc back"
        wanted = f"[{self.filter}] " if self.filter else ""
        return line(Span(wanted, "warn"), Span(f"{here}  ? help  q quit", "dim"))

    def _opened(self, width: int) -> list[Line]:
        opened = self.opened
        if opened is None:
            return []
        if opened.kind == "trace":
            if self.record is None:
                return [line(Span("asking the agent for it ...", "dim"))]
            return trace_lines(self.record, width, self.replay_s)
        peer = self.world.peer(opened.key)
        if peer is None:
            return [line(Span(f"{opened.key} is not known any more", "warn"))]
        found = node_lines(peer, self.world, width)
        told = [event for _, event in self.world.events if peer.name in text_of(event)]
        if told:
            found += [line(), line(Span("LATELY", "head")), *told[:8]]
        return found

    def _chat(self, width: int) -> Body:
        rows: list[Row] = []
        for turn in self.turns:
            rows += [Row("", one) for one in turn_lines(turn, width, self._currency)]
            rows.append(Row("", line()))
        if not rows:
            text = "Ask the mesh. The route of each answer shows under it while it is made."
            rows.append(Row("", line(Span(text, "dim"))))
        return Body([], rows)

    @property
    def _currency(self) -> str:
        return str((self.budget or {}).get("currency") or "")

    def _events(self) -> Body:
        began = self.world.began
        rows = [
            Row("", line(Span(f"{at - began:8.1f} s  ", "dim"), *event))
            for at, event in self.world.events
            if self.filter.lower() in text_of(event).lower()
        ]
        heading = line(Span("    SINCE  WHAT HAPPENED (the newest first)", "head"))
        return Body([heading], rows or [Row("", line(Span("nothing yet", "dim")))])


def search_body(showing: Showing, width: int, wanted: str) -> Body:
    """Nodes, names and requests that have all the words."""
    heading = line(Span(f"SEARCH  {wanted or 'press / and type'}", "head"))
    if not wanted.strip():
        return Body([heading], [Row("", line(Span("in nodes, names and requests", "dim")))])
    rows: list[Row] = []
    world = showing.world
    for kind, body in (
        ("node", nodes_body(world, width - 7, wanted)),
        ("name", names_body(world.names, width - 7, wanted)),
        ("trace", traces_body(showing.traces, width - 7, wanted)),
    ):
        rows += [
            Row(f"{kind}:{row.key}", (Span(f"{kind:<7}", "dim"), *row.line))
            for row in body.rows
            if row.key
        ]
    return Body([heading], rows or [Row("", line(Span("nothing has these words", "dim")))])


def _still(lines: list[Line]) -> Body:
    return Body(lines, [])
