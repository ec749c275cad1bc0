"""Feeds: does every subscriber end equal, are gaps told, are received embeddings reused?

Loss is simulated: the real logs, readers, followers and streams over links that behave as TCP does
(20 % of the packets lost), under virtual time, over several seeds. Restarts are also made for real:
agents as processes, the publisher killed with SIGKILL in the middle. Reuse is measured in a process
of its own, whose calls of any embedder are counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from agents.library import (
    Agent,
    Current,
    Embedding,
    GossamerError,
    Missed,
    Published,
    connect,
)
from benchmarks._report import progress
from capabilities.data.log import FeedLimits, FeedLog, Restored
from capabilities.data.sim import FeedSim
from capabilities.messages import Sample
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity
from mesh.sim.network import Link

UPDATES = 1000
KEYS = 5
LOSS = 0.2
EVERY_S = 0.1  # virtual seconds between two updates
HISTORY = 128  # below what an absent subscriber misses: so there are gaps to tell
UNWRITTEN = 5  # updates that the publisher's disk had not yet when it died
SEEDS = 20
UP_S = 120.0
# What turns texts into vectors; a program that never imported one has embedded nothing.
EMBEDDERS = (
    "capabilities.embedding.static",
    "capabilities.embedding.backends",
    "capabilities.slm.embedder",
)
RAW = "data.gpt/bench/raw"
VECTORS = "data.gpt/bench/processed_embeddings"


def measure(*, quick: bool, seed: int) -> dict[str, Any]:
    """The keys of ``data``."""
    runs = [simulated(seed + n) for n in range(3 if quick else SEEDS)]
    progress("data: simulated, now with processes ...")
    real = asyncio.run(restarted(200 if quick else UPDATES, seed))
    progress("data: reuse of embeddings ...")
    reuse = asyncio.run(reused(20 if quick else 100, seed))
    missed = sum(run["missed"] for run in runs)
    followers = sum(run["subscribers"] for run in runs)
    return {
        "consistent": sum(run["equal"] for run in runs) / followers,
        "gaps_reported": sum(run["told"] for run in runs) / missed if missed else None,
        "gaps_exact": sum(run["exact"] for run in runs) / followers,
        "reuse": reuse["embeddings_computed"],
        "simulated": {
            "loss": LOSS,
            "updates": UPDATES,
            "runs": len(runs),
            "subscribers": followers,
            "missed": missed,
            "largest_s_until_equal": max(run["until_equal_s"] for run in runs),
        },
        "processes": real,
        "reused": reuse,
    }


# -- loss, late joiners, a restarted publisher: simulated ---------------------------------------


def simulated(seed: int) -> dict[str, Any]:
    """One run: three subscribers from the beginning, of which one reads nothing for a while and
    one is cut off, and three that come late; the publisher dies and comes back."""
    sim = FeedSim(
        seed, 6, link=Link(loss=LOSS, reset_after_s=10.0), limits=FeedLimits(history=HISTORY)
    )
    for place in range(3):
        sim.begin(place)
    sim.run(30.0)
    for number in range(UPDATES):
        if number == 200:
            sim.pause(1, paused=True)
        if number == 300:
            sim.network.cut(0, 3)
            sim.network.cut(3, 0)
        if number == 500:
            sim.pause(1, paused=False)
            sim.network.mend_all()
        if number == 600:
            disk = _disk(sim.log, sim.log.sequence - UNWRITTEN)
            sim.stop()
            sim.run(5.0)
            sim.start(disk, 2)
        for place, when in ((3, 100), (4, 550), (5, UPDATES - 1)):
            if number == when:
                sim.begin(place)
        sim.publish(f"k{number % KEYS}", _sample(number))
        sim.run(EVERY_S)
    began = sim.time
    sim.until(sim.equal, 600.0)
    equal = missed = told = exact = 0
    for subscriber in sim.subscribers:
        follower = subscriber.follower
        equal += follower.state == sim.log.latest and follower.sequence == sim.log.sequence
        heard = {(u.epoch, u.sequence) for u in subscriber.heard}
        # What was published since it came, as far as the publisher itself still counts it.
        lived = _timeline(sim.log.epochs, sim.log.sequence)
        lost = sum(s > subscriber.begun_at and (e, s) not in heard for e, s in lived)
        said = sum(max(0, gap.missed) for gap in subscriber.gaps)
        missed += lost
        told += min(lost, said)
        exact += lost == said
    return {
        "subscribers": len(sim.subscribers),
        "equal": equal,
        "missed": missed,
        "told": told,
        "exact": exact,
        "until_equal_s": round(sim.time - began, 2),
    }


def _timeline(epochs: list[tuple[int, int]], last: int) -> list[tuple[int, int]]:
    """Every (epoch, sequence) that the publisher stands by."""
    ends = [before for _, before in epochs[1:]] + [last]
    return [
        (epoch, sequence)
        for (epoch, before), end in zip(epochs, ends, strict=True)
        for sequence in range(before + 1, end + 1)
    ]


def _disk(log: FeedLog, until: int) -> Restored:
    """What of a log was on disk when only updates up to ``until`` were written."""
    history = [update for update in log.after(0) if update.sequence <= until]
    latest = {update.key: update for update in history}
    return Restored(list(latest.values()), history, log.epochs, until)


def _sample(number: int) -> Sample:
    return Sample(
        domain="bench", type="raw", source="p", at=float(number), values={"v": float(number)}
    )


# -- a publisher that is killed: processes ------------------------------------------------------


class Agents:
    """Agents as processes of their own, of a mesh of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._authority = Authority(os.urandom(32))
        self._seeds: list[str] = []

    def define(self, name: str, more: str = "") -> None:
        """An identity and a configuration."""
        create_identity(
            self.folder / name,
            self._authority,
            "bench",
            name=name,
            groups=("bench",),
            publish=("data.gpt/**", "computation.gpt/embed"),
        )
        self.folder.joinpath(f"{name}.toml").write_text(
            f"{more}\n[node]\nstate = {json.dumps(name)}\nseeds = {json.dumps(self._seeds)}\n"
            'discovery = false\n[[access]]\nallow = true\nnames = "data.gpt/**"\n'
        )

    async def up(self, name: str) -> Agent:
        """Start it; a connection to it."""
        self._start(name)
        until = time.monotonic() + UP_S
        while True:
            try:
                agent = await connect(self.folder / name)
                seed = (await agent.status())["seed"]
            except GossamerError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)
            else:
                self._seeds = self._seeds or [seed]
                return agent

    def _start(self, name: str) -> None:
        with self.folder.joinpath(f"{name}.log").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "agents.faces.up", str(self.folder / f"{name}.toml")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def kill(self, name: str) -> None:
        """SIGKILL: nothing is said, nothing is written."""
        self.processes[name].kill()
        self.processes[name].wait()

    def close(self) -> None:
        """End all of them."""
        for name in self.processes:
            self.kill(name)


