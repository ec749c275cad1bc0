"""The same town on real boards: ``python -m examples.smart_city.boards`` writes the inventory.

What it writes lies beside it (``inventory.toml`` and ``nodes/``); put your own addresses into the
inventory and run ``gossamer deploy examples/smart_city/inventory.toml`` (docs/deploy.md).
"""

from __future__ import annotations

import json
from pathlib import Path

from examples.smart_city.cast import CAMERA, JUNCTION, Town, actors

FOLDER = Path(__file__).parent
BROKER = "192.168.1.20"  # the junction's board
FIRST = 20  # of the addresses, which are made up
HEAD = """\
# The city on twelve boards, written by python -m examples.smart_city.boards: put your own addresses
# in. The junction's board is the broker's as well (mosquitto, with a listener for the others and
# OpenCV on the camera's board: pip install opencv-python-headless); the sensors are replayed there.

[mesh]
name = "city"
owner = "~/gossamer-city-owner"  # not in here: this folder goes to every board

[defaults]
user = "pi"
groups = ["city"]

[defaults.files]
"../__init__.py" = "examples/__init__.py"
"../_stage.py" = "examples/_stage.py"
"." = "examples/smart_city"
"""


def files() -> dict[str, str]:
    """What is written, by path below this folder."""
    found: dict[str, str] = {}
    hosts = [HEAD]
    for number, actor in enumerate(actors(Town(broker=(BROKER, 1883)))):
        found[f"nodes/{actor.name}.toml"] = actor.config
        lines = [
            "[[host]]",
            f"name = {json.dumps(actor.name)}",
            f'address = "192.168.1.{FIRST + number}"',
            f"publish = {json.dumps(list(actor.publish))}",
            f'config = "nodes/{actor.name}.toml"',
        ]
        if actor.groups != ("city",):
            lines.append(f"groups = {json.dumps(list(actor.groups))}")
        program = {JUNCTION: "feed", CAMERA: "camera"}.get(actor.name)
        if actor.name == JUNCTION:
            lines.append("seed = true")
        if program:
            command = ["{python}", "-m", f"examples.smart_city.{program}", "--broker", BROKER]
            lines += ["[[host.run]]", f'name = "{program}"', f"command = {json.dumps(command)}"]
        hosts.append("\n".join(lines) + "\n")
    found["inventory.toml"] = "\n".join(hosts)
    return found


def main() -> None:
    """Write them."""
    for path, text in files().items():
        file = FOLDER / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
