"""LoRA adapters of a worker: loaded and removed while it runs, mixed by scale per request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capabilities.slm import header, llama
from capabilities.slm.errors import BadRequest
from mesh.core.errors import ModelError, Rejected

MAX_ADAPTERS = 16  # each keeps its weights in memory
MAX_MIXED = 4  # each is two more products in every layer
MAX_SCALE = 10.0  # beyond it any model speaks nonsense
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

Mix = tuple[tuple[str, float], ...]  # names with scales, in the order of names


class Adapters:
    """Those loaded beside one model."""

    def __init__(self, model: llama.Model, arch: str) -> None:
        self._model = model
        self._arch = arch
        self._loaded: dict[str, Any] = {}
        self._applied: Mix = ()

    @property
    def names(self) -> list[str]:
        """What requests may name."""
        return sorted(self._loaded)

    def add(self, name: str, path: Path) -> None:
        """Load an adapter under a name; raises BadRequest, ModelError or Rejected."""
        if not _NAME.fullmatch(name):
            raise BadRequest(
                f"an adapter cannot be called {name[:80]!r}",
                hint="use up to 64 of a-z, 0-9, '_', '.' and '-'",
            )
        if name in self._loaded:
            raise BadRequest(f"an adapter {name} is already loaded", hint="remove it first")
        if len(self._loaded) >= MAX_ADAPTERS:
            raise Rejected(f"{MAX_ADAPTERS} adapters are loaded; remove one first")
        head = header.read(path)
        if head.text("general.type") != "adapter" or head.text("adapter.type") != "lora":
            raise BadRequest(f"{path.name} is no LoRA adapter", hint="convert it to GGUF first")
        if head.arch != self._arch:
            raise BadRequest(f"{path.name} is for {head.arch} and the model is {self._arch}")
        pointer = self._model.load_adapter(path)
        if not pointer:
            raise ModelError(
                f"{path.name} does not fit this model", hint="use the model it was trained on"
            )
        self._loaded[name] = pointer

    def remove(self, name: str, context: llama.Context) -> None:
        """Unload; no running request may use it. Raises BadRequest when it is not loaded."""
        if name not in self._loaded:
            raise BadRequest(f"no adapter {name[:80]!r} is loaded")
        if any(name == one for one, _ in self._applied):
            self.apply((), context)
        self._model.free_adapter(self._loaded.pop(name))

    def mix(self, wanted: Mapping[str, float]) -> Mix:
        """A request's adapters, checked; raises BadRequest."""
        unknown = sorted(set(wanted) - set(self._loaded))
        if unknown:
            have = ", ".join(self.names) or "none"
            raise BadRequest(f"no adapter {unknown[0][:80]!r} is loaded", hint=f"loaded: {have}")
        if len(wanted) > MAX_MIXED:
            raise BadRequest(f"{len(wanted)} adapters at once; a request may mix {MAX_MIXED}")
        if not all(abs(scale) <= MAX_SCALE for scale in wanted.values()):
            raise BadRequest(f"the scale of an adapter lies between -{MAX_SCALE} and {MAX_SCALE}")
        return tuple(sorted((name, scale) for name, scale in wanted.items() if scale))

    def apply(self, mix: Mix, context: llama.Context) -> None:
        """Use this mix from the next step on; nothing is done when it is in use already."""
        if mix != self._applied:
            context.set_adapters([(self._loaded[name], scale) for name, scale in mix])
            self._applied = mix