@asynccontextmanager
async def meshed() -> AsyncIterator[Agents]:
    """Agents that are gone afterwards, with their files."""
    with tempfile.TemporaryDirectory(prefix="gossamer-bench-") as folder:
        agents = Agents(Path(folder))
        try:
            yield agents
        finally:
            agents.close()


class Follower:
    """What one subscriber heard, through the local door of its agent."""

    def __init__(self, agent: Agent, name: str) -> None:
        self.state: dict[str, tuple[int, Any]] = {}
        self.heard: set[tuple[int, int]] = set()
        self.missed = 0
        self.begun = asyncio.Event()
        self.task = asyncio.create_task(self._follow(agent, name))

    async def _follow(self, agent: Agent, name: str) -> None:
        async with aclosing(agent.follow(name, timeout_s=UP_S * 4)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Published):
                    self.heard.add((event.epoch, event.sequence))
                    if event.value is None:
                        self.state.pop(event.key, None)
                    else:
                        self.state[event.key] = (event.version, event.value)
                elif isinstance(event, Current):
                    self.begun.set()
                elif isinstance(event, Missed):
                    self.missed += event.missed if event.missed > 0 else 0


async def restarted(updates: int, seed: int) -> dict[str, Any]:
    """A publisher killed in the middle, three subscribers, one of them late."""
    async with meshed() as agents:
        agents.define("publisher", f'[[publish]]\nname = "{RAW}"\nhistory = {HISTORY}\n')
        publisher = await agents.up("publisher")
        names = ["early-0", "early-1", "late"]
        for name in names:
            agents.define(name)
        doors = [await agents.up(name) for name in names]
        for door in doors:
            await _until(lambda door=door: _offered(door, RAW), "the feed is known")
        followers = [Follower(door, RAW) for door in doors[:2]]
        async with asyncio.timeout(UP_S):
            for early in followers:  # from here on whatever they do not hear is a gap
                await early.begun.wait()
        receipts = []
        for number in range(updates):
            if number == updates // 2:
                agents.kill("publisher")
                publisher = await agents.up("publisher")
                again = publisher
                await _until(lambda again=again: _offered(again, RAW), "the feed is open again")
            if number == updates - 1:
                followers.append(Follower(doors[2], RAW))
            value = {"v": float(number), "at": float(number)}
            receipts.append(await publisher.publish(RAW, value, key=f"k{number % KEYS}"))
        last = receipts[-1]
        began = time.monotonic()
        own = Follower(publisher, RAW)

        async def equal() -> bool:
            known = all((last.epoch, last.sequence) in f.heard for f in [*followers, own])
            return known and all(f.state == own.state for f in followers)

        done = await _holds(equal, UP_S)
        for follower in [*followers, own]:
            follower.task.cancel()
        await asyncio.gather(*(f.task for f in [*followers, own]), return_exceptions=True)
        for door in (*doors, publisher):
            await door.close()
        # What was not on its disk when it was killed, the publisher itself knows nothing of.
        first = min(r.sequence for r in receipts if r.epoch == last.epoch)
        forgotten = {
            (r.epoch, r.sequence) for r in receipts if r.epoch != last.epoch and r.sequence >= first
        }
        sent = {(r.epoch, r.sequence) for r in receipts} - forgotten
        return {
            "updates": updates,
            "subscribers": len(followers),
            "equal": sum(f.state == own.state for f in followers) if done else 0,
            "forgotten_by_the_killed": len(forgotten),
            "unheard_by_early": [len(sent - f.heard) for f in followers[:2]],
            "told_to_early": [f.missed for f in followers[:2]],
            "seconds_until_equal": round(time.monotonic() - began, 2),
        }


