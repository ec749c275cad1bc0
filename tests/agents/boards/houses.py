"""Small wheelhouses for tests: this clone as a wheel, this interpreter's libraries by a path."""

from __future__ import annotations

import hashlib
import importlib.util
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PIP = importlib.util.find_spec("pip") is not None
LEFT_OUT = {"training", "sim", "__pycache__"}  # of the wheel: nothing that an agent runs


def _pack(file: Path, name: str, version: str, contents: dict[str, bytes]) -> None:
    inside = f"{name}-{version}.dist-info"
    contents = {
        **contents,
        f"{inside}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{inside}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in contents) + f"{inside}/RECORD,,\n"
    with zipfile.ZipFile(file, "w") as wheel:
        for path, data in {**contents, f"{inside}/RECORD": record.encode()}.items():
            wheel.writestr(path, data)


def _clone() -> dict[str, bytes]:
    found = {}
    for package in ("mesh", "capabilities", "agents"):
        for path in sorted((ROOT / package).rglob("*")):
            inside = path.relative_to(ROOT)
            if path.suffix == ".gguf":  # megabytes, and no test of this loads a model
                continue
            if path.is_file() and not LEFT_OUT & set(inside.parts):
                found[inside.as_posix()] = path.read_bytes()
    return found


def _pip(folder: Path) -> None:
    """The pip of this interpreter as a wheel."""
    told = metadata.distribution("pip")
    contents = {
        str(path): Path(str(path.locate())).read_bytes()
        for path in told.files or ()
        if str(path).startswith("pip/") and path.suffix != ".pyc"
    }
    _pack(folder / f"pip-{told.version}-py3-none-any.whl", "pip", told.version, contents)


def fake_house(folder: Path, version: str, *, broken: bool = False) -> Path:
    """A wheelhouse of this clone as ``version``. Its libraries are a fake: a path to those of this
    interpreter, so that nothing has to be fetched. ``broken``: its agent does not start."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    contents = _clone()
    if broken:
        contents["agents/faces/up.py"] = (
            b"import os\nraise SystemExit('no such luck: ' + os.name)\n"
        )
    # Behind everything: what is in the wheel is found before what this interpreter has.
    contents["zz_libraries_of_the_test.pth"] = sysconfig.get_path("purelib").encode() + b"\n"
    file = wheels / f"gossamer_mesh-{version}-py3-none-any.whl"
    _pack(file, "gossamer_mesh", version, contents)
    _pip(wheels)
    sums = "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  wheels/{p.name}\n"
        for p in sorted(wheels.iterdir())
    )
    (folder / "SHA256SUMS").write_text(sums)
    return folder
