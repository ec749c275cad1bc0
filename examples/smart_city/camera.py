"""A smart camera: counts people and reads signs in its pictures, and sends the figures by MQTT.

The pictures stay here. Without a camera they are drawn: figures that move on a square. ``--frames``
takes whatever OpenCV's VideoCapture opens. The detector is OpenCV's background subtraction and its
reader of QR codes; ``--detector module:attribute`` puts another in its place, such as a vision
model of your own: called with a picture (an array of height, width and three colours), it returns
figures by name.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import aiomqtt

from agents.registry import Registry
from mesh.core.errors import ConfigError, GossamerError

WIDTH, HEIGHT = 480, 270  # pixels
FIGURE = (9, 24)  # half width and half height of a person, pixels
COLUMNS, ROWS = 7, 3  # places where a drawn person may stand
MOST = COLUMNS * ROWS
SMALLEST = 150  # pixels of a person's area: what is smaller is noise
WARM_UP = 8  # pictures of the empty square, from which the background is learnt
BUILT_IN = "opencv"  # the detector that learns it
SIGN = "ROAD CLOSED"
SIGN_AT = (20, 20)
SIGN_SCALE = 4  # pixels of a module of the code


class Detector(Protocol):
    """What a picture shows, in figures by name."""

    def __call__(self, picture: Any) -> dict[str, float]: ...


class OpenCvDetector:
    """People by background subtraction and connected components, closed roads by their sign."""

    def __init__(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._cv2 = cv2
        self._background = cv2.createBackgroundSubtractorMOG2(
            history=200, varThreshold=36, detectShadows=False
        )
        self._signs = cv2.QRCodeDetector()
        self._seen = 0

    def __call__(self, picture: Any) -> dict[str, float]:
        """Figures of a picture; the first few teach it what the empty square is like."""
        cv2 = self._cv2
        self._seen += 1
        # Learnt once: a crowd that stands still must not become the background.
        mask = self._background.apply(picture, learningRate=-1 if self._seen <= WARM_UP else 0)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(0, (3, 3)))
        text, corners, _ = self._signs.detectAndDecode(picture)
        closed = SIGN in text.upper()
        if corners is not None and closed:
            x, y, w, h = cv2.boundingRect(corners.astype("int32").reshape(-1, 1, 2))
            mask[max(0, y - 40) : y + h + 40, max(0, x - 40) : x + w + 40] = 0
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        people = sum(int(area) >= SMALLEST for area in stats[1:, cv2.CC_STAT_AREA])
        return {"people": float(people), "closed_roads": float(closed)}


def drawn(people: int, *, closed: bool, moment: int, seed: int = 0) -> Any:
    """A picture of the square: so many people, who stand apart, and the sign if it is closed."""
    import cv2
    import numpy as np

    rng = np.random.default_rng((seed, moment))
    picture = np.full((HEIGHT, WIDTH, 3), (96, 110, 104), np.uint8)
    cv2.rectangle(picture, (0, 0), (WIDTH, 60), (150, 140, 120), -1)  # houses behind
    places = np.random.default_rng(seed).permutation(MOST)[:people]
    for place in places:
        column, row = int(place) % COLUMNS, int(place) // COLUMNS
        x = 190 + 38 * column + int(rng.integers(-5, 6))
        y = 100 + 56 * row + int(rng.integers(-2, 3))
        colour = tuple(int(c) for c in rng.integers(0, 60, 3))
        cv2.ellipse(picture, (x, y), FIGURE, 0, 0, 360, colour, -1)
    if closed:
        code = cv2.QRCodeEncoder.create().encode(f"{SIGN} Bridge Street")
        sign = cv2.resize(code, None, fx=SIGN_SCALE, fy=SIGN_SCALE, interpolation=0)
        side = sign.shape[0]
        x, y = SIGN_AT
        cv2.rectangle(picture, (x - 12, y - 12), (x + side + 12, y + side + 12), (255,) * 3, -1)
        picture[y : y + side, x : x + side] = cv2.cvtColor(sign, cv2.COLOR_GRAY2BGR)
    noise = rng.integers(-6, 7, picture.shape, dtype=np.int16)
    return np.clip(picture.astype(np.int16) + noise, 0, 255).astype(np.uint8)


def pictures(frames: str, scene: Path | None, seed: int) -> Iterator[Any]:
    """From a folder, a device or an address; drawn by what ``scene`` says where none is named."""
    if frames:
        import cv2

        source = cv2.VideoCapture(int(frames) if frames.isdigit() else frames)
        if not source.isOpened():
            raise ConfigError(f"{frames} cannot be opened", hint="a device's number, a file or URL")
        while True:
            there, picture = source.read()
            if not there:
                return
            yield picture
    for moment in range(WARM_UP):
        yield drawn(0, closed=False, moment=moment, seed=seed)
    moment = WARM_UP
    while True:
        told: dict[str, Any] = {}
        if scene is not None:
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(scene.read_text())
        people, closed = int(told.get("people", 7)), bool(told.get("closed", False))
        yield drawn(people, closed=closed, moment=moment, seed=seed)
        moment += 1


async def run(arguments: argparse.Namespace) -> None:
    """Send what is seen until the pictures end."""
    registry: Registry[Detector] = Registry(
        "detector", {BUILT_IN: "examples.smart_city.camera:OpenCvDetector"}
    )
    detect = registry.create(arguments.detector)
    count = 0
    async with aiomqtt.Client(arguments.broker, arguments.port) as client:
        for picture in pictures(arguments.frames, arguments.scene, arguments.seed):
            figures = await asyncio.to_thread(detect, picture)
            count += 1
            if arguments.detector == BUILT_IN and count <= WARM_UP:
                continue  # they teach it what the place is like, and are not counted in
            body = {**figures, "n": count, "ts": round(time.time(), 3)}
            await client.publish(arguments.topic, json.dumps(body), qos=1)
            await asyncio.sleep(arguments.every_s)


def main() -> int:
    """``python -m examples.smart_city.camera``."""
    made = argparse.ArgumentParser(prog="python -m examples.smart_city.camera", description=__doc__)
    made.add_argument("--broker", default="127.0.0.1")
    made.add_argument("--port", type=int, default=1883)
    made.add_argument("--topic", default=os.environ.get("TOPIC", "city/camera/square"))
    made.add_argument("--detector", default=BUILT_IN)
    made.add_argument("--frames", default="", help="a video device, file or address; else drawn")
    made.add_argument(
        "--scene", type=Path, help='{"people": 7, "closed": false}, read again each time'
    )
    made.add_argument("--every-s", type=float, default=0.5)
    made.add_argument("--seed", type=int, default=0)
    arguments = made.parse_args()
    try:
        asyncio.run(run(arguments))
    except KeyboardInterrupt:
        return 130
    except GossamerError as error:
        sys.stderr.write(f"{error.sentence()}\n")
        return 1
    except aiomqtt.MqttError as error:
        broker = f"{arguments.broker}:{arguments.port}"
        sys.stderr.write(f"the broker at {broker} cannot be reached: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
