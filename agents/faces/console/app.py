"""The console on a screen: keys to actions, the feed to views."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import Input

from agents.faces.console.actions import Actions
from agents.faces.console.keys import BINDINGS, HELP
from agents.faces.console.route import Turn
from agents.faces.console.showing import REACHES, Opened, Showing
from agents.faces.console.source import Connect, Source
from agents.faces.console.streams import data_names
from agents.faces.console.widgets import Help, Lines, OneLine
from agents.faces.console.world import World
from agents.faces.console.writing import asked
from agents.faces.sheets import error_line
from agents.library.events import Broken, Missed, Published
from capabilities.messages import Sample
from mesh.core.errors import GossamerError

WATCH_S = 0.5
PAINT_S = 0.08  # the soonest after another paint: tokens of a fast model come every millisecond
NAMES_S = 5.0  # names and requests change seldom; the budget too
RETRY_S = 2.0
ASK_TIMEOUT_S = 120.0
REPLAY_STEP_S = 0.1
REPLAY_LONGEST_S = 10.0  # a replay of an hour is shown as fast as this


class Console(App[None]):
    """The console of one agent. ``connect`` is called again when the agent was lost."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "gossamer"
    CSS = """
    Screen { background: #101418; color: #e6e6e6; }
    #typed { height: 1; border: none; padding: 0; background: #1c2228; display: none; }
    #typed.on { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = BINDINGS

    def __init__(self, connect: Connect, source: Source | None = None) -> None:
        super().__init__()
        self._connect = connect
        self._source = source
        self.world = World()
        self.showing = Showing(self.world)
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._turn: Turn | None = None
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._replaying: asyncio.Task[None] | None = None
        self._paint_due = False
        self._typing = ""  # what the input line is for: "", filter or chat
        self._actions = Actions(self, lambda: self._source, self._start, self._tell)
        self.painted = asyncio.Event()  # with what the agent said

    def compose(self) -> ComposeResult:
        """Two lines above, the view, an input line when one is needed, a line of keys."""
        yield OneLine(id="head")
        yield OneLine(id="tabs")
        yield Lines(id="lines")
        yield Input(id="typed", compact=True, select_on_focus=False)
        yield OneLine(id="keys")

    def on_mount(self) -> None:
        """Begin to watch."""
        self.query_one(Lines).focus()
        self._paint()
        self._start(self._watch())
        self._start(self._look())

    async def on_unmount(self) -> None:
        """Leave nothing running."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._source is not None:
            with suppress(GossamerError):
                await self._source.close()

    # -- what comes from the agent ----------------------------------------------------------

    async def _watch(self) -> None:
        """Follow the feed; when the agent goes, say so and try again."""
        while True:
            try:
                if self._source is None:
                    self._source = await self._connect()
                async with aclosing(self._source.watch(WATCH_S)) as events:  # type: ignore[type-var]
                    async for event in events:
                        self.showing.gone = ""
                        self.world.feed(event)
                        self.dirty()
                why = "the agent ended its feed"
            except GossamerError as error:
                why = error_line(error)
            source, self._source = self._source, None
            if source is not None:
                with suppress(GossamerError):
                    await source.close()
            self.showing.gone = f"{why} (trying again)"
            self.dirty()
            await asyncio.sleep(RETRY_S)

    async def _look(self) -> None:
        """Read again what no event tells of."""
        while True:
            await self._read()
            await asyncio.sleep(NAMES_S)

    async def _read(self) -> None:
        source, showing = self._source, self.showing
        if source is None:
            return
        with suppress(GossamerError):
            self.world.names = await source.names()
        with suppress(GossamerError):
            showing.traces = await source.traces(64)
        try:
            showing.budget, showing.budget_why = await source.budget(), ""
        except GossamerError as error:
            showing.budget, showing.budget_why = None, error_line(error)
        self.dirty()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that failed in a way nobody thought of says so on the screen."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.showing.said = f"a bug of the console: {type(error).__name__}: {error}"
            self.dirty()

    # -- painting ---------------------------------------------------------------------------

    def dirty(self) -> None:
        """Paint soon; many events become one paint."""
        if not self._paint_due and self.is_running:
            self._paint_due = True
            self.set_timer(PAINT_S, self._paint)

    def _paint(self) -> None:
        self._paint_due = False
        if not self.is_running:
            return
        showing = self.showing
        base = self.screen_stack[0]
        lines = base.query_one("#lines", Lines)
        width, height = lines.size
        base.query_one("#head", OneLine).take(showing.head(width))
        base.query_one("#tabs", OneLine).take(showing.tabs())
        base.query_one("#keys", OneLine).take(showing.keys())
        if width and height:
            lines.take(showing.body(width, height))
            if self.world.peers:
                self.painted.set()

    def on_resize(self) -> None:
        """Lay the view out for the new size."""
        self.call_after_refresh(self._paint)

    # -- keys -------------------------------------------------------------------------------

    @property
    def _lines(self) -> Lines:
        return self.screen_stack[0].query_one("#lines", Lines)

    @property
    def _typed(self) -> Input:
        return self.screen_stack[0].query_one("#typed", Input)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of the console mean nothing while a dialog is open."""
        if len(self.screen_stack) > 1:
            return action == "quit"
        return True

    def action_view(self, name: str) -> None:
        """Go to a view."""
        self._stop_replay()
        self.showing.show(name)
        self.showing.said = ""
        self._lines.follow = name == "chat"
        self._lines.rewind()
        if name == "chat":
            self._type("chat", "ask the mesh: ")
        elif name == "search":
            self._type("filter", "words to look for")
        else:
            self._stop_typing()
        self._paint()

    def action_filter(self) -> None:
        """Type the filter of this view; in the chat, a question."""
        if self.showing.opened is None:
            chat = self.showing.view == "chat"
            self._type("chat" if chat else "filter", "ask the mesh" if chat else "filter")

    def action_sort(self, step: int) -> None:
        """Sort the nodes by another column."""
        self.showing.next_sort(step)
        self._paint()

    def action_reverse(self) -> None:
        """Turn the order of the nodes round."""
        self.showing.back = not self.showing.back
        self._paint()

    def action_reach(self) -> None:
        """How far the next question may go."""
        place = REACHES.index(self.showing.reach)
        self.showing.reach = REACHES[(place + 1) % len(REACHES)]
        self._paint()

    def action_fresh(self) -> None:
        """Begin a new conversation: what was said before goes along no more."""
        if self._asking is None or self._asking.done():
            self.showing.turns = []
            self.action_view("chat")

    def action_move(self, by: int) -> None:
        """Another row, or scroll."""
        self._lines.move(by)

    def action_page(self, by: int) -> None:
        """A screen on or back."""
        self._lines.move(by * self._lines.page)

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help(HELP))

    def action_update(self) -> None:
        """Read names, requests and budget now."""
        self._start(self._read())

    def action_interrupt(self) -> None:
        """Ctrl-C stops an answer that is being made; without one it leaves."""
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
        else:
            self.exit()

    def action_leave(self) -> None:
        """Out of a dialog, the input line, what is open, a filter: whichever is nearest."""
        showing = self.showing
        showing.said = ""
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
        elif self._typing:
            self._stop_typing()
        elif showing.opened is not None:
            self._stop_replay()
            showing.opened = None
            self._lines.rewind()
        else:
            showing.filters.pop(showing.view, None)
        self._paint()

    def action_open(self) -> None:
        """Open, ask or subscribe to what the cursor stands on."""
        showing, key = self.showing, self._lines.chosen
        if showing.opened is not None:
            return
        kind, _, rest = key.partition(":") if showing.view == "search" else ("", "", "")
        if showing.view == "mesh":
            self.action_view("nodes")
        elif showing.view == "chat":
            self._type("chat", "ask the mesh")
        elif not key:
            return
        elif showing.view == "nodes" or kind == "node":
            self._open(Opened("node", rest or key))
        elif showing.view == "traces" or kind == "trace":
            self._open(Opened("trace", rest or key))
            self._start(self._fetch_trace(rest or key))
        elif showing.view == "streams":
            self._toggle(key)
        elif showing.view == "names" or kind == "name":
            name = rest or key
            if name in data_names(self.world.names):
                self.action_view("streams")
                self._toggle(name)
            else:
                found = next((n for n in self.world.names if n.name == name), None)
                self.action_view("chat")
                self._typed.value = found.examples[0] if found and found.examples else ""
                self._typed.cursor_position = len(self._typed.value)

    def action_replay(self) -> None:
        """Replay the open request as it happened, or stop the replay."""
        opened = self.showing.opened
        if self._stop_replay() or opened is None or opened.kind != "trace":
            return
        if self.showing.record is not None:
            self._replaying = self._start(self._replay())

    def action_act(self) -> None:
        """Ask what to do with the chosen node."""
        showing = self.showing
        opened = showing.opened
        name = ""
        if opened is not None and opened.kind == "node":
            name = opened.key
        elif showing.view == "nodes" and opened is None:
            name = self._lines.chosen
        peer = self.world.peer(name) if name else None
        if peer is None:
            showing.said = "choose a node first (key 2)"
        else:
            self._actions.offer(peer)
        self._paint()

    def _open(self, opened: Opened) -> None:
        self.showing.opened = opened
        self.showing.record = None
        self._stop_typing()
        self._lines.follow = False
        self._lines.rewind()
        self._paint()

    # -- the input line ---------------------------------------------------------------------

    def _type(self, purpose: str, hint: str) -> None:
        typed = self._typed
        self._typing = purpose
        typed.placeholder = hint
        with self.prevent(Input.Changed):
            typed.value = self.showing.filter if purpose == "filter" else ""
        typed.cursor_position = len(typed.value)
        typed.add_class("on")
        typed.focus()

    def _stop_typing(self) -> None:
        self._typing = ""
        self._typed.remove_class("on")
        self._lines.focus()
        self.call_after_refresh(self._paint)

    def on_input_changed(self, event: Input.Changed) -> None:
        """A filter works while it is typed."""
        if self._typing == "filter":
            self.showing.filters[self.showing.view] = event.value
            self._paint()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask, or leave the filter line."""
        if self._typing == "filter":
            self._stop_typing()
            return
        question = event.value.strip()
        if not question:
            return
        if self._asking is not None and not self._asking.done():
            self.showing.said = "an answer is being made; esc stops it"
        elif self._source is None:
            self.showing.said = "the agent is not there"
        else:
            self.showing.said = ""
            event.input.value = ""
            self._turn = self.showing.ask(question)
            self._lines.follow = True
            self._asking = self._start(self._ask(self._source, self._turn))
        self._paint()

    # -- what takes time --------------------------------------------------------------------

    async def _ask(self, source: Source, turn: Turn) -> None:
        try:
            stream = asked(
                source,
                turn.question,
                timeout_s=ASK_TIMEOUT_S,
                reach=self.showing.reach,
                history=self.showing.history(turn),
            )
            async with aclosing(stream) as events:  # type: ignore[type-var]
                async for event in events:
                    turn.event(event)
                    self.dirty()
        except GossamerError as error:
            turn.error = error_line(error)
        except asyncio.CancelledError:
            turn.error = "stopped"
        finally:
            if not turn.over:
                turn.error = "the agent ended it without an answer"
            self.dirty()
        await self._read()

    async def _fetch_trace(self, trace: str) -> None:
        if self._source is None:
            return
        try:
            self.showing.record = await self._source.trace(trace)
            self.showing.replay_s = None
        except GossamerError as error:
            self.showing.opened = None
            self.showing.said = error_line(error)
        self.dirty()

    async def _replay(self) -> None:
        whole = float((self.showing.record or {}).get("elapsed_s") or 0.0)
        speed = max(1.0, whole / REPLAY_LONGEST_S)
        began = time.monotonic()
        try:
            while (past := (time.monotonic() - began) * speed) < whole:
                self.showing.replay_s = past
                self.dirty()
                await asyncio.sleep(REPLAY_STEP_S)
        finally:
            self.showing.replay_s = None
            self.dirty()

    def _stop_replay(self) -> bool:
        task, self._replaying = self._replaying, None
        if task is None or task.done():
            return False
        task.cancel()
        self.showing.replay_s = None
        return True

    def _tell(self, text: str) -> None:
        self.showing.said = text
        self.dirty()

    def _toggle(self, name: str) -> None:
        """Subscribe to a data name, or leave it."""
        task = self._subscriptions.pop(name, None)
        if task is not None and not task.done():
            task.cancel()
            self.showing.subscribed.pop(name, None)
        elif self._source is not None:
            self.showing.subscribed[name] = "waiting for its first message ..."
            self._subscriptions[name] = self._start(self._follow(self._source, name))
        self._paint()

    async def _follow(self, source: Source, name: str) -> None:
        count = missed = 0
        told = self.showing.subscribed
        try:
            async with aclosing(source.follow(name)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Broken):
                        told[name] = f"{event.node} was lost: {event.why}; it is tried again"
                    elif isinstance(event, Missed):
                        missed += max(1, event.missed)
                    elif isinstance(event, Published):
                        count += 1
                        lost = f", {missed} missed" if missed else ""
                        told[name] = f"from {event.node}, {count} messages{lost}"
                        if isinstance(event.value, Sample):
                            for key, value in event.value.values.items():
                                self.world.sample(f"{name} {key}", value)
                    self.dirty()
            told[name] = f"it ended after {count} messages"
        except GossamerError as error:
            told[name] = error_line(error)
        self.dirty()
