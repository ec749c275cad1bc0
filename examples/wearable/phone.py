"""The phone's app: it asks the devices one after the other, forms the view, advises, tells.

Everything goes through the phone's own agent, by its local door. What it hears of a device is that
device's insight and the sentence of that device's model; no raw value can reach it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from agents.library import Agent, GossamerError, Published, Sample
from capabilities.standards.vitals import LEVELS, score
from examples.wearable.view import Heard, View, advice, alarm, gap, told, unify
from mesh.core.errors import NoSuchName

VITALS, AIR, HEALTH = "knowledge.gpt/vitals", "knowledge.gpt/air_quality", "knowledge.gpt/health"
ALARM = "data.gpt/alarm/summary"
ORDER = {
    "watch": ("heart", "activity"),
    "ring": ("finger",),
    "patch": ("breath",),
    "hub": ("room", "sleep"),
}
WANTED = {
    "pulse": "watch",
    "spo2": "ring",
    "temperature": "ring",
    "respiration": "patch",
    "sleep": "hub",
    "room air": "hub",
}
AGAIN_S = 0.2
INSIGHT_S = 60.0  # a device that lives says its insight in a second; a loaded machine takes more
SUSPECT_S = 15.0  # one that failed a probe may be slow or gone
MODEL_S = 60.0
SCORED = re.compile(r"NEWS2 score (\d+)")


@dataclass
class Step:
    """One thing that was done for the answer, and where."""

    device: str
    what: str
    name: str
    elapsed_s: float
    text: str = ""
    status: str = "ok"


@dataclass
class Round:
    """One time round all devices: the steps in their order, the view, what was said."""

    session: str
    feeling: str
    trace: str
    view: View = field(default_factory=View)
    steps: list[Step] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    gap: str = ""
    knowledge: str = ""
    knowledge_from: str = ""
    advice: list[str] = field(default_factory=list)
    alarm: str = ""
    corrected: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def hops(self) -> list[str]:
        """The devices that inferred, in order."""
        told = [step.device for step in self.steps if step.status == "ok"]
        return [device for device in dict.fromkeys(told) if device in ORDER]

    def answer(self) -> str:
        """What the user is told."""
        found = self.view.score()
        lines = []
        if found is not None:
            lines.append(
                f"NEWS2 is {found.total}, {LEVELS[found.level].lower()} risk, from"
                f" {len(found.points)} of 7 parameters ({told(self.view)})."
            )
        lines += [f"Contradiction: {text}." for text in self.view.conflicts]
        lines += [f"At fault: {text}." for text in self.view.faulty]
        lines += self.advice
        if self.knowledge:
            lines.append(f"From the practice's documents: {self.knowledge}")
        if self.view.missing:
            lines.append(f"Missing: {', '.join(self.view.missing)}.")
        if self.view.stale:
            lines.append(f"Not new: {', '.join(self.view.stale)}.")
        lines.append("No diagnosis.")
        return "\n".join(lines)


class Phone:
    """The user's agent and what it remembers of the devices."""

    def __init__(self, agent: Agent, say: Callable[[str], None] = lambda text: None) -> None:
        self._agent = agent
        self._say = say
        self._last: dict[tuple[str, str], tuple[float, Heard]] = {}

    async def look(self, session: str, feeling: str, *, since: float) -> Round:
        """Ask each device in turn, then say what it all means. ``since`` is the wall time that an
        insight must not be older than."""
        began = time.monotonic()
        made = Round(session=session, feeling=feeling, trace=secrets.token_hex(16))
        for device in ORDER:
            await self._hop(made, device, since)
        made.view = unify(made.heard, WANTED)
        made.gap = gap(feeling)
        if made.gap:
            await self._ask_provider(made)
        made.advice = advice(made.view)
        made.alarm = alarm(made.view)
        if made.alarm:
            await self._timed(made, "phone", "alarm", ALARM, self._tell_alarm(made))
        made.wall_s = time.monotonic() - began
        return made

    # -- the devices ------------------------------------------------------------------------

    async def _hop(self, made: Round, device: str, since: float) -> None:
        patience_s = await self._patience_s(device)
        if not patience_s:
            made.absent.append(device)
            made.steps.append(Step(device, "absent", "", 0.0, status="absent"))
            self._say(f"The {device} cannot be reached.")
            for domain in ORDER[device]:
                self._remember(made, device, domain)
            return
        for domain in ORDER[device]:
            name = f"data.gpt/{domain}/insight"
            work = self._insight(device, name, made.session, since, patience_s)
            heard = await self._timed(made, device, "insight", name, work)
            if heard is None:
                self._remember(made, device, domain)
                continue
            one = Heard(device, domain, heard.values)
            made.heard.append(one)
            self._last[device, domain] = (heard.at, one)
        await self._infer(made, device)

    def _remember(self, made: Round, device: str, domain: str) -> None:
        """Its last words instead, called old."""
        if (device, domain) in self._last:
            at, old = self._last[device, domain]
            stale_s = max(1.0, time.time() - at)
            made.heard.append(Heard(device, domain, old.values, stale_s=stale_s))

    async def _insight(
        self, device: str, name: str, session: str, since: float, patience_s: float
    ) -> Sample:
        until = time.monotonic() + patience_s
        while (left_s := until - time.monotonic()) > 0:
            try:
                return await self._follow(f"{name}@{device}", session, since, left_s)
            except NoSuchName:  # the feed opens with its first message, and gossip tells of it
                await asyncio.sleep(AGAIN_S)
        raise _none(name, device, patience_s)

    async def _follow(self, name: str, session: str, since: float, timeout_s: float) -> Sample:
        events = self._agent.follow(name, timeout_s=timeout_s)
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                if (
                    isinstance(event, Published)
                    and event.key == session
                    and isinstance(event.value, Sample)
                    and event.value.at >= since
                ):
                    return event.value
        place, _, device = name.partition("@")
        raise _none(place, device, timeout_s)

    async def _infer(self, made: Round, device: str) -> None:
        """The device's own model reads the view so far, its own part included."""
        so_far = unify(made.heard, {})
        if device == "hub":
            air = so_far.context.get("pm25_ug_m3")
            if air is not None:
                call = self._model(AIR, device, f"PM2.5 is {air:.0f} ug/m3", made.trace)
                await self._timed(made, device, "model", AIR, call)
            return
        if not so_far.chosen:
            return
        call = self._model(VITALS, device, told(so_far), made.trace)
        text = await self._timed(made, device, "model", VITALS, call)
        said = SCORED.search(text or "")
        ruled = score({key: claim.value for key, claim in so_far.chosen.items()})
        if text is not None and (said is None or int(said.group(1)) != ruled.total):
            made.corrected.append(
                f"{device}: the model said {said.group(1) if said else 'no score'},"
                f" the standard's rule {ruled.total}"
            )

    async def _model(self, name: str, device: str, text: str, trace: str) -> str:
        made = await self._agent.generate(
            f"{name}@{device}", text, timeout_s=MODEL_S, trace=trace
        )  # fmt: skip
        return made.text

    # -- the rest ---------------------------------------------------------------------------

    async def _ask_provider(self, made: Round) -> None:
        async def ask() -> str:
            found = await self._agent.generate(
                HEALTH, made.gap, timeout_s=MODEL_S, trace=made.trace
            )
            made.knowledge_from = f"{found.name}@{found.node}"
            return found.text

        text = await self._timed(made, "practice", "knowledge", HEALTH, ask())
        # Its sentences stand before the quotations that they are from: the quotation is enough.
        quoted = [line for line in (text or "").splitlines() if line.startswith("[1] ")]
        made.knowledge = quoted[0].removeprefix("[1] ") if quoted else text or ""

    async def _tell_alarm(self, made: Round) -> str:
        await self._agent.publish(ALARM, {"text": made.alarm}, key=made.session)
        return made.alarm

    async def _patience_s(self, device: str) -> float:
        """How long to wait for a device, 0 for one that is dead, gone or unknown."""
        for peer in await self._agent.peers():
            if peer.name == device:
                return {"alive": INSIGHT_S, "suspect": SUSPECT_S}.get(peer.state, 0.0)
        return 0.0

    async def _timed(self, made: Round, device: str, what: str, name: str, work: Any) -> Any:
        began = time.monotonic()
        try:
            found = await work
        except GossamerError as error:
            step = Step(
                device, what, name, time.monotonic() - began, error.sentence(), status=error.code
            )
            made.steps.append(step)
            self._say(f"The {device} gave no {what}: {error.sentence()}")
            return None
        text = found if isinstance(found, str) else ""
        made.steps.append(Step(device, what, name, time.monotonic() - began, text))
        if what == "model":
            self._say(f"{device}: {text}")
        return found


def _none(name: str, device: str, patience_s: float) -> GossamerError:
    return GossamerError(f"no insight of {name} from the {device} within {patience_s:.0f} s")
