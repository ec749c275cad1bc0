"""python -m examples.wearable [--short] [--json] [--report DIR]"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from examples._stage import Narrator, Stage, lacking, parser
from examples.wearable.story import Story
from mesh.core.errors import GossamerError

ABOUT = "A day with wearables: devices infer in sequence, raw signals stay where they are."


async def play(
    *, short: bool, quiet: bool, report: Path | None = None, state: Path | None = None,
    keep_open: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The whole scenario; returns what it shows."""
    narrator = Narrator(quiet=quiet)
    with Stage("wearable", state) as stage:
        story = Story(stage, narrator, short=short, report=report)
        found = await story.run()
        if keep_open:
            narrator.say(f"gossamer console --state {stage.state('phone')} watches; Ctrl-C ends.")
            await asyncio.Event().wait()
    return found


def main() -> int:
    """Run it; 0 when it went through."""
    arguments = parser("examples.wearable", ABOUT).parse_args()
    if why := lacking():
        print(f"The scenario cannot run: {why}", file=sys.stderr)
        return 2
    try:
        found = asyncio.run(
            play(
                short=arguments.short,
                quiet=arguments.json,
                report=arguments.report,
                state=arguments.state,
                keep_open=arguments.keep_open,
            )
        )
    except GossamerError as error:
        print(error.sentence(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
