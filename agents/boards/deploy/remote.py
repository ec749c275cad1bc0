"""What runs on the machines: sent over ssh before each request, with nothing but the standard
library, so that a machine needs Python and sshd and no agent of deployment.

A request is one line of JSON on standard input, then the bytes of a file where the request has
one; the reply is one line on standard output that begins with ``REPLY``. No request stands in a
command line, where every user of the machine could read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from agents.boards.deploy.environments import (
    Facts,
    Refused,
    current,
    environment,
    forget_unused,
    made,
    noted,
    plain_version,
    programs,
    python_of,
    run,
    version_of,
    wanted_python,
)

REPLY = "gossamer-deploy:"
KEPT_RELEASES = 3
AGENT_S = 30.0  # for a command line to start on a small board
STOP_S = 15.0  # for an agent to say goodbye to its peers before it is killed
TAIL_LINES = 20
CHUNK = 1 << 20


def kept(root: Path) -> Facts:
    """What is remembered between requests."""
    try:
        found: Facts = json.loads((root / "deploy.json").read_text())
    except (OSError, ValueError):
        return {"history": []}
    return found


def keep(root: Path, facts: Facts) -> None:
    """Replace what is remembered as a whole."""
    beside = root / ".deploy.json"
    beside.write_text(json.dumps(facts))
    beside.replace(root / "deploy.json")


# --- Looking ----------------------------------------------------------------------------------


def facts(root: Path, request: Facts) -> Facts:
    """What this machine has and runs; changes nothing."""
    wanted, runs = wanted_python(root, request), python_of(root, request, current(root))
    installed = version_of(wanted)
    free = shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists())).free
    releases = root / "releases"
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "base": plain_version(request["base"]),
        "installed": installed,
        "runs": installed if runs == wanted else version_of(runs),
        "environments": made(root),
        "free_bytes": free,
        "runner": runner_of(request["runner"]),
        "current": current(root),
        "releases": sorted(p.name for p in releases.iterdir()) if releases.exists() else [],
        "history": kept(root)["history"],
        "public": kept(root).get("public"),
        "blobs": [b for b in request["blobs"] if (root / "blobs" / b).exists()],
        "processes": processes(root, request),
        "home": str(root),
    }


def runner_of(wanted: str) -> str:
    """systemd where it runs and lets this user have units, else plain."""
    if wanted != "auto":
        return wanted
    if not Path("/run/systemd/system").exists():
        return "plain"
    if os.geteuid() == 0:
        return "systemd"
    done = run("systemctl", "--user", "show-environment")
    return "systemd" if done.returncode == 0 else "plain"


def processes(root: Path, request: Facts) -> dict[str, bool]:
    """Which of this node's processes run."""
    names = ["agent", *[program["name"] for program in programs(root, request)]]
    return {name: alive(root, request, name) for name in names}


# --- Releases ---------------------------------------------------------------------------------


def put(root: Path, request: Facts) -> Facts:
    """One file by its hash; a broken transfer leaves nothing under its name."""
    folder = root / "blobs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = folder / (".part-" + request["blob_name"])
    digest, left = hashlib.sha256(), request["size"]
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            while left:
                piece = sys.stdin.buffer.read(min(CHUNK, left))
                if not piece:
                    raise Refused("the connection broke while a file came")
                digest.update(piece)
                out.write(piece)
                left -= len(piece)
        if digest.hexdigest() != request["sha256"]:
            raise Refused("a file came damaged")
        beside.replace(folder / request["blob_name"])
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return {}


def install(root: Path, request: Facts) -> Facts:
    """Lay a release out beside the present one; it is whole or it is not there."""
    release = request["release"]
    done = root / "releases" / release
    if done.exists():
        return {"new": False}
    beside = root / "releases" / (".part-" + release)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True, mode=0o700)
    for entry in request["files"]:
        target = beside / entry["path"]
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        blob = root / "blobs" / entry["blob"]
        if entry.get("unpack"):
            with zipfile.ZipFile(blob) as wheel:
                wheel.extractall(target)
        else:
            shutil.copyfile(blob, target)
            target.chmod(entry["mode"])
    note = noted(root, request, release)
    (beside / "release.json").write_text(json.dumps({**note, "made": time.time()}))
    beside.replace(done)
    return {"new": True}


def switch(root: Path, request: Facts) -> Facts:
    """Stop what runs, point ``current`` at a release, start it."""
    release = request["release"]
    if not (root / "releases" / release).exists():
        raise Refused(f"the release {release} is not on this machine any more")
    before = set(processes(root, request))
    stop_all(root, request)
    beside = root / ".current"
    beside.unlink(missing_ok=True)
    beside.symlink_to("releases/" + release)
    beside.replace(root / "current")
    drop_units(request, before - set(processes(root, request)))
    start_all(root, request)
    known = kept(root)
    known["history"] = [r for r in known["history"] if r != release] + [release]
    keep(root, known)
    return {}


