"""The scenario with real processes: who is there, what happens to them, what is proven of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.library import Agent, GossamerError, Published, Summary, connect
from capabilities.standards.vitals import LEVELS
from examples._stage import Actor, Narrator, Stage
from examples.wearable import cases
from examples.wearable.cases import Case, play
from examples.wearable.feed import read_wave, send
from examples.wearable.phone import ALARM, HEALTH, ORDER, Phone, Round
from examples.wearable.report import write
from examples.wearable.sharing import VARIABLE
from examples.wearable.view import LIMITS, unify

HERE = Path(__file__).parent
DEVICES = tuple(ORDER)
RAW = {
    "watch": ("data.gpt/heart/raw", "data.gpt/activity/raw"),
    "ring": ("data.gpt/finger/raw",),
    "patch": ("data.gpt/breath/raw",),
    "hub": ("data.gpt/room/raw", "data.gpt/sleep/raw"),
}
REPORT = "data.gpt/report/summary"
REPORT_CHARS = 7000  # of a summary, which takes 8 KiB
ALARM_S, REFUSAL_S = 60.0, 30.0
PUBLISH = {
    "watch": ("data.gpt/heart/*", "data.gpt/activity/*", "knowledge.gpt/vitals"),
    "ring": ("data.gpt/finger/*", "knowledge.gpt/vitals"),
    "patch": ("data.gpt/breath/*", "knowledge.gpt/vitals"),
    "hub": ("data.gpt/room/*", "data.gpt/sleep/*", "knowledge.gpt/air_quality"),
    "phone": ("data.gpt/alarm/*", "data.gpt/report/*", "data.gpt/wellbeing/*"),
    "practice": ("knowledge.gpt/health",),
}


def people() -> dict[str, dict[str, float]]:
    """The neighbours' days, as they stand in the data."""
    found: dict[str, dict[str, float]] = json.loads(
        (HERE / "data" / "people.json").read_text(encoding="utf-8")
    )
    return found


def actors(port: int, root: Path) -> list[Actor]:
    """Who is there; their configurations are those that ``inventory.toml`` deploys."""

    def config(name: str) -> str:
        text = (HERE / "nodes" / f"{name}.toml").read_text(encoding="utf-8")
        return text.replace("port = 1883", f"port = {port}")

    def day(name: str) -> dict[str, str]:
        return {VARIABLE: str(root / f"{name}-day.json")}

    made = [Actor("phone", PUBLISH["phone"], config("phone"), "", ("body", "neighbours"),
                  environment=day("phone"))]  # fmt: skip
    made += [Actor(name, PUBLISH[name], config(name), "", ("body",)) for name in DEVICES]
    made += [Actor("practice", PUBLISH["practice"], config("practice"), "", ("provider",))]
    for name in people():
        publish = ("data.gpt/wellbeing/*",)
        made.append(
            Actor(name, publish, config("neighbour"), "", ("neighbours",), environment=day(name))
        )
    return made