async def _offered(agent: Agent, name: str) -> bool:
    return bool(await agent.names(name))


async def _holds(condition: Any, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.05)
    return True


async def _until(condition: Any, what: str) -> None:
    if not await _holds(condition, UP_S):
        raise RuntimeError(f"it never came true: {what}")


# -- reuse --------------------------------------------------------------------------------------

_WORDS = {
    "urban": "traffic buses commuters shops rush-hour crossing pavement cyclists cafes school",
    "industrial": "furnace chimney smelter boiler solvent refinery welding kiln turbine foundry",
}


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Generated reports of places, with what each is: (label, text)."""
    rng, made = random.Random(seed), []
    for n in range(count):
        label = sorted(_WORDS)[n % 2]
        words = rng.sample(_WORDS[label].split(), 4)
        made.append((label, f"The station stands by {' and '.join(words)}."))
    return made


async def reused(count: int, seed: int) -> dict[str, Any]:
    """A station publishes embeddings; another node learns labels and classifies from them."""
    from capabilities.embedding.static import shipped

    embedder = shipped()
    found = texts(2 * count, seed)
    rows = embedder.embed([text for _, text in found])
    space = {
        "model": embedder.space.model,
        "dimensionality": embedder.space.dimensionality,
        "normalised": embedder.space.normalised,
        "digest": embedder.space.digest,
    }
    async with meshed() as agents:
        agents.define("station")
        station = await agents.up("station")
        agents.define("reader", 'embedder = "builtin"')
        reader = await agents.up("reader")
        for n, ((label, _), row) in enumerate(zip(found, rows, strict=True)):
            value = {
                "embedding": [float(x) for x in row],
                "type": "summary",
                "dimensionality": embedder.space.dimensionality,
                "space": space,
                "label": label if n < count else "",
            }
            await station.publish(VECTORS, value, key=f"r{n:04}")
        await _until(lambda: _offered(reader, VECTORS), "the vectors are known")
        state = str(agents.folder / "reader")
        command = [sys.executable, "-m", __name__, state, str(2 * count)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        async with asyncio.timeout(UP_S):
            out, _ = await process.communicate()
        consumer = json.loads(out)
        series = (await reader.metrics())["series"]
        served = sum(
            one["value"]
            for one in series
            if one["name"] == "gossamer.served" and one["labels"].get("name", "").endswith("/embed")
        )
        await station.close()
        await reader.close()
    truth = {f"r{n:04}": label for n, (label, _) in enumerate(found)}
    right = sum(truth[key] == label for key, label in consumer["labels"].items())
    return {
        "embeddings_computed": consumer["computed"] + served,
        "computed_by_the_program": consumer["computed"],
        "computed_by_its_agent": served,
        "received": consumer["received"],
        "classified": len(consumer["labels"]),
        "right": right / len(consumer["labels"]),
        "summary": consumer["summary"],
    }


async def consume(state: str, count: int) -> dict[str, Any]:
    """The consumer: it follows, learns from what is labelled, classifies what is not."""
    from capabilities.data.reuse import Centroids, summarise

    got: dict[str, Embedding] = {}
    async with (
        await connect(state) as agent,
        aclosing(agent.follow(VECTORS, timeout_s=UP_S)) as events,  # type: ignore[type-var]
    ):
        async for event in events:
            if isinstance(event, Published) and isinstance(event.value, Embedding):
                got[event.key] = event.value
            if len(got) >= count:
                break
    labels = Centroids(next(iter(got.values())).space)
    for embedding in got.values():
        if embedding.label:
            labels.learn(embedding)
    open_ = {key: e for key, e in sorted(got.items()) if not e.label}
    named = {key: labels.classify(e).label for key, e in open_.items()}
    keys = list(open_)
    central = [keys[place] for place in summarise(list(open_.values()), 2)]
    return {"received": len(got), "labels": named, "summary": central}


def main(state: str, count: int) -> None:
    """``python -m benchmarks._cooperation_data STATE COUNT``: the consumer alone."""
    found = asyncio.run(consume(state, count))
    embedders = [name for name in EMBEDDERS if name in sys.modules]
    if embedders:
        raise RuntimeError(f"the consumer has loaded {embedders}: it may have computed")
    found["computed"] = 0  # where no embedder was ever imported, none can have run
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