def forget(root: Path, request: Facts) -> Facts:
    """A release that did not work is no release to go back to."""
    known = kept(root)
    known["history"] = [r for r in known["history"] if r != request["release"]]
    keep(root, known)
    shutil.rmtree(root / "releases" / request["release"], ignore_errors=True)
    return {}


def clean(root: Path, request: Facts) -> Facts:
    """Keep the last releases and the files that are in them or come again."""
    known = kept(root)
    known["history"] = known["history"][-KEPT_RELEASES:]
    keep(root, known)
    for folder in (root / "releases").iterdir():
        if folder.name not in known["history"]:
            shutil.rmtree(folder, ignore_errors=True)
    for blob in (root / "blobs").iterdir():
        if blob.name not in request["blobs"]:
            blob.unlink()
    forget_unused(root, known["history"])
    return {}


def remove(root: Path, request: Facts) -> Facts:
    """Everything but the node's keys and what it knows."""
    stop_all(root, request)
    drop_units(request, set(processes(root, request)))
    for name in ("releases", "blobs", "run", "environments"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "current").unlink(missing_ok=True)
    keep(root, {**kept(root), "history": []})
    return {}


# --- Processes --------------------------------------------------------------------------------


def variables(root: Path) -> dict[str, str]:
    """The release stands before whatever is installed."""
    release = root / "current"
    paths = [str(release / "lib"), str(release)]
    return {**os.environ, "PYTHONPATH": ":".join(paths), "PYTHONUNBUFFERED": "1"}


def commands(root: Path, request: Facts) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Each process of this node: its command and what it adds to the environment."""
    config = str(root / "current" / "agent.toml")
    found: dict[str, tuple[list[str], dict[str, str]]] = {}
    python = python_of(root, request, current(root))
    found["agent"] = ([python, "-m", "agents.faces.up", config], {})
    fill = {
        "{python}": python,
        "{release}": str(root / "current"),
        "{state}": str(root / "state"),
    }
    for program in programs(root, request):
        command = program["command"]
        for key, value in fill.items():
            command = [word.replace(key, value) for word in command]
        found[program["name"]] = (command, program.get("environment", {}))
    return found


def start_all(root: Path, request: Facts) -> None:
    """Start the agent and the programs beside it."""
    (root / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, (command, more) in commands(root, request).items():
        if runner_of(request["runner"]) == "systemd":
            start_unit(root, request, name, command, more)
            continue
        log = os.open(root / "run" / (name + ".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root / "current",
            env={**variables(root), **more},
            start_new_session=True,
        )
        os.close(log)
        mark = {"pid": process.pid, "began": began(process.pid)}
        (root / "run" / (name + ".json")).write_text(json.dumps(mark))


def stop_all(root: Path, request: Facts) -> None:
    """End all of them, politely first."""
    marks = list((root / "run").glob("*.json")) if (root / "run").exists() else []
    going = []
    for path in marks:
        mark = json.loads(path.read_text())
        # Only a process that we started: its number may be another's by now.
        if mark["began"] and began(mark["pid"]) == mark["began"]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(mark["pid"], signal.SIGTERM)
            going.append(mark)
    until = time.monotonic() + STOP_S
    for mark in going:
        while began(mark["pid"]) == mark["began"]:
            if time.monotonic() > until:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(mark["pid"], signal.SIGKILL)
                break
            time.sleep(0.1)
    for path in marks:
        path.unlink(missing_ok=True)
    if request.get("unit") and runner_of(request["runner"]) == "systemd":
        for name in processes(root, request):
            if unit_path(request, name).exists():
                systemctl("stop", unit_path(request, name).name)


def began(pid: int) -> int:
    """When a process began, in ticks since the boot; 0 where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def alive(root: Path, request: Facts, name: str) -> bool:
    """Whether one of them runs."""
    if runner_of(request["runner"]) == "systemd":
        return systemctl("is-active", unit_path(request, name).name).returncode == 0
    try:
        mark = json.loads((root / "run" / (name + ".json")).read_text())
    except (OSError, ValueError):
        return False
    return bool(mark["began"]) and began(mark["pid"]) == mark["began"]


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    """The system's manager for root, the user's own for others."""
    user = [] if os.geteuid() == 0 else ["--user"]
    return run("systemctl", *user, *words)


def drop_units(request: Facts, names: set[str]) -> None:
    """Take the units of processes away that are no more."""
    gone = [unit_path(request, name) for name in names] if request.get("unit") else []
    for path in gone:
        if path.exists():
            systemctl("disable", path.name)
            path.unlink()
            systemctl("daemon-reload")


def unit_path(request: Facts, name: str) -> Path:
    """Where the unit of one process stands."""
    base = Path("/etc/systemd/system")
    if os.geteuid() != 0:
        base = Path.home() / ".config/systemd/user"
    return base / f"{request['unit']}-{name}.service"


