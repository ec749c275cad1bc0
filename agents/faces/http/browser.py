"""Pictures of the web page, of a demonstration that runs for them, in a real browser:

python -m agents.faces.http.browser --out docs/images/web

It needs Debian's ``chromium`` and the extra ``browser`` (playwright, which only steers it).
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agents.faces import demo as demonstration

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PHONE = {"width": 390, "height": 844}  # CSS pixels of a common phone
DESK = {"width": 1100, "height": 760}
QUESTION = "What is 48 * 27? And what is gossip?"
PATIENCE_MS = 60_000


def chromium() -> str:
    """The browser of this machine; empty where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), "")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser, until the block is left."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # No sandbox: a container's root has none to give, and only our own page is opened.
        running = playwright.chromium.launch(
            executable_path=chromium(), headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield running
        finally:
            running.close()


def main() -> None:
    """Start a demonstration, show the page, write its pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    out: Path = parser.parse_args().out
    if not chromium():
        sys.exit("there is no chromium on this machine: apt-get install chromium")
    out.mkdir(parents=True, exist_ok=True)
    with demonstration.Demo(demonstration.roster(4), http=True) as mesh:
        url = asyncio.run(_started(mesh))
        with browser() as running:
            _pictures(running, url, out)


async def _started(mesh: demonstration.Demo) -> str:
    client = await demonstration.start(mesh)
    async with client:
        return await demonstration.http_url(client)


def _pictures(running: Browser, url: str, out: Path) -> None:
    for name, size, scheme in (("phone", PHONE, "light"), ("desk", DESK, "dark")):
        page = running.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(url)
        page.fill("#question", QUESTION)
        page.press("#question", "Enter")
        page.wait_for_selector("#turns [data-over=ok]", timeout=PATIENCE_MS)
        page.screenshot(path=out / f"{name}.png")
        sys.stderr.write(f"{name}.png\n")
        if name == "phone":
            page.click("[data-show=mesh]")
            page.wait_for_selector("#nodes tr", timeout=PATIENCE_MS)
            page.screenshot(path=out / "phone-mesh.png")
            sys.stderr.write("phone-mesh.png\n")
        page.close()


if __name__ == "__main__":
    main()
