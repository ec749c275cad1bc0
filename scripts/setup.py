"""Makes .venv for this clone: ``setup.py run`` for the demo, ``setup.py dev`` for the tests.

Needs nothing but the standard library. Everything slow says that it moves, on standard error.
The one long step is compiling llama.cpp: its package has no ready wheels, and a build made on
the machine uses the machine's own instructions. The wheel is kept outside the clone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BUILD_FREE_BYTES = 1_500_000_000  # sources, objects and the wheel together, with room to spare
COMPILER_BYTES = 900_000_000  # what one compiler process takes at its worst; boards are small
LOCK_WAIT_S = 3600.0  # another clone's compile on a slow board
TERMINAL_EVERY_S = 1.0
LOG_EVERY_S = 15.0
TAIL_LINES = 15
END_S = 5.0  # for a build to end its compilers before it is killed

_NINJA = re.compile(r"^\[\s*(\d+)/(\d+)\]")
_MAKE = re.compile(r"^\[\s*(\d+)%\]")
_SOURCE = re.compile(r"([\w.+-]+\.(?:cpp|cc|c|S|so|a))\b")

# What to do about failures that people meet, by what the log says.
_ADVICE = [
    (r"Killed|out of memory|cannot allocate", "The machine ran out of memory: set "
     "CMAKE_BUILD_PARALLEL_LEVEL=1, or add swap, and run it again."),
    (r"No space left", "The disk is full: free some space and run it again."),
    (r"name resolution|NewConnectionError|Network is unreachable|timed? ?out|No matching dist",
     "The package index was not reached, or lacks a package: check the network and pip's "
     "configuration, and run it again."),
    (r"externally-managed", "Use the Makefile, which makes an environment of its own."),
]  # fmt: skip


class SetupFailed(Exception):
    """One line for the user; the caller prints it and exits with 1."""


def say(line: str) -> None:
    """A line for a person, on standard error."""
    print(line, file=sys.stderr, flush=True)


# --- Running a slow command and showing that it moves -----------------------------------------


def interesting(line: str) -> str:
    """What of a build's output says where it is; empty for the rest."""
    line = line.strip()
    for counter in (_NINJA, _MAKE):
        if match := counter.match(line):
            sources = _SOURCE.findall(line)
            return f"{match.group(0)} {sources[-1] if sources else ''}".rstrip()
    if line.startswith(("Collecting ", "Downloading ", "Building ", "Installing ", "Preparing ")):
        return re.sub(r"https?://\S*/", "", line)[:70]
    return ""


def _show(label: str, began: float, doing: str, *, terminal: bool) -> None:
    seconds = int(time.monotonic() - began)
    text = f"  {label}: {seconds // 60}:{seconds % 60:02d}  {doing}".rstrip()
    if terminal:
        width = shutil.get_terminal_size().columns
        sys.stderr.write("\r\x1b[K" + text[: width - 1])
        sys.stderr.flush()
    else:
        say(text)


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    """End a command and all that it started.

    Politely first: ninja keeps each compiler in a group of its own, and only it can end them.
    """
    until = time.monotonic() + END_S
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < until:
            process.poll()  # reaped, or it would count as alive
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def watch(label: str, command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
    """Run ``command`` with its output in ``log``; raises :class:`SetupFailed` with the tail.

    The command is a process group of its own: an interrupt ends its compilers too.
    """
    began = time.monotonic()
    terminal = sys.stderr.isatty()
    every_s = TERMINAL_EVERY_S if terminal else LOG_EVERY_S
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    lines: queue.Queue[str | None] = queue.Queue()
    doing, shown = "", began
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(env or {})},
        cwd=ROOT,
        start_new_session=True,
    )
    threading.Thread(target=_pump, args=(process, lines), daemon=True).start()
    try:
        with log.open("w") as out:
            while True:
                try:
                    line = lines.get(timeout=0.2)
                except queue.Empty:
                    line = ""
                if line is None:
                    break
                if line:
                    out.write(line)
                    tail.append(line.rstrip()[:300])
                    doing = interesting(line) or doing
                if time.monotonic() - shown >= every_s:
                    shown = time.monotonic()
                    _show(label, began, doing, terminal=terminal)
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        if terminal:
            sys.stderr.write("\r\x1b[K")
    if code:
        text = "\n".join(tail)
        advice = next((a for pattern, a in _ADVICE if re.search(pattern, text, re.I)), "")
        say("\n".join(f"  | {line}" for line in tail))
        raise SetupFailed(
            f"{label} failed. {advice or 'Mend what the lines above name and run it again.'} "
            f"The whole log is {log}; finished parts are kept."
        )
    say(f"  {label}: done in {time.monotonic() - began:.0f} s")


# --- The wheel of llama-cpp-python ------------------------------------------------------------


def requirement() -> str:
    """The requirement on llama-cpp-python as pyproject.toml states it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return next(str(d) for d in project["dependencies"] if d.startswith("llama-cpp-python"))


def cmake_args() -> str:
    """The user's CMAKE_ARGS, and no multimodal library: Gossamer does not use it."""
    return f"{os.environ.get('CMAKE_ARGS', '')} -DLLAVA_BUILD=OFF".strip()


def machine_key() -> str:
    """What a native build depends on: machine, CPU and its flags, C library, and options."""
    cpu: set[str] = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "flags", "Features", "CPU part", "CPU variant"}:
                cpu.add(f"{key.strip()}={' '.join(sorted(value.split()))}")
    facts = [*sorted(cpu), *platform.libc_ver(), cmake_args(), requirement()]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
    return f"{platform.machine()}-{digest}"


