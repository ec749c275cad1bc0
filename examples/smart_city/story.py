"""The story: a question that the visitor's device cannot answer, and what happens to the town."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from typing import Any

from examples._stage import Narrator, Stage, steps_of
from examples.smart_city.cast import ACROSS, JUNCTION, VISITOR
from examples.smart_city.setting import Setting
from mesh.core.errors import GossamerError

QUESTION = "Evaluate environmental risks for setting up an outdoor event"
AIR = "knowledge.gpt/air_quality"
TREND = "data.gpt/air/trend"
DEAD, LIAR = "dongsi", "guanyuan"
LIE = 8.0  # what its readings are multiplied with
CROWD = 20  # questions at once; four stations have one slot each
LONG_CROWD = 40
ANSWER_S = 60.0  # of a question, on a machine that is busy with something else
MICRO = 1e6
_DOUBT = re.compile(r"(?:Silent|Not counted)[^.]*\.|contradict each other")
_AGE = re.compile(r" \(\d+ \w+ ago\)")


class Story:
    """Tells and records what happens; ``acts`` holds the answers by the name of the act."""

    def __init__(self, setting: Setting, narrator: Narrator, *, short: bool) -> None:
        self.setting = setting
        self.stage: Stage = setting.stage
        self.tell = narrator
        self.short = short
        self.acts: dict[str, dict[str, Any]] = {}
        self.pm25: list[tuple[float, dict[str, float]]] = []
        self._said: set[str] = set()  # lines of the answer before
        self._found = False  # whether findings were told once
        self._begun = time.monotonic()

    async def run(self) -> None:
        """All acts in order; the town must be up."""
        watching = asyncio.create_task(self._watch())
        try:
            for act in (
                self.alone,
                self.together,
                self.station_dies,
                self.station_lies,
                self.road_closes,
                self.crowd,
                self.splits,
            ):
                await act()
                if not self.short:
                    await asyncio.sleep(2.0)  # to look at it in the console
            await self.what_left()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    # -- the acts -----------------------------------------------------------------------------

    async def alone(self) -> None:
        """The device by itself."""
        self.tell.heading("A visitor asks; the device looks at what it has")
        await self._asked("alone", reach="node")
        self.tell.say(
            "It has a general model and no data of this town: nothing of it is known here."
        )

    async def together(self) -> None:
        """The same question to the town."""
        await self.stage.until(self._all_tell, "every sensor has told something")
        self.tell.heading("The same question, and the agents nearby may be asked")
        await self._asked("together")

    async def station_dies(self) -> None:
        """Power cut at a station."""
        self.tell.heading(f"The station {DEAD} loses its power")
        self.stage.kill(f"air-{DEAD}")
        await self._asked("just_dead")
        await self._until_trend(f"Silent: {DEAD}")
        await self._asked("station_dead")

    async def station_lies(self) -> None:
        """A sensor that is at fault."""
        self.tell.heading(f"The sensor of {LIAR} is dirty: it tells {LIE:g} times too much")
        self.setting.fail({f"city/air/{LIAR}": {"scale": LIE}})
        await self._until_trend(f"far from the others: {LIAR}")
        await self._asked("station_lies")
        self.setting.fail({})
        self.setting.restart(f"air-{DEAD}")
        self.tell.say(f"The sensor is cleaned, {DEAD} has power again.")

    async def road_closes(self) -> None:
        """A sign in the camera's picture, a record in the search."""
        self.tell.heading("Bridge Street is closed; the camera sees the sign, somebody records it")
        self.setting.scene(12, closed=True)
        self.setting.record(
            id="I6",
            date="2026-06-15",
            place="Bridge Street",
            title="Road closed",
            text="Bridge Street is closed for all traffic until the burst main is mended.",
        )
        await self._until("data.gpt/camera/summary", "closed roads was 1")
        await self._asked("road_closed")

    async def crowd(self) -> None:
        """More questions than the town can answer; the cloud helps within its budget."""
        count = CROWD if self.short else LONG_CROWD
        self.tell.heading(
            f"A crowd: {count} visitors ask about the air at once, one slot a station"
        )
        self.setting.scene(21, closed=True)
        await self._until_heard(DEAD)
        begun = time.monotonic()
        answers = await asyncio.gather(*(self._one_of_a_crowd(n) for n in range(count)))
        wall_s = time.monotonic() - begun
        answered = [a for a in answers if a["steps"][0]["status"] == "ok"]
        cloud = [a for a in answered if a["steps"][0].get("cloud")]
        told = await self.stage.fetch(JUNCTION, "budget")
        window = next(w for w in told["windows"] if w["limit"])
        billed = self.setting.bill()["billed"]
        self.acts["crowd"] = {
            "asked": count,
            "answered_by_stations": len(answered) - len(cloud),
            "answered_by_cloud": len(cloud),
            "refused_with_a_time": sum(a["retry_after_s"] > 0 for a in answers),
            "not_answered": count - len(answered),
            "wall_s": round(wall_s, 2),
            "spent": window["spent"] + window["lost"],
            "reserved": window["reserved"],
            "limit": window["limit"],
            "billed_by_provider": sum(p + c for p, c in billed) / MICRO,  # 1.0 a million, both
            "provider_calls": len(billed),
        }
        act = self.acts["crowd"]
        self.tell.say(
            f"{act['answered_by_stations']} answered by stations, {len(cloud)} by the cloud, "
            f"{act['not_answered']} refused, in {wall_s:.1f} s. The cloud cost "
            f"{act['spent']:.6f} of {act['limit']:.6f} USD; its own bill says "
            f"{act['billed_by_provider']:.6f}."
        )

    async def splits(self) -> None:
        """The other bank of the river is cut off, and comes back."""
        self.tell.heading(f"The network splits: {self.setting.split_by}")
        await self.setting.split(apart=True)
        await self.stage.until(
            lambda: self._states(ACROSS, {"dead", "suspect"}), "those across are out of reach"
        )
        await self._until_trend("Silent: ")
        here = await self._asked("split")
        across = await self._across() if self.setting.really_split else {}
        await self.setting.split(apart=False)
        begun = time.monotonic()
        await self.stage.until(lambda: self._states(ACROSS, {"alive"}), "the town is one again")
        healed_s = time.monotonic() - begun
        here |= {"by": self.setting.split_by, "across": across, "healed_s": round(healed_s, 2)}
        self.tell.say(f"Joined again; {healed_s:.1f} s later all see each other.")
        await self._until_heard("tiantan")
        await self._asked("healed")

    async def _across(self) -> dict[str, Any]:
        """What those beyond the river answer by themselves."""
        answer = await self.stage.ask(
            ACROSS[1], "Speed 30 mph, limit 65 mph. How does the traffic flow?", timeout_s=ANSWER_S
        )
        self.tell.say("Beyond the river the agents answer each other as before:")
        self.tell.answer(answer["text"])
        return {"text": answer["text"], **steps_of(answer)}

    async def what_left(self) -> None:
        """Bytes on the links of each agent, and what it served to others."""
        self.tell.heading("What left each device")
        left: dict[str, Any] = {}
        for name, actor in self.stage.actors.items():
            with suppress(GossamerError):
                told = await self.stage.fetch(name, "metrics")
                served = [s for s in told["series"] if s["name"] == "gossamer.served"]
                kinds = {
                    s["labels"]["name"]: int(s["value"])
                    for s in served
                    if s["labels"].get("outcome") == "ok"
                }
                left[name] = {"bytes": told["bytes"]["out"], "served": kinds}
                left[name]["offers"] = list(actor.publish)
        self.acts["left"] = left
        self.tell.table(
            ("device", "kB on its links", "answers and streams that it ended"),
            [
                (
                    n,
                    f"{v['bytes'] / 1000:.0f}",
                    ", ".join(f"{k} x{c}" for k, c in v["served"].items()),
                )
                for n, v in left.items()
            ],
        )
        self.tell.say(
            "Pictures and raw readings: none to the visitor. Raw readings of air and traffic go to "
            "the junction alone, which compares the stations; gossip is in the bytes."
        )
        self.acts["raw"] = {"refused": await self._raw_is_refused()}

    async def _raw_is_refused(self) -> str:
        try:
            args = {"name": "data.gpt/air/raw", "timeout_s": 5.0}
            async with self.stage.client(VISITOR) as client:
                await client.fetch("call", args)
        except GossamerError as error:
            self.tell.say(f"The visitor asks for raw readings: {error.sentence()}")
            return error.code
        return ""

    # -- how it is done -----------------------------------------------------------------------

    async def _asked(self, act: str, **args: Any) -> dict[str, Any]:
        answer = await self.stage.ask(VISITOR, QUESTION, timeout_s=ANSWER_S, **args)
        steps = [
            {
                key: step[key]
                for key in ("id", "name", "node", "status", "started_s", "elapsed_s", "depends")
            }
            | {"text": step["text"], "error": step["error"], "attempts": step["attempts"]}
            for step in answer["steps"]
        ]
        decided = {str(d["rule"]): str(d["action"]) for d in answer["decisions"]}
        plan = decided.get("plan", "")
        made = {
            "question": QUESTION,
            "text": answer["text"],
            "degraded": answer["degraded"],
            "plan": plan,
            "plan_by_model": decided.get("plan.model", ""),
            "judgement": decided.get("aggregate.part", ""),
            "steps": steps,
            "notes": answer["notes"],
            "doubts": list(dict.fromkeys(_DOUBT.findall(answer["text"]))),
            **steps_of(answer),
        }
        self.acts[act] = made
        self._tell_plan(made["plan_by_model"], plan)
        self._tell_answer(answer["text"].splitlines())
        self.tell.table(
            ("step", "name", "node", "status", "from s", "took s"),
            [(*(s[k] for k in ("id", "name", "node", "status")), *_times(s)) for s in steps],
        )
        missing = len(made["missing"])
        self.tell.say(
            f"{len(steps)} steps on {len(made['nodes'])} nodes in {made['wall_s']:.2f} s; one "
            f"after another they would have taken {made['sum_of_steps_s']:.2f} s. "
            + (f"Missing: {missing} of {len(steps)} parts." if missing else "No part is missing.")
        )
        return made

    def _tell_plan(self, by_model: str, plan: str) -> None:
        """Who took the question apart, where that was asked anew."""
        if not by_model:
            return
        refused = by_model.partition("instead: ")[2]
        if refused:
            self.tell.say(f"The device's own model is asked for a plan, in vain: {refused}.")
        self.tell.say(f"The question is taken apart by the {plan}.")

    def _tell_answer(self, lines: list[str]) -> None:
        """What is new in it. The findings below the judgement are told once: later they are in
        the report, and what they change stands in the judgement."""
        shown = [line for line in lines if not line.startswith("- ") or not self._found]
        news = [line for line in shown if _bare(line) not in self._said]
        self._said = {_bare(line) for line in lines}
        self._found = self._found or any(line.startswith("- ") for line in lines)
        self.tell.answer("\n".join(news))
        if len(news) < len(shown):
            self.tell.say(f"  ({len(shown) - len(news)} lines as before)")

    async def _one_of_a_crowd(self, number: int) -> dict[str, Any]:
        question = f"PM2.5 is {number * 9 + 4} ug/m3. How is the air?"
        options = {"name": AIR, "reach": "cloud", "timeout_s": 6.0}
        return await self._fetched(VISITOR, "ask", {"question": question, **options})

    async def _fetched(self, name: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        async with self.stage.client(name) as client:
            return dict(await client.fetch(verb, args))

    async def _told(self, name: str) -> str:
        """What a name tells the visitor's device, empty where nobody does."""
        options = {"name": name, "question": "pm25?", "timeout_s": 5.0}
        with suppress(GossamerError):
            answer = await self._fetched(VISITOR, "ask", options)
            if answer["steps"][0]["status"] == "ok":
                return str(answer["text"])
        return ""

    async def _until(self, name: str, words: str) -> None:
        async def look() -> bool:
            return words in await self._told(name)

        await self.stage.until(look, f"{name} tells: {words}")

    async def _until_trend(self, words: str) -> None:
        await self._until(TREND, words)

    async def _until_heard(self, station: str) -> None:
        async def look() -> bool:
            told = await self._told(TREND)
            return station in told and station not in told.partition("Silent:")[2]

        await self.stage.until(look, f"{station} is heard again")

    async def _all_tell(self) -> bool:
        names = (TREND, "data.gpt/traffic/trend", "data.gpt/weather/summary")
        told = [await self._told(name) for name in (*names, "data.gpt/camera/summary")]
        # A first reading is no picture yet: all four stations stand in it.
        return all(told) and "Silent" not in told[0] and told[0].count(",") >= len(names)

    async def _states(self, names: tuple[str, ...], states: set[str]) -> bool:
        seen = await self.stage.peers(VISITOR)
        return all(name in seen and seen[name]["state"] in states for name in names)

    async def _watch(self) -> None:
        """PM2.5 by station as the junction sees it, for the report's plot."""
        while True:
            with suppress(GossamerError, OSError):
                async with self.stage.client(JUNCTION) as client:
                    async for event in client.request("subscribe", {"name": TREND}, silence_s=None):
                        self._keep(event)
            await asyncio.sleep(1.0)

    def _keep(self, event: Any) -> None:
        value = event.get("value") if isinstance(event, dict) else None
        quantity = (value or {}).get("quantities", {}).get("pm25_ug_m3")
        if not quantity:
            return
        row = {s["station"]: s["value"] for s in quantity["stations"] if s["state"] != "stale"}
        if quantity["nodes"]:
            row["together"] = quantity["value"]
        self.pm25.append((time.monotonic() - self._begun, row))


def _bare(line: str) -> str:
    return _AGE.sub("", line)


def _times(step: dict[str, Any]) -> tuple[str, str]:
    return f"{step['started_s']:.2f}", f"{step['elapsed_s']:.2f}"