def start_unit(
    root: Path, request: Facts, name: str, command: list[str], more: dict[str, str]
) -> None:
    """A unit that comes back after a crash and after a boot."""

    def quoted(text: str) -> str:
        text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        text = text.replace("$", "$$")
        return f'"{text}"'

    values = {"PYTHONPATH": variables(root)["PYTHONPATH"], **more}
    settings = "".join(
        f"Environment={quoted(key + '=' + value)}\n" for key, value in sorted(values.items())
    )
    target = "multi-user.target" if os.geteuid() == 0 else "default.target"
    path = unit_path(request, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "exec"
    if name == "agent":
        kind = "notify\nNotifyAccess=main\nWatchdogSec=60"
    path.write_text(
        "# Written by gossamer deploy.\n"
        f"[Unit]\nDescription=Gossamer {name} of {request['unit']}\n"
        "Wants=network-online.target\nAfter=network-online.target\n"
        f"[Service]\nType={kind}\nExecStart={' '.join(map(quoted, command))}\n"
        f"WorkingDirectory={str(root / 'current').replace('%', '%%')}\n{settings}"
        "Restart=on-failure\nRestartSec=5\nUMask=0077\nNoNewPrivileges=yes\n"
        f"[Install]\nWantedBy={target}\n"
    )
    systemctl("daemon-reload")
    systemctl("enable", path.name)
    if os.geteuid() != 0:  # or everything ends with the last login
        run("loginctl", "enable-linger")
    done = systemctl("restart", "--no-block", path.name)
    if done.returncode:
        raise Refused(done.stderr.strip()[-300:])


# --- Health -----------------------------------------------------------------------------------


def health(root: Path, request: Facts) -> Facts:
    """Wait until the agent is in its mesh with all that it should offer; say what it is not."""
    until = time.monotonic() + request["wait_s"]
    while True:
        wrong, final = unwell(root, request)
        if not wrong:
            return {"healthy": True}
        if final or time.monotonic() > until:
            return {"healthy": False, "why": wrong, "log": tail(root, request)}
        time.sleep(0.3)


def unwell(root: Path, request: Facts) -> tuple[str, bool]:
    """What is wrong now, and whether waiting does not mend it."""
    for name, lives in processes(root, request).items():
        if not lives:
            return f"{name} does not run", runner_of(request["runner"]) == "plain"
    status = ask(root, request, "status")
    if not status:
        return "the agent does not answer", False
    if not status.get("ready"):
        return "the agent is not ready", False
    peers = ask(root, request, "peers") or []
    me: Facts = next((peer for peer in peers if peer.get("me")), {})
    if not me.get("healthy"):
        return "the agent is not well: %s" % (me.get("note") or "no word of itself"), True
    return "", True


def ask(root: Path, request: Facts, verb: str) -> Any:
    """What the agent answers at its local door; None where it does not."""
    state = str(root / "state")
    python = python_of(root, request, current(root))
    command = [python, "-m", "agents.faces.cli", verb, "--json", "--state", state]
    try:
        done = run(*command, env=variables(root), timeout=AGENT_S)
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        return None


def tail(root: Path, request: Facts) -> str:
    """The end of the agent's log."""
    if runner_of(request["runner"]) == "systemd":
        user = [] if os.geteuid() == 0 else ["--user"]
        name = unit_path(request, "agent").name
        command = ["journalctl", *user, "-u", name, "-n", str(TAIL_LINES), "-o", "cat"]
        return run(*command).stdout
    try:
        lines = (root / "run" / "agent.log").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-TAIL_LINES:])


def status(root: Path, request: Facts) -> Facts:
    """What runs, and the agent's own word."""
    return {
        "current": current(root),
        "history": kept(root)["history"],
        "installed": version_of(python_of(root, request, current(root))),
        "processes": processes(root, request),
        "agent": ask(root, request, "status") or {},
    }


def keys(root: Path, request: Facts) -> Facts:
    """The node's own keys, made here: only their public halves leave the machine."""
    python = wanted_python(root, request)
    command = [python, "-m", "agents.boards.deploy.keys", str(root / "state")]
    # Before there is a release the wheel itself is on the path: Python reads from archives.
    wheel = {"PYTHONPATH": str(root / "blobs" / request["wheel"])} if request["wheel"] else {}
    done = run(
        *command,
        input=json.dumps(request.get("accept") or {}),
        env={**os.environ, **wheel},
    )
    if done.returncode:
        raise Refused((done.stderr.strip().splitlines() or ["no keys could be made"])[-1][:300])
    known = kept(root)
    known["public"] = json.loads(done.stdout)
    keep(root, known)
    public: Facts = known["public"]
    return public


VERBS = {
    verb.__name__: verb
    for verb in (
        *(facts, put, environment, install, switch, forget, clean, remove, health, status),
        keys,
    )
}
LOOKING = {"facts", "status"}  # these change nothing, not even a folder


def main() -> None:
    """Read one request, do it, reply."""
    os.umask(0o077)
    request = json.loads(sys.stdin.buffer.readline())
    root = Path(request["root"]).expanduser()
    try:
        if request["verb"] not in LOOKING:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        reply: Facts = {"ok": VERBS[request["verb"]](root, request)}
    except Refused as error:
        reply = {"error": str(error)}
    except OSError as error:
        reply = {"error": f"{error.filename or root}: {error.strerror}"}
    print(REPLY + json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
