"""A folder that installs Gossamer without a network: wheels, the few packages, install.sh."""

from __future__ import annotations

import email
import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from agents.boards.doctor import DISTRIBUTION, LLAMA
from mesh.core.errors import ConfigError, GossamerError

HERE = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
DEBS = ("libgomp1",)  # what a bare system lacks for llama.cpp
GLIBC = ("2_17", "2_28", "2_31", "2_34", "2_36")  # Debian 12 has 2.36; wheels name what they need
ARCHES = {"aarch64": "arm64", "x86_64": "amd64"}

Say = Callable[[str], None]


class WheelhouseError(GossamerError):
    """pip or apt could not bring something; the sentence has its last line."""

    code = "wheelhouse_failed"


def installer() -> Path:
    """install.sh, in the package or in the clone."""
    for path in (HERE / "install.sh", HERE.parents[1] / "install.sh"):
        if path.exists():
            return path
    raise ConfigError("install.sh is not beside this installation", hint="use a clone's")


def own_source() -> str:
    """What this installation was made from: its clone, or its name and version."""
    clone = HERE.parents[1]
    if (clone / "pyproject.toml").exists():
        return str(clone)
    return f"{DISTRIBUTION}=={metadata.version(DISTRIBUTION)}"


def make(
    output: Path,
    say: Say,
    *,
    source: str = "",
    arch: str = "",
    python: str = "",
    llama: Path | None = None,
    without_llama: bool = False,
) -> dict[str, Any]:
    """Fill ``output``; what is there already is not fetched again.

    For another processor or Python only ready wheels can be had: llama.cpp is then a wheel of
    the user's (``llama``) or left out. Raises :class:`GossamerError`.
    """
    native = arch in {"", platform.machine()} and python in {"", _python()}
    arch, python = arch or platform.machine(), python or _python()
    if arch not in ARCHES:
        raise ConfigError(f"{arch} is not supported", hint=", ".join(ARCHES))
    if not native and llama is None and not without_llama:
        raise ConfigError(
            f"llama.cpp is compiled on the machine that it runs on, and this is not {arch} "
            f"with Python {python}",
            hint="make the wheelhouse on such a board, name its wheel with --llama, or "
            "--without-llama",
        )
    wheels = output / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for old in wheels.glob("gossamer_mesh-*.whl"):
        old.unlink()
    say("Gossamer itself")
    _pip("wheel", "--no-deps", f"--wheel-dir={wheels}", source or own_source())
    needs = needs_of(next(wheels.glob("gossamer_mesh-*.whl")))
    ours = [line for line in needs if line.startswith(LLAMA)]
    if llama is not None:
        shutil.copy(llama, wheels)
    elif native and not without_llama and not list(wheels.glob("llama_cpp_python-*.whl")):
        say("llama.cpp, compiled for this processor: minutes")
        _pip("wheel", "--no-deps", f"--wheel-dir={wheels}", *ours)
    say("its libraries")
    needed = [line for line in needs if line not in ours]
    if not without_llama:
        # What llama-cpp-python itself needs, without it.
        needed += ["typing-extensions>=4.5", "numpy>=1.20", "diskcache>=5.6", "jinja2>=2.11"]
    choice = ["--only-binary=:all:", "--prefer-binary"]
    if not native:
        choice += [f"--python-version={python}", "--implementation=cp"]
        choice += [f"--platform=manylinux_{glibc}_{arch}" for glibc in GLIBC]
        choice += [f"--platform=manylinux2014_{arch}"]
    _pip("download", f"--dest={wheels}", *choice, "pip", *needed)
    if not without_llama:
        _debs(output / "debs", arch, say)
    target = output / "install.sh"
    shutil.copyfile(installer(), target)
    target.chmod(0o755)
    files = sorted(p for p in output.rglob("*") if p.is_file() and p.name != SUMS)
    sums = "".join(f"{_sha256(p)}  {p.relative_to(output).as_posix()}\n" for p in files)
    (output / SUMS).write_text(sums)
    return {
        "folder": str(output),
        "arch": arch,
        "python": python,
        "files": len(files),
        "mb": round(sum(p.stat().st_size for p in files) / 1e6, 1),
        "models": not without_llama,
    }


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def needs_of(wheel: Path) -> list[str]:
    """The requirements that a wheel names, without its extras: what is installed here may be
    older than what is packed."""
    with zipfile.ZipFile(wheel) as packed:
        name = next(n for n in packed.namelist() if n.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(packed.read(name)).get_all("Requires-Dist") or []
    return [line for line in told if "extra ==" not in line]


def _pip(verb: str, *words: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise WheelhouseError("there is no pip beside this Python", hint="python -m ensurepip")
    done = subprocess.run(
        [sys.executable, "-m", "pip", verb, "--progress-bar=off", "-q", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise WheelhouseError(f"pip {verb}: {(lines or ['failed'])[0]}"[:400])


def _debs(folder: Path, arch: str, say: Say) -> None:
    apt = shutil.which("apt-get")
    if apt is None or list(folder.glob("*.deb")):
        return
    folder.mkdir(exist_ok=True)
    for name in DEBS:
        done = subprocess.run(
            [apt, "download", "-q", f"{name}:{ARCHES[arch]}"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:  # the board may well have it: the installer looks
            say(f"{name} could not be had: a board that lacks it will say so")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
