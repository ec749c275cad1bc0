"""The ``[[model]]`` part of an agent's configuration: files, names, and how two machines share one.

Every field's docstring says what a larger value costs; see :mod:`agents.config`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NameSection(_Section):
    """A name that a model answers under, as it is advertised."""

    name: str
    domain: str = ""
    description: str = ""
    examples: tuple[str, ...] = ()
    accuracy: float = -1.0
    priority: int = 10
    weight: int = 10
    system: str = ""
    languages: tuple[str, ...] = ()
    """BCP 47 tags that the model answers in, such as "en" or "de-AT"; empty: not said, which is
    no reason for others not to ask."""


class SplitSection(_Section):
    """A model whose first layers are here; the rest is asked of a node that holds it
    (docs/segments.md)."""

    second: str = ""
    """A further segment of this node, with an exit of its own."""
    theta: Annotated[float, Field(ge=0, le=2)] = 0.8
    """How sure an exit has to be to speak; lower asks the other node less often."""
    infer_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """The longest wait for one token of the other node."""
    budget_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """What a token may cost by prediction, before this node goes on alone."""
    alone: bool = False
    """Never ask another node: the last exit always speaks."""


class DraftSection(_Section):
    """A small model whose names are answered with a bigger model's words (docs/drafts.md)."""

    of: str = ""
    """The bigger model: what stands after computation.gpt/verify/. Empty: answers are its own."""
    ngrams: bool = False
    """Draft what followed the same words before; the small model speaks when nobody checks."""
    trees: bool = False
    """Greedy drafts branch: fewer verdicts, and more computing for each here and there."""
    check_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """The longest wait for one verdict; after it the small model goes on alone."""


class ModelSection(_Section):
    """A GGUF and the names it answers under."""

    path: str
    name: tuple[NameSection, ...] = ()
    slots: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests decoded together. More share one batch: each gets slower, all get done sooner."""
    queue: Annotated[int, Field(ge=0, le=256)] = 4
    """Requests that may wait for a slot; beyond it the answer is REJECT at once."""
    context: Annotated[int, Field(ge=64, le=1 << 20)] = 1024
    """Tokens per request, prompt and answer together; memory grows with context times slots."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """0: measured at load, then as many as other processes leave."""
    prefix_tokens: Annotated[int, Field(ge=-1, le=1 << 20)] = -1
    """Tokens of prompts that are kept for reuse; -1 chooses by the model's size, 0 keeps none."""
    memory_mb: Annotated[int, Field(ge=0, le=1 << 24)] = 0
    """Refuse the model if it needs more; 0: what the machine has available."""
    idle_unload_s: Annotated[float, Field(ge=0)] = 0.0
    """Give the memory back after so long without a request; the next one waits for the load."""
    adapters: dict[str, str] = {}
    """LoRA adapters loaded with the model: a name that requests mix in, and its GGUF file."""
    verifies: bool = False
    """Check the drafts of other nodes, as computation.gpt/verify/MODEL."""
    draft: DraftSection = DraftSection()
    """Draft for a bigger model on another node."""
    split: SplitSection = SplitSection()
    """Where the file is the first segment of a model: how the rest takes part."""
