"""What this machine has, what is missing, and what to do about each.

A check is a function that looks at one thing and says ok, warn (it works, not as well as it
could) or fail (Gossamer or a part of it cannot work). A check that breaks is itself a finding.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from agents.boards import hardware
from agents.boards.checks import FAIL, OK, WARN, Check, graded
from agents.boards.readings import ROOT
from agents.faces.client import ControlClient
from agents.faces.control import version
from agents.faces.door import default_state
from mesh.core.errors import GossamerError

DISTRIBUTION = "gossamer-mesh"
LLAMA = "llama-cpp-python"
PACKAGES = ("agents", "capabilities", "mesh")
MIN_PYTHON = (3, 11)
MIN_MEMORY_MB = 400  # an agent of 80 MB and one embedded worker of 150, and a system beside them
GOOD_MEMORY_MB = 1000
MIN_DISK_MB = 100  # journal and knowledge base; models of the user's own need more
GOOD_DISK_MB = 1000
MIN_FILES = 256  # two links per peer and a worker's pipes; out of them ZeroMQ spins a core
GOOD_FILES = 1024
CHILD_S = 60.0  # the import of native code on a small board, from a cold disk
AGENT_S = 3.0

_APT = "sudo apt install"


# --- The machine ------------------------------------------------------------------------------


def check_python(info: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    """The interpreter's version."""
    value = f"{'.'.join(map(str, info))} ({platform.python_implementation()})"
    if info[:2] >= MIN_PYTHON:
        return Check(name="python", status=OK, value=value)
    return Check(
        name="python",
        status=FAIL,
        value=value,
        advice="Gossamer needs Python 3.11 or later: Debian 12, Raspberry Pi OS bookworm",
    )


def check_compiler(which: Callable[[str], str | None] = shutil.which) -> Check:
    """Only an update of llama-cpp-python needs it again, so its absence is a warning."""
    found = [next(filter(which, names), "") for names in (("cc", "gcc"), ("c++", "g++"))]
    if all(found):
        return Check(name="compiler", status=OK, value=" and ".join(found))
    return Check(
        name="compiler",
        status=WARN,
        value="none",
        advice=f"the next update compiles llama.cpp: {_APT} build-essential",
    )


def check_cores() -> Check:
    """How many cores this process may use; a decoder that takes all of them starves itself."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    value = f"{cores} ({platform.machine()})"
    if cores > 1:
        return Check(name="cores", status=OK, value=value)
    advice = "with one core, answers wait for each other and for the agent: expect slow ones"
    return Check(name="cores", status=WARN, value=value, advice=advice)


def check_memory(root: Path = ROOT) -> Check:
    """Memory that is available now."""
    meminfo = root / "proc/meminfo"
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    available_mb = int(fields["MemAvailable"].split()[0]) / 1024
    advice = "stop something else, or run fewer and smaller models"
    return graded("memory", available_mb, (MIN_MEMORY_MB, GOOD_MEMORY_MB), "MB free", advice)


def check_disk(state: Path) -> Check:
    """Disk that is free where the agent keeps its state."""
    there = next(folder for folder in (state, *state.absolute().parents) if folder.exists())
    free_mb = shutil.disk_usage(there).free / 1e6
    advice = f"free some space, or choose another --state than {state}"
    return graded("disk", free_mb, (MIN_DISK_MB, GOOD_DISK_MB), "MB free", advice)


def check_files() -> Check:
    """How many files this process may hold open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Check(name="open files", status=OK, value="unlimited")
    advice = (
        f"raise it: ulimit -n {min(4096, hard) if hard > 0 else 4096}, or LimitNOFILE= in a unit"
    )
    return graded("open files", soft, (MIN_FILES, GOOD_FILES), "at most", advice)


# --- What is installed ------------------------------------------------------------------------


def required() -> list[str]:
    """The libraries that the installed distribution names, without the extras."""
    lines = metadata.requires(DISTRIBUTION) or []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def check_libraries() -> list[Check]:
    """Every required library with its version."""
    try:
        names = required()
    except metadata.PackageNotFoundError:
        advice = "install it: pip install -e . in an environment of its own, or make demo"
        return [Check(name=DISTRIBUTION, status=FAIL, value="not installed", advice=advice)]
    checks = [Check(name=DISTRIBUTION, status=OK, value=version())]
    for name in names:
        try:
            checks.append(Check(name=name, status=OK, value=metadata.version(name)))
        except metadata.PackageNotFoundError:
            if name == LLAMA:  # a node without models still relays, senses and asks
                continue
            advice = f"pip install {name}"
            checks.append(Check(name=name, status=FAIL, value="missing", advice=advice))
    return checks


def check_curve() -> Check:
    """ZeroMQ must be built with CURVE: Gossamer has no link without it."""
    import zmq

    value = f"libzmq {zmq.zmq_version()}"
    if zmq.has("curve"):
        return Check(name="encryption", status=OK, value=f"CURVE in {value}")
    advice = "this pyzmq was built without CURVE: pip install --force-reinstall pyzmq"
    return Check(name="encryption", status=FAIL, value=f"none in {value}", advice=advice)


_LLAMA = (
    "import llama_cpp, sys; llama_cpp.llama_backend_init(); "
    "print(llama_cpp.llama_print_system_info().decode())"
)


