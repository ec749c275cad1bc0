"""Gossamer itself on the machines: environments of Python, made of the wheels of a wheelhouse.

Sent over ssh with :mod:`agents.boards.deploy.remote`, so nothing but the standard library. An
environment is named by its wheels and stays as it is: a release names its own, so that going back
to the release before also goes back to the Gossamer and the libraries that it ran with.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

FOLDER = "environments"
DONE = "done.json"  # written last: without it an environment is half made

Facts = dict[str, Any]


class Refused(Exception):
    """One sentence for the person who deploys."""


def run(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command and what it said; its exit status is the caller's to look at."""
    return subprocess.run(command, check=False, capture_output=True, text=True, **more)


def wanted_python(root: Path, request: Facts) -> str:
    """The interpreter that the inventory wants: an environment's, or one that is there."""
    name = request.get("environment")
    return str(root / FOLDER / name / "bin" / "python") if name else str(request["python"])


def current(root: Path) -> str:
    """The release that runs; empty where none does."""
    try:
        return (root / "current").readlink().name
    except OSError:
        return ""


def laid_out(root: Path, release: str) -> Facts:
    """What is remembered of a release; empty where there is none."""
    try:
        found: Facts = json.loads((root / "releases" / release / "release.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def noted(root: Path, request: Facts, release: str) -> Facts:
    """What to remember of a release: it is gone back to with what it was made for, whatever the
    inventory says by then."""
    return {
        "release": release,
        "python": wanted_python(root, request),
        "environment": request.get("environment", ""),
        "run": request.get("run", []),
    }


def python_of(root: Path, request: Facts, release: str) -> str:
    """The interpreter that a release was made for."""
    return str(laid_out(root, release).get("python") or wanted_python(root, request))


def programs(root: Path, request: Facts) -> list[Facts]:
    """The programs beside the agent: those of the release that runs, or that are asked for."""
    known: list[Facts] | None = laid_out(root, current(root)).get("run")
    return request.get("run", []) if known is None else known


def version_of(python: str) -> str:
    """Which Gossamer an interpreter has; empty where none."""
    probe = "from importlib import metadata; print(metadata.version('gossamer-mesh'))"
    try:
        found = run(python, "-c", probe)
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def plain_version(base: str) -> str:
    """The version of the interpreter that an environment would be made with; empty for none."""
    try:
        return run(base, "-c", "import platform; print(platform.python_version())").stdout.strip()
    except OSError:
        return ""


def made(root: Path) -> list[str]:
    """The environments that are whole."""
    return sorted(path.parent.name for path in (root / FOLDER).glob("*/" + DONE))


def environment(root: Path, request: Facts) -> Facts:
    """Make the environment that the request names; raises :class:`Refused` with pip's own word."""
    place = root / FOLDER / request["environment"]
    if (place / DONE).exists():
        return {"new": False}
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, mode=0o700)
    base = request["base"]
    # Without ensurepip, which Debian keeps in a package of its own: pip runs from its wheel.
    try:
        done = run(base, "-m", "venv", "--without-pip", str(place))
    except OSError as error:
        raise Refused(f"{base}: {error.strerror}") from error
    _look(done, f"{base} makes no environment")
    wheels = place / "wheels"
    wheels.mkdir()
    for wheel in request["wheels"]:
        (wheels / wheel["path"]).hardlink_to(root / "blobs" / wheel["blob"])
    python = str(place / "bin" / "python")
    pip = str(next(wheels.glob("pip-*.whl")) / "pip")
    common = [python, pip, "install", "-q", "--no-index", "--no-cache-dir", "--find-links"]
    # Python compiles what is imported; compiling all of it would take a small board minutes.
    common += [str(wheels), "--no-compile", "--disable-pip-version-check", "--no-input"]
    if request["requirements"]:
        _look(run(*common, *request["requirements"]), "its libraries do not install")
    own = str(wheels / request["gossamer"])
    _look(run(*common, "--no-deps", own), "Gossamer does not install")
    check = run(python, "-c", "import " + ", ".join(request["imports"]))
    _look(check, "what was installed does not load")
    shutil.rmtree(wheels)
    facts = {"version": version_of(python)}
    (place / DONE).write_text(json.dumps(facts))
    return {"new": True, **facts}


def forget_unused(root: Path, releases: list[str]) -> None:
    """Remove environments that none of the releases was made for."""
    used = {laid_out(root, release).get("environment") for release in releases}
    for place in (root / FOLDER).glob("*"):
        if place.name not in used:
            shutil.rmtree(place, ignore_errors=True)


def _look(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode == 0:
        return
    said = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
    why = next((line for line in said if line.startswith("ERROR")), said[-1])
    if "libgomp" in why:
        why += " (sudo apt install libgomp1)"
    raise Refused(f"{what}: {why}"[:400])
