"""Puts the town up: a broker, what its sensors send, the agents; and what can happen to it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.sensors.broker import LocalBroker, mosquitto
from examples._stage import Stage
from examples.smart_city.cast import ACROSS, JUNCTION, VISITOR, Town, actors

if TYPE_CHECKING:
    from tests.e2e.namespaces import Lab, Machine

PORT = 1883  # of the broker inside a namespace of its own
FIRST_HOUR = 30  # of the replay: where the air gets worse
BUDGET = 0.0006  # USD of the cloud an hour: a few answers at the prices of the stand-in


class Setting:
    """The town on a stage. Where network namespaces can be had, its two banks of the river are two
    of them, joined by a cable that can be pulled; elsewhere all are on loopback."""

    def __init__(self, stage: Stage, *, http: bool = False) -> None:
        self.stage = stage
        self.http = http
        self.faults: dict[str, dict[str, Any]] = {}
        self.split_by = ""
        self._lab: Lab | None = None
        self._across: Machine | None = None
        self._exit = ExitStack()
        self._seeds: tuple[str, ...] = ()
        self._base: dict[str, Any] = {}
        self.town: Town

    def __enter__(self) -> Setting:
        hosts, places = ("127.0.0.1", "127.0.0.1"), ("", "")
        self.split_by = "the processes of one bank are stopped"
        # The web page of an agent in a namespace could not be opened from here.
        with suppress(ImportError):  # an installation without the tests
            from tests.e2e.namespaces import Lab, why_not

            if not self.http and not why_not():
                # After the stage is closed: its processes live in the namespaces.
                self._lab = self._exit.enter_context(Lab(self.stage.root / "lab"))
                here, self._across = self._lab.machine("centre"), self._lab.machine("riverside")
                hosts = (here.address, self._across.address)
                places = (here.space, self._across.space)
                self.split_by = "the cable between two network namespaces is pulled"
        root = self.stage.root
        self.cloud_file, self.scene_file = root / "cloud.json", root / "scene.json"
        self.faults_file, self.added = root / "faults.json", root / "added.jsonl"
        self.scene(7, closed=False)
        self.fail({})
        broker = self._broker(hosts[0], places[0])
        command = [sys.executable, "-m", "examples.smart_city.cloud"]
        key = root / "cloud.key"
        self.stage.spawn("cloud", [*command, str(self.cloud_file), str(key)], place=places[0])
        self._base = {
            "broker": broker,
            "key_file": key,
            "added": self.added,
            "hosts": hosts,
            "places": places,
            "budget": BUDGET,
            "http": self.http,
        }
        return self

    def __exit__(self, *_: object) -> None:
        self.stage.close()  # before the namespaces that its processes live in
        self._exit.close()

    def _broker(self, host: str, place: str) -> tuple[str, int]:
        if not place:
            made = self.stage.broker()
            return made.host, made.port
        extra = (f"listener {PORT} 0.0.0.0", "allow_anonymous true")
        config = LocalBroker(self.stage.root / "broker", port=PORT, extra=extra)
        program = str(mosquitto())
        self.stage.spawn("broker", [program, "-c", str(config.config_file)], place=place)
        return host, PORT

    async def start(self) -> None:
        """Start everybody, and wait until the visitor's device sees the whole town."""
        stage = self.stage
        await stage.until(self._cloud_is_up, "the stand-in for the cloud is up")
        self.town = Town(cloud=self.bill()["url"], **self._base)
        everybody = actors(self.town)
        first, *others = everybody
        stage.launch(first)
        host, port = self.town.broker
        place = self.town.places[0]
        where = ["--broker", host, "--port", str(port)]
        python = [sys.executable, "-m"]
        feed = [*python, "examples.smart_city.feed", *where, "--start", str(FIRST_HOUR)]
        stage.spawn("feed", [*feed, "--faults", str(self.faults_file)], place=place)
        camera = [*python, "examples.smart_city.camera", *where, "--scene", str(self.scene_file)]
        stage.spawn("camera-eye", camera, place=place)
        self._seeds = (await stage.seed(JUNCTION),)
        for actor in others:
            stage.launch(actor, self._seeds)
        await stage.ready(VISITOR)

    async def _cloud_is_up(self) -> bool:
        return self.cloud_file.exists()

    def bill(self) -> dict[str, Any]:
        """Where the stand-in is, and what it billed."""
        return dict(json.loads(self.cloud_file.read_text()))

    # -- what happens -------------------------------------------------------------------------

    def scene(self, people: int, *, closed: bool) -> None:
        """What the camera looks at."""
        _replace(self.scene_file, json.dumps({"people": people, "closed": closed}))

    def fail(self, faults: dict[str, dict[str, Any]]) -> None:
        """Which sensors fail, and how."""
        _replace(self.faults_file, json.dumps(faults))

    def record(self, **fields: str) -> None:
        """Somebody enters an incident."""
        with self.added.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

    async def split(self, *, apart: bool) -> None:
        """Cut the other bank of the river off, or join it again."""
        if self._lab is not None and self._across is not None:
            cable = self._lab.cable
            await asyncio.to_thread(cable, self._across, "down" if apart else "up")
            return
        for name in ACROSS:
            self.stage.freeze(name, frozen=apart)

    @property
    def really_split(self) -> bool:
        """Whether those who are cut off still run."""
        return self._lab is not None

    def restart(self, name: str) -> None:
        """The agent comes back, with its state."""
        self.stage.launch(self.stage.actors[name], self._seeds)


def _replace(file: Path, text: str) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)
