"""``python -m capabilities.segments.check WHOLE SEGMENT...``: are they bit for bit the whole?

The whole model and each segment compute the same tokens, prompt at once and then one by one. A
segment is given the rows that entered its first layer in the whole, and what leaves its last must
be the same numbers. It runs in a process of its own, as everything that loads a model does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from capabilities.segments.files import Segment, describe
from capabilities.slm import header
from capabilities.slm.process import last_words
from mesh.core.errors import ModelError

PROMPT, STEPS = 24, 8  # positions computed at once, and one by one
SEED = 5


def verify(whole: Path, segments: Sequence[Path]) -> dict[str, float]:
    """The largest difference per segment's file name, 0.0 when it is exact.

    Rows are compared, and logits where the last layer is. Raises ModelError when a file is no
    segment of that model, or cannot be run.
    """
    sha = header.file_sha256(whole)
    for path in segments:
        one = describe(path)
        if one is None or one.model_sha256 != sha:
            raise ModelError(
                f"{path.name} is not a segment of {whole.name}",
                hint="cut it again with gossamer model split",
            )
    command = [sys.executable, "-m", "capabilities.segments.check", str(whole)]
    ended = subprocess.run(
        [*command, *map(str, segments)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        words = last_words(ended.stderr) or f"exit code {ended.returncode}"
        raise ModelError(f"the segments of {whole.name} cannot be checked: {words}")
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def main(whole: str, *paths: str) -> int:
    """Compute, and print the differences as JSON."""
    import numpy as np

    from capabilities.slm import llama

    llama.start(lambda level, text: None)
    segments = [one for path in paths if (one := describe(Path(path)))]
    cuts = sorted({s.range.first - 1 for s in segments} | {s.range.last for s in segments})
    model = llama.Model(Path(whole), use_extra_bufts=False)
    size = model.vocab.size
    layers = model.layers
    model.close()
    tokens = np.random.default_rng(SEED).integers(0, size, PROMPT + STEPS).tolist()
    expected = _run(Path(whole), tokens, None, [c for c in cuts if 0 < c < layers], full=True)
    differences = {}
    for one in segments:
        before = expected[one.range.first - 1] if one.range.first > 1 else None
        length = one.range.last - one.range.first + 1
        ends = one.range.last == one.layers
        found = _run(one.path, tokens, before, [] if ends else [length], full=ends)
        left = found[0] if ends else found[length]
        right = expected[0] if ends else expected[one.range.last]
        differences[one.path.name] = _furthest(one, left, right)
    sys.stdout.write(json.dumps(differences))
    return 0


def _furthest(one: Segment, left: object, right: object) -> float:
    import numpy as np

    a, b = np.asarray(left), np.asarray(right)
    if a.shape != b.shape:
        raise ModelError(f"{one.path.name} answers in another shape than the whole")
    return float(np.max(np.abs(a - b)))


def _run(
    path: Path, tokens: list[int], rows: object, after: list[int], *, full: bool
) -> dict[int, object]:
    """Rows that leave the layers ``after``, by layer, and with ``full`` the logits under 0."""
    import numpy as np

    from capabilities.slm import capture, llama

    model = llama.Model(path, use_extra_bufts=False)
    seen = capture.Capture()
    count = len(tokens)
    context = llama.Context(
        model,
        llama.ContextShape(
            tokens=max(64, count),
            batch=count,
            sequences=1,
            outputs=count,
            threads=1,
            eval_callback=seen.callback,
        ),
    )
    batch: llama.Batch
    batch = llama.Batch(count) if rows is None else llama.RowBatch(count, model.width)
    given = None if rows is None else np.asarray(rows, dtype=np.float32)
    kept: dict[int, list[llama.Floats]] = {layer: [] for layer in [*after, *([0] if full else [])]}
    names = {layer: capture.layer_name(layer - 1) for layer in after}
    begin = 0
    for size in [PROMPT] + [1] * STEPS:
        batch.clear()
        if isinstance(batch, llama.RowBatch) and given is not None:
            batch.add_rows(given[begin : begin + size], begin, 0, outputs=size)
        else:
            batch.add(tokens[begin : begin + size], begin, 0, outputs=size)
        seen.arm(set(names.values()))
        if context.decode(batch):
            raise ModelError(f"{path.name} cannot be decoded")
        for layer, name in names.items():
            found = seen.rows(name, model.width)
            if found is None or len(found) != size:
                raise ModelError(f"{path.name} does not let the rows of layer {layer} out")
            kept[layer].append(found.copy())
        if full:
            kept[0].append(context.logits(size).copy())
        begin += size
    context.close()
    model.close()
    return {layer: np.concatenate(values) for layer, values in kept.items()}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
