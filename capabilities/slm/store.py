"""The folder of models that a user keeps on this machine: GGUF files, named by their stem."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from capabilities.slm import header
from capabilities.slm.embedded import embedded_models
from capabilities.slm.header import Header
from mesh.core.errors import ModelError

VARIABLE = "GOSSAMER_MODELS"
SYNTHETIC = "gossamer.synthetic"  # of files with random weights
EXITS_SUFFIX = ".exits.gguf"  # of files beside a model, which are none
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A model on this disk. ``problem`` says why it cannot be used."""

    name: str
    path: Path
    bytes: int
    embedded: bool = False
    head: Header = field(default_factory=Header)
    problem: str = ""

    @property
    def synthetic(self) -> bool:
        """Whether its weights are random, good for timing only."""
        return bool(self.head.scalars.get(SYNTHETIC, False))


def folder() -> Path:
    """Where models are kept: $GOSSAMER_MODELS, or the user's data directory."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_data_dir("gossamer")) / "models"


def models(at: Path) -> Iterator[Stored]:
    """The shipped models, then those in the folder, by name."""
    for name, model in sorted(embedded_models().items()):
        yield _stored(f"builtin:{name}", model.path, embedded=True)
    for path in sorted(at.glob("*.gguf")):
        if path.name.endswith(EXITS_SUFFIX):
            continue
        yield _stored(path.stem, path)


def find(name: str, at: Path) -> Stored:
    """A model by its name or by the path of any GGUF; raises ModelError."""
    for model in models(at):
        if name in (model.name, model.path.name):
            if model.problem:
                raise ModelError(model.problem)
            return model
    path = Path(name).expanduser()
    if path.suffix == ".gguf" or path.exists():
        head = header.read(path)  # says what is wrong with the path, too
        return Stored(path.stem, path, path.stat().st_size, head=head)
    raise ModelError(
        f"there is no model called {name[:80]}", hint="see gossamer model list, or give a path"
    )


def target(name: str, at: Path) -> Path:
    """Where a new model of this name goes; raises ModelError when the name is taken or odd."""
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"a model cannot be called {name[:80]!r}",
            hint="use up to 100 letters, digits, '_', '.' and '-'",
        )
    path = at / f"{name}.gguf"
    if path.exists():
        raise ModelError(
            f"there is already a model called {name}", hint="choose another name, or remove it"
        )
    at.mkdir(parents=True, exist_ok=True)
    return path


def part(path: Path) -> Path:
    """A name beside ``path`` to write under, until the file is whole."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def add(source: Path, name: str, at: Path) -> Stored:
    """Take a file into the folder, as a link where the disk allows it; raises ModelError."""
    head = header.read(source)
    path = target(name, at)
    try:
        os.link(source, path)
    except OSError:
        unfinished = part(path)
        try:
            shutil.copyfile(source, unfinished)
            unfinished.rename(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise ModelError(f"cannot copy {source.name}: {error.strerror}") from error
    return Stored(name, path, path.stat().st_size, head=head)


def remove(name: str, at: Path) -> Path:
    """Delete a model of the folder; raises ModelError for any other."""
    path = at / f"{name.removesuffix('.gguf')}.gguf"
    if not _NAME.fullmatch(path.stem) or not path.is_file():
        hint = "see gossamer model list"
        if name.startswith("builtin:"):
            hint = "shipped models are part of the package"
        raise ModelError(f"there is no model called {name[:80]} in {at}", hint=hint)
    path.unlink()
    return path


def _stored(name: str, path: Path, *, embedded: bool = False) -> Stored:
    try:
        return Stored(name, path, path.stat().st_size, embedded, header.read(path))
    except ModelError as error:
        return Stored(name, path, path.stat().st_size, embedded, problem=error.sentence())