def wheel_folder() -> Path:
    """Where this machine's builds are kept, outside every clone."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "gossamer" / "wheels" / machine_key()


def kept_wheel() -> Path | None:
    """The newest kept build, or none."""
    wheels = wheel_folder().glob("llama_cpp_python-*.whl")
    return max(wheels, key=lambda path: path.stat().st_mtime, default=None)


def parallel_level() -> int:
    """How many compilers fit: one per core, and no more than memory holds."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        memory = next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable"))
    return max(1, min(os.cpu_count() or 1, memory // COMPILER_BYTES))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One build at a time per machine; the lock goes with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        deadline, told = time.monotonic() + LOCK_WAIT_S, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SetupFailed("another build of llama.cpp does not end") from None
                if not told:
                    say("  waiting for another build of llama.cpp on this machine")
                told = True
                time.sleep(0.5)
        yield


def build_wheel() -> Path:
    """The kept wheel, or a new one; a failed or interrupted build leaves nothing behind."""
    folder = wheel_folder()
    with _locked(folder):
        if kept := kept_wheel():  # another clone built it while this one waited
            return kept
        for leftover in folder.glob("building-*"):  # of a build that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        free = shutil.disk_usage(folder).free
        if free < BUILD_FREE_BYTES:
            raise SetupFailed(
                f"Compiling llama.cpp needs {BUILD_FREE_BYTES / 1e9:.1f} GB of disk under "
                f"{folder} and {free / 1e9:.1f} GB are free: free some, or set XDG_CACHE_HOME."
            )
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(parallel_level())
        say(
            f"Compiling llama.cpp for this machine with {jobs} job(s): 3 to 5 minutes on two fast "
            "cores, 15 or more on a small board. It is done once; the result is kept."
        )
        # Not in /tmp, which is memory on recent systems. Downloads outlive a failure.
        work = Path(tempfile.mkdtemp(prefix="building-", dir=folder))
        env = {
            "CMAKE_ARGS": cmake_args(),
            "CMAKE_BUILD_PARALLEL_LEVEL": jobs,
            "TMPDIR": str(work),
            "PIP_CACHE_DIR": str(folder / "downloads"),
        }
        command = [str(PYTHON), "-m", "pip", "wheel", "-v", "--no-deps", "--progress-bar=off"]
        command += ["--no-binary=llama-cpp-python", f"--wheel-dir={work}", requirement()]
        try:
            watch("compiling llama.cpp", command, folder / "build.log", env)
            built = next(work.glob("llama_cpp_python-*.whl"))
            kept = folder / built.name
            built.replace(kept)  # atomic: a wheel under this name is always whole
        finally:
            shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(folder / "downloads", ignore_errors=True)
        return kept


# --- The environment --------------------------------------------------------------------------


def check_prerequisites() -> None:
    """Raise one line for the first thing that is missing."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        own = Path(sys.executable).resolve() == Path("/usr/bin/python3").resolve()
        version = "3" if own else f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupFailed(
            f"Python's venv module is missing: sudo apt install python{version}-venv"
        ) from None
    if kept_wheel():
        return
    compilers = {"C": ("CC", "cc", "gcc", "clang"), "C++": ("CXX", "c++", "g++", "clang++")}
    for language, (variable, *commands) in compilers.items():
        chosen = os.environ.get(variable, "").split()[:1]
        if not any(shutil.which(command) for command in chosen or commands):
            raise SetupFailed(
                f"No {language} compiler, and llama.cpp must be compiled: "
                "sudo apt install build-essential"
            )


def make_environment() -> None:
    """Make .venv unless a working one of this very folder is there; upgrade its pip."""
    made_in = VENV / "made-in"
    works = PYTHON.exists() and not subprocess.run([PYTHON, "-c", ""], check=False).returncode
    if works and made_in.exists() and made_in.read_text().strip() == str(ROOT):
        return
    if VENV.exists():
        shutil.rmtree(VENV)
    watch("making .venv", [sys.executable, "-m", "venv", str(VENV)], VENV / "setup.log")
    pip = [str(PYTHON), "-m", "pip", "install", "--upgrade", "pip"]
    watch("upgrading pip", pip, VENV / "setup.log")  # an old pip resolves extras for minutes
    made_in.write_text(f"{ROOT}\n")


def install(mode: str) -> None:
    """Install the clone, editable, with the kept wheel and the extras of ``mode``."""
    wheel = kept_wheel() or build_wheel()
    clone = f"{ROOT}[dev]" if mode == "dev" else str(ROOT)
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar=off", str(wheel), "-e", clone]
    watch("installing Gossamer and its libraries", command, VENV / "setup.log")
    loads = subprocess.run(
        [PYTHON, "-c", "import llama_cpp"], check=False, capture_output=True, text=True
    )
    if loads.returncode:
        wheel.unlink(missing_ok=True)
        reason = (loads.stderr.strip().splitlines() or [f"exit status {loads.returncode}"])[-1]
        raise SetupFailed(
            f"The kept build of llama.cpp does not load here ({reason[:200]}). It is removed: "
            "run the same command again to compile it anew."
        )


def main(mode: str) -> int:
    """Set up for ``mode`` (run or dev) and leave the stamps that the Makefile looks at."""
    try:
        check_prerequisites()
        say("Setting up (once; repeated when pyproject.toml changes)")
        make_environment()
        install(mode)
    except SetupFailed as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted; finished parts are kept. Run the same command to go on.")
        return 130
    for stamp in ("run", "dev") if mode == "dev" else ("run",):
        (VENV / f"ready-{stamp}").touch()
    return 0


def _terminated(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _terminated)
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    if chosen not in {"run", "dev"}:
        sys.exit("usage: setup.py run|dev")
    sys.exit(main(chosen))
