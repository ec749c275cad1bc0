"""The user's own question, on real boards: ``python -m examples.wearable.ask "I feel hot"``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from agents.library import GossamerError, connect
from examples.wearable.feed import all_cases
from examples.wearable.phone import Phone, Round

NEW_S = 180.0  # an insight that is older says nothing of now


async def ask(state: Path | None, session: str, feeling: str, *, quiet: bool) -> Round:
    """One round over the devices, at the phone's agent."""
    async with await connect(state) as agent:
        phone = Phone(agent) if quiet else Phone(agent, print)
        return await phone.look(session, feeling, since=time.time() - NEW_S)


def main() -> int:
    """Ask, and print what the devices make of it."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.wearable.ask",
        description="Ask the devices one after the other how you are; on the phone's machine.",
        epilog='example: python -m examples.wearable.ask --state ~/gossamer/state "I feel fine."',
    )
    parser.add_argument("feeling", help="how you feel, in your words")
    parser.add_argument("--session", choices=sorted(all_cases()), default="calm")
    parser.add_argument("--state", type=Path, help="the phone's state directory")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    quiet, session = arguments.json, arguments.session
    try:
        made = asyncio.run(ask(arguments.state, session, arguments.feeling, quiet=quiet))
    except GossamerError as error:
        print(error.sentence(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(asdict(made), ensure_ascii=False) if quiet else made.answer())
    return 0


if __name__ == "__main__":
    sys.exit(main())
