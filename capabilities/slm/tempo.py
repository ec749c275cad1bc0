"""How many threads a context computes with: measured at load, then as the machine allows."""

from __future__ import annotations

import time
from collections.abc import Callable

from capabilities.slm import llama, machine, trial
from capabilities.slm.threads import ThreadPolicy, best, candidates


class Tempo:
    """The threads of one context; with ``fixed`` they stay as they are."""

    def __init__(self, context: llama.Context, threads: int, *, fixed: bool) -> None:
        self._context = context
        self._threads = threads
        self._fixed = fixed
        self._neighbours = machine.Neighbours()
        self._policy: ThreadPolicy | None = None

    @property
    def threads(self) -> int:
        """Those of a step of one token per sequence."""
        return self._policy.counts[0] if self._policy else self._threads

    def measure(
        self, batch: llama.Batch, vocab: llama.Vocab, *, room: int, clock: Callable[[], float]
    ) -> trial.Trial:
        """Try the model, and unless they are fixed choose the threads by it.

        Raises :class:`~mesh.core.errors.ModelError` when the model computes no numbers.
        """

        def attempt() -> trial.Trial:
            return trial.generate(self._context, batch, vocab, room=room, clock=clock)

        if self._fixed:
            return attempt()
        tried: dict[int, trial.Trial] = {}
        for count in candidates(machine.cores()):
            self._context.set_threads(count, count)
            tried[count] = attempt()
        chosen = best({count: one.decode for count, one in tried.items()})
        self._policy = ThreadPolicy(machine.cores(), chosen)
        self._context.set_threads(*self._policy.counts)
        return tried[chosen]

    def follow(self) -> None:
        """Leave the cores to others that others use, and rest when it is too warm."""
        policy = self._policy
        if policy is not None and policy.look(
            time.monotonic(), self._neighbours.busy_cores, machine.slack_c
        ):
            self._context.set_threads(*policy.counts)