def check_llama(command: list[str] | None = None) -> Check:
    """Load llama.cpp where its crash is not ours, and say what of the processor it uses."""
    name = "llama.cpp"
    if command is None and importlib.util.find_spec("llama_cpp") is None:
        return Check(
            name=name,
            status=WARN,
            value="not installed: no model runs here",
            advice="run install.sh without --without-llama, or pip install llama-cpp-python",
        )
    try:
        done = subprocess.run(
            command or [sys.executable, "-c", _LLAMA],
            capture_output=True,
            text=True,
            timeout=CHILD_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Check(name=name, status=FAIL, value=f"no answer in {CHILD_S:.0f} s", advice=_REBUILD)
    if done.returncode < 0:
        value = f"crashed by signal {-done.returncode} while loading"
        return Check(name=name, status=FAIL, value=value, advice=_REBUILD)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Check(name=name, status=FAIL, value=last[:160], advice=_REBUILD)
    features = re.findall(r"(\w+) = 1\b", done.stdout)
    return Check(
        name=name, status=OK, value=f"loads; uses {', '.join(features) or 'no extensions'}"
    )


_REBUILD = (
    "build it for this machine: pip install --force-reinstall --no-cache-dir "
    "--no-binary llama-cpp-python llama-cpp-python"
)


def check_models(folder: Path | None = None) -> Check:
    """The embedded models that the package carries."""
    if folder is None:
        spec = importlib.util.find_spec("capabilities")
        folder = Path(spec.origin).parent if spec and spec.origin else Path()
    models = sorted(folder.rglob("*.gguf"))
    broken = [path.name for path in models if path.open("rb").read(4) != b"GGUF"]
    if broken:
        advice = "the file is damaged, or a pointer to one: install the package again"
        value = f"no GGUF: {', '.join(broken)}"
        return Check(name="embedded models", status=FAIL, value=value, advice=advice)
    if not models:
        advice = "the mesh answers only with models of your own: install the package again"
        return Check(name="embedded models", status=WARN, value="none", advice=advice)
    found = ", ".join(f"{path.stem} ({path.stat().st_size / 1e6:.1f} MB)" for path in models)
    return Check(name="embedded models", status=OK, value=found)


def check_neighbours(owners: Mapping[str, list[str]] | None = None) -> Check:
    """Another distribution with a top-level package of one of our names shadows it, or is."""
    owners = metadata.packages_distributions() if owners is None else owners
    clashes = [
        f"{owner} owns {package}"
        for package in PACKAGES
        for owner in sorted(set(owners.get(package, [])))
        if owner != DISTRIBUTION
    ]
    homes = set()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        homes.add(str(Path(spec.origin).parent.parent) if spec and spec.origin else "nowhere")
    if clashes:
        others = sorted({clash.split(" owns ")[0] for clash in clashes})
        return Check(
            name="package names",
            status=FAIL,
            value="; ".join(clashes),
            advice=f"install Gossamer in an environment of its own, or pip uninstall {others[0]}",
        )
    if len(homes) > 1:
        return Check(
            name="package names",
            status=FAIL,
            value=f"the packages come from different places: {', '.join(sorted(homes))}",
            advice="run it outside folders named agents, mesh or capabilities",
        )
    return Check(
        name="package names", status=OK, value=f"agents, capabilities, mesh in {homes.pop()}"
    )


def check_agent(state: Path | None) -> Check:
    """Whether an agent runs here and answers."""

    async def look() -> Check:
        async with await ControlClient.connect(state) as client:
            status = await client.fetch("status", silence_s=AGENT_S)
            uptime_s = float(status.get("uptime_s", 0.0))
            value = f"{status.get('name', '?')} up {uptime_s:.0f} s ({client.state})"
            return Check(name="agent", status=OK, value=value)

    try:
        return asyncio.run(look())
    except GossamerError as error:
        if error.code == "no_agent":
            return Check(name="agent", status=OK, value="none runs here")
        return Check(name="agent", status=WARN, value=error.message, advice=error.hint)


def examine(state: Path | None = None, root: Path = ROOT) -> list[Check]:
    """Every check, in the order in which a reader would mend things. ``root`` is where the files
    of the board are."""
    looks: list[tuple[str, Callable[[], Check | list[Check]]]] = [
        ("board", lambda: hardware.check_board(root)),
        ("python", check_python),
        ("libraries", check_libraries),
        ("package names", check_neighbours),
        ("encryption", check_curve),
        ("llama.cpp", check_llama),
        ("embedded models", check_models),
        ("compiler", check_compiler),
        ("cores", check_cores),
        ("memory", lambda: check_memory(root)),
        ("swap", lambda: hardware.check_swap(root)),
        ("disk", lambda: check_disk(state or default_state())),
        ("open files", check_files),
        ("storage", lambda: hardware.check_storage(root)),
        ("clock", lambda: hardware.check_clock(root=root)),
        ("temperature", lambda: hardware.check_temperature(root)),
        ("power", lambda: hardware.check_power(root)),
        ("network", lambda: hardware.check_network(root)),
        ("agent", lambda: check_agent(state)),
    ]
    checks: list[Check] = []
    for name, look in looks:
        try:
            found = look()
        except Exception as error:
            value = f"cannot be seen here: {type(error).__name__}: {error}"[:160]
            found = Check(name=name, status=WARN, value=value)
        checks += found if isinstance(found, list) else [found]
    return checks