class Story:
    """All of it: agents and broker on a stage, one case after the other."""

    def __init__(
        self, stage: Stage, narrator: Narrator, *, short: bool, report: Path | None = None
    ) -> None:
        self.stage = stage
        self.folder = report or stage.root / "report"
        self.tell = narrator
        self.short = short
        self.rounds: list[tuple[Case, Round]] = []
        self.wave = read_wave()
        self.alarms: dict[str, float] = {}
        self.readings: Counter[str] = Counter()

    async def run(self) -> dict[str, Any]:
        """Every case; returns what the scenario shows, as one object."""
        began = time.monotonic()
        stage, tell = self.stage, self.tell
        tell.heading("Anna's devices start")
        await self._start()
        ready_s = time.monotonic() - began
        tell.say(
            f"{len(stage.actors)} agents, each a process, found each other in {ready_s:.1f} s."
        )
        async with await connect(stage.state("phone")) as agent, self._ben() as alarms:
            self.phone = Phone(agent, tell.say)
            served = await self._served()
            await self._case(cases.CALM)
            asked = await self._served()
            calm_questions = asked["practice"].get(HEALTH, 0) - served["practice"].get(HEALTH, 0)
            for case in cases.EVENING[1 if self.short else 0 :]:
                made = await self._case(case)
                if made.alarm:
                    await self._alarm_heard(alarms, case)
            refused = await self._raw_refused(agent)
            await self._contradiction()
            await self._away()
            left = await self._left()  # before the ring's own count dies with it
            self._show_left(left)
            await self._missing()
            group = await self._group()
            report = await self._report(agent, left, group)
        out = {
            "rounds": [self._told(case, made) for case, made in self.rounds],
            "alarms": self.alarms,
            "questions_on_the_calm_day": calm_questions,
            "raw": refused,
            "left": left,
            "group": group,
            "report": report,
            "limits": list(LIMITS),
            "agents": len(stage.actors),
            "ready_s": round(ready_s, 2),
        }
        return {**out, "elapsed_s": round(time.monotonic() - began, 2)}

    # -- beginning --------------------------------------------------------------------------

    async def _start(self) -> None:
        stage = self.stage
        self.broker = await asyncio.to_thread(stage.broker)
        first, *others = actors(self.broker.port, stage.root)
        for name, day in people().items():
            (stage.root / f"{name}-day.json").write_text(json.dumps(day), encoding="utf-8")
        stage.launch(first)
        seed = await stage.seed(first.name)
        for actor in others:
            stage.launch(actor, (seed,))
        await stage.seed("practice")
        async with await connect(stage.state("practice")) as practice:
            added = await practice.knowledge_add(
                HERE / "knowledge", domain="health", access="mesh"
            )  # fmt: skip
            self.passages = added.passages
        await stage.ready(first.name, [actor.name for actor in (first, *others)])

    @asynccontextmanager
    async def _ben(self) -> AsyncIterator[asyncio.Queue[tuple[str, float]]]:
        """Ben, whom Anna chose, hears her alarms on his own phone."""
        heard: asyncio.Queue[tuple[str, float]] = asyncio.Queue()

        async def listen() -> None:
            async with await connect(self.stage.state("ben")) as ben:
                events = ben.follow(f"{ALARM}@phone")
                async with aclosing(events):  # type: ignore[type-var]
                    async for event in events:
                        if isinstance(event, Published) and isinstance(event.value, Summary):
                            heard.put_nowait((event.key, time.time() - event.at))

        task = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- one case ---------------------------------------------------------------------------

    async def _case(self, case: Case) -> Round:
        self.tell.heading(case.title)
        now = time.time()
        played = play(case, self.wave, now)
        await send(self.broker.host, self.broker.port, played)
        for one in played:
            await self._taken(one.device, case.session, one.expected)
            self.readings[one.device] += sum(one.expected.values())
        self.tell.say(f'Anna says: "{case.feeling}"')
        made = await self.phone.look(case.session, case.feeling, since=time.time())
        self.rounds.append((case, made))
        self.tell.answer(made.answer())
        if made.gap:
            self.tell.say("Her words leave a question open: the practice's agent was asked.")
        steps = sum(step.elapsed_s for step in made.steps)
        self.tell.say(
            f"Hops: {', '.join(made.hops)}. Wall {made.wall_s:.2f} s, steps {steps:.2f} s:"
            " one after the other."
        )
        return made

    async def _taken(self, device: str, session: str, expected: dict[str, int]) -> None:
        """Until the device's agent holds all readings of the session."""

        async def look() -> bool:
            series = (await self.stage.fetch(device, "sensors"))["bridge"]["series"]
            held = {s["name"].split("/")[1]: s["updates"] for s in series if s["key"] == session}
            return all(held.get(domain, 0) >= count for domain, count in expected.items())

        await self.stage.until(look, f"the {device} holds the readings of {session}")

    async def _alarm_heard(self, alarms: asyncio.Queue[tuple[str, float]], case: Case) -> None:
        try:
            async with asyncio.timeout(ALARM_S):
                while case.session not in self.alarms:
                    session, after_s = await alarms.get()
                    self.alarms[session] = round(after_s, 3)
        except TimeoutError:
            self.tell.say("Ben heard no alarm.")
        else:
            self.tell.say(f"Ben's phone rang {self.alarms[case.session]:.2f} s after the alarm.")

    # -- what goes wrong --------------------------------------------------------------------

    async def _contradiction(self) -> None:
        await self._case(cases.CONTRADICTION)

    async def _away(self) -> None:
        self.stage.freeze("hub")
        await self._state("hub", alive=False)
        await self._case(cases.AWAY)
        self.stage.freeze("hub", frozen=False)
        await self._state("hub", alive=True)
        self.tell.say("Home again: the hub is heard.")

    async def _missing(self) -> None:
        self.stage.kill("ring")
        await self._state("ring", alive=False)
        await self._case(cases.MISSING)

    async def _state(self, name: str, *, alive: bool) -> None:
        async def look() -> bool:
            state = (await self.stage.peers("phone")).get(name, {}).get("state", "unknown")
            return state == "alive" if alive else state not in {"alive", "suspect"}

        await self.stage.until(look, f"the phone sees {name} {'back' if alive else 'gone'}")

    # -- what is proven ---------------------------------------------------------------------

    async def _raw_refused(self, agent: Agent) -> dict[str, str]:
        """The phone, nearest of all, tries to follow every raw feed; what it gets."""
        found = {}
        for device, names in RAW.items():
            for name in names:
                found[f"{name}@{device}"] = await self._try(agent, f"{name}@{device}")
        self.tell.say(
            f"The phone tried to follow {len(found)} raw feeds:"
            f" {sum(word == 'denied' for word in found.values())} refused."
        )
        return found

    @staticmethod
    async def _try(agent: Agent, name: str) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(REFUSAL_S):
                try:
                    events = agent.follow(name, back=1, timeout_s=REFUSAL_S)
                    async with aclosing(events):  # type: ignore[type-var]
                        async for event in events:
                            if isinstance(event, Published):
                                return "told"
                except GossamerError as error:
                    return error.code
        return "nothing"

    async def _served(self) -> dict[str, dict[str, int]]:
        """How many calls each living agent served, by name."""
        return {name: served_of(metrics) for name, metrics in (await self._metrics()).items()}

    async def _metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in self.stage.actors:
            with suppress(GossamerError):
                found[name] = await self.stage.fetch(name, "metrics")
        return found

    async def _left(self) -> dict[str, Any]:
        """What each device let out: the insights that the phone heard of it and their figures,
        calls served and refused, bytes on the wire (gossip and encryption included)."""
        left: dict[str, Any] = {}
        for device, metrics in (await self._metrics()).items():
            if device not in DEVICES:
                continue
            heard = [one for _, made in self.rounds for one in made.heard if one.device == device]
            fresh = [one for one in heard if not one.stale_s]
            left[device] = {
                "insights": len(fresh),
                "figures": sorted({name for one in fresh for name in one.values}),
                "readings_kept": self.readings.get(device, 0),
                "served": served_of(metrics),
                "refused": refused_of(metrics),
                "bytes_out": int(metrics["bytes"]["out"]),
            }
        return left

    def _show_left(self, left: dict[str, Any]) -> None:
        self.tell.heading("What left each device so far")
        self.tell.table(
            ("device", "readings kept there", "insights told", "raw refused", "bytes sent"),
            [
                (name, one["readings_kept"], one["insights"], one["refused"], one["bytes_out"])
                for name, one in left.items()
            ],
        )
        self.tell.say("Bytes are all that the agent sent, gossip and encryption included.")

    async def _group(self) -> dict[str, Any]:
        """The practice asks for the mean day of four people, and learns nobody's."""
        view = unify([one for _, made in self.rounds for one in made.heard], {})
        day = {"steps": view.context["steps_today"], "asleep_h": view.context["asleep_h"]}
        (self.stage.root / "phone-day.json").write_text(json.dumps(day), encoding="utf-8")
        found = await self.stage.fetch(
            "practice", "secure_sum", domain="wellbeing", of=["steps", "asleep_h"], kind="mean"
        )
        self.tell.heading("A group's day")
        steps, asleep = found["means"]
        self.tell.say(
            f"{found['inputs']} phones: {steps:.0f} steps and {asleep:.1f} h asleep on average;"
            " the practice saw no summand."
        )
        days = [*people().values(), day]
        plain = {name: sum(one[name] for one in days) / len(days) for name in day}
        return {**found, "plain_means": [plain["steps"], plain["asleep_h"]]}

    async def _report(
        self, agent: Agent, left: dict[str, Any], group: dict[str, Any]
    ) -> dict[str, Any]:
        """The report that nobody asked for: written by the phone, sent to the practice alone."""
        told = [self._told(case, made) for case, made in self.rounds]
        written = await asyncio.to_thread(write, told, self.alarms, left, group, self.folder)
        text = written.markdown.read_text(encoding="utf-8")
        await agent.publish(REPORT, {"text": text[:REPORT_CHARS]}, key="anna")
        heard = await self._heard_report()
        self.tell.heading("The report for the provider")
        where = f"{written.markdown}, {written.pdf or 'no PDF'}"
        kept = self.stage.kept or not self.folder.is_relative_to(self.stage.root)
        if not kept:
            where = "gone with this run; --report DIR keeps it"
        self.tell.say(f"It wrote itself ({where}).")
        self.tell.say(f"The practice has it: {len(heard)} characters.")
        return {
            "markdown": str(written.markdown) if kept else "",
            "pdf": str(written.pdf or "") if kept else "",
            "plots": [str(plot) for plot in written.plots] if kept else [],
            "at_the_practice": heard == text[:REPORT_CHARS],
            "characters": len(text),
        }

    async def _heard_report(self) -> str:
        async with await connect(self.stage.state("practice")) as practice:
            events = practice.follow(f"{REPORT}@phone", timeout_s=ALARM_S)
            async with aclosing(events):  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Published) and isinstance(event.value, Summary):
                        return event.value.text
        return ""

    def _told(self, case: Case, made: Round) -> dict[str, Any]:
        score = made.view.score()
        return {
            "case": case.session,
            "title": case.title,
            "feeling": case.feeling,
            "answer": made.answer(),
            "hops": made.hops,
            "absent": made.absent,
            "steps": [asdict(step) for step in made.steps],
            "nodes": list(dict.fromkeys(s.device for s in made.steps if s.status == "ok")),
            "sources": [f"{s.name}@{s.device}" for s in made.steps if s.status == "ok"],
            "wall_s": round(made.wall_s, 3),
            "sum_of_steps_s": round(sum(step.elapsed_s for step in made.steps), 3),
            "news2": None if score is None else score.total,
            "level": "" if score is None else LEVELS[score.level],
            "points": {} if score is None else dict(score.points),
            "vitals": {key: asdict(claim) for key, claim in made.view.chosen.items()},
            "context": made.view.context,
            "conflicts": made.view.conflicts,
            "missing": made.view.missing,
            "stale": made.view.stale,
            "gap": made.gap,
            "knowledge": made.knowledge,
            "alarm": made.alarm,
            "corrected": made.corrected,
            "trace": made.trace,
        }


def served_of(metrics: dict[str, Any]) -> dict[str, int]:
    """The calls that an agent answered, by name; a feed that was followed ends as cancelled."""
    found: dict[str, int] = {}
    for series in metrics["series"]:
        labels = series["labels"]
        if series["name"] == "gossamer.served" and labels["outcome"] in {"ok", "cancelled"}:
            found[labels["name"]] = found.get(labels["name"], 0) + int(series["value"])
    return found


def refused_of(metrics: dict[str, Any]) -> int:
    """The calls that an agent refused because no rule allows them."""
    return int(metrics["counters"]["streams"].get("refused_denied", 0))
