"""``python -m examples.smart_city``: the city, from one command."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from examples._stage import Narrator, Stage, lacking, parser
from examples.smart_city.cast import VISITOR
from examples.smart_city.report import written
from examples.smart_city.setting import Setting
from examples.smart_city.story import Story
from mesh.core.errors import ConfigError, GossamerError


async def perform(setting: Setting, narrator: Narrator, *, short: bool) -> dict[str, Any]:
    """Everything that happened, as one object."""
    begun = time.monotonic()
    narrator.say("The town wakes up: twelve agents, a broker, a camera, a stand-in for a cloud ...")
    await setting.start()
    up_s = time.monotonic() - begun
    count = len(setting.stage.actors)
    narrator.say(f"{count} agents found each other in {up_s:.1f} s, models loaded.")
    narrator.say(f"To watch: gossamer console --state {setting.stage.state(VISITOR)}")
    story = Story(setting, narrator, short=short)
    await story.run()
    return {
        "agents": count,
        "start_s": round(up_s, 2),
        "wall_s": round(time.monotonic() - begun, 2),
        "short": short,
        "acts": story.acts,
        "pm25": story.pm25,
    }


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, or 1 with a sentence."""
    about = "A city of small agents answers a visitor's device, and survives what happens to it."
    made = parser("examples.smart_city", about)
    options = made.parse_args(arguments)
    narrator = Narrator(quiet=options.json)
    try:
        if why := _lacking():
            raise ConfigError(why)
        with Stage("city", options.state) as stage, Setting(stage, http=options.keep_open) as town:
            result = asyncio.run(perform(town, narrator, short=options.short))
            if options.report is not None:
                file = written(result, options.report)
                narrator.say(f"The report: {file}")
            if options.json:
                sys.stdout.write(json.dumps(result) + "\n")
                sys.stdout.flush()
            if options.keep_open:
                narrator.say("The town stays until Ctrl-C.")
                asyncio.run(_stay(stage, narrator))
    except KeyboardInterrupt:
        narrator.say("The town goes to sleep.")
        return 130
    except GossamerError as error:
        sys.stderr.write(f"{error.sentence()}\n")
        return 1
    return 0


async def _stay(stage: Stage, narrator: Narrator) -> None:
    if url := (await stage.fetch(VISITOR, "status")).get("http"):
        narrator.say(f"In a browser: {url}")
    await asyncio.Event().wait()


def _lacking() -> str:
    try:
        import cv2  # noqa: F401 - whether it is there
    except ImportError:
        return "the camera needs OpenCV: pip install 'gossamer-mesh[examples]'"
    return lacking()


if __name__ == "__main__":
    sys.exit(main())
