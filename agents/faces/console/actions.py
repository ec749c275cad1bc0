"""What can be done to a node at the console: chosen from a menu, confirmed, told how it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from textual.app import App

from agents.faces.console.source import Source
from agents.faces.console.widgets import Confirm, Menu, Words
from agents.faces.sheets import error_line
from agents.views import PeerView
from mesh.core.errors import GossamerError

MAX_POLICIES = 9  # one digit each

Order = Callable[[Source], Awaitable[dict[str, Any]]]


class Actions:
    """The actions of one console. ``source`` is its agent now, ``start`` runs what takes time,
    ``say`` shows a line."""

    def __init__(
        self,
        app: App[None],
        source: Callable[[], Source | None],
        start: Callable[[Coroutine[Any, Any, None]], object],
        say: Callable[[str], None],
    ) -> None:
        self._app = app
        self._source = source
        self._start = start
        self._say = say

    def offer(self, peer: PeerView) -> None:
        """Ask what to do with a node."""
        drain = ("r", "resume: take work again") if peer.draining else ("d", "drain: nothing new")
        options = [drain, ("l", "load a model"), ("p", "change the scheduling policy")]
        if peer.models:
            options.insert(2, ("u", "unload a model"))
        if not peer.me:
            options.append(("x", "revoke it: out of the mesh for good"))
        self._app.push_screen(Menu(f"What about {peer.name}?", options), partial(self._next, peer))

    def _next(self, peer: PeerView, chosen: str | None) -> None:
        name = peer.name
        match chosen:
            case "d":
                self._confirm(
                    f"Drain {name}?",
                    "It finishes what it works on and takes nothing new, until it is resumed,"
                    " also after a restart.",
                    lambda s: s.drain(name, "drained at the console"),
                    f"{name} is drained",
                )
            case "r":
                self._do(lambda s: s.resume(name), f"{name} takes work again")
            case "l":
                words = Words(
                    f"Load which model at {name}?",
                    "builtin:NAME, or what its configuration names",
                )
                self._app.push_screen(words, partial(self._load, name))
            case "u":
                found = [(str(i), model) for i, model in enumerate(peer.models[:9], 1)]
                self._app.push_screen(
                    Menu(f"Unload which model at {name}?", found),
                    partial(self._unload, name, dict(found)),
                )
            case "p":
                self._start(self._policies(name))
            case "x":
                self._confirm(
                    f"Revoke {name}?",
                    "Its certificate is taken back for good and every node of the mesh cuts it"
                    " off. It can only come back with a new invitation.",
                    lambda s: s.revoke(name, "revoked at the console"),
                    f"{name} is revoked",
                )

    def _load(self, name: str, model: str | None) -> None:
        if model:
            self._say(f"{name} loads {model} ...")
            self._do(lambda s: s.load(model, node=name), f"{name} serves {model}")

    def _unload(self, name: str, models: dict[str, str], chosen: str | None) -> None:
        if chosen:
            model = models[chosen]
            self._confirm(
                f"Unload {model} at {name}?",
                "Its names are taken back, it finishes what it works on, its memory is freed.",
                lambda s: s.unload(model, node=name),
                f"{name} has unloaded {model}",
            )

    async def _policies(self, name: str) -> None:
        source = self._source()
        if source is None:
            return
        try:
            now = await source.policy(node=name)
        except GossamerError as error:
            self._say(error_line(error))
            return
        known = [str(one) for one in now.get("known") or []][:MAX_POLICIES]
        found = [(str(i), one) for i, one in enumerate(known, 1)]
        self._app.push_screen(
            Menu(f"{name} schedules by {now.get('policy')}. By which from now on?", found),
            partial(self._choose, name, dict(found)),
        )

    def _choose(self, name: str, policies: dict[str, str], chosen: str | None) -> None:
        if chosen:
            policy = policies[chosen]
            self._do(lambda s: s.policy(policy, node=name), f"{name} schedules by {policy}")

    def _confirm(self, question: str, consequence: str, order: Order, done: str) -> None:
        self._app.push_screen(
            Confirm(question, consequence), lambda sure: self._do(order, done) if sure else None
        )

    def _do(self, order: Order, done: str) -> None:
        async def run() -> None:
            source = self._source()
            if source is None:
                self._say("the agent is not there")
                return
            try:
                await order(source)
                self._say(done)
            except GossamerError as error:
                self._say(error_line(error))

        self._start(run())
