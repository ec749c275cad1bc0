"""The static embedder in sentence-transformers' own format: the same vectors, in that library.

    python -m capabilities.embedding.training.export --out my-embedder

The folder loads with ``SentenceTransformer("my-embedder")``: a ``StaticEmbedding`` module with
the shipped token vectors, then ``Normalize``. Needs the extra ``sentence-transformers``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from capabilities.embedding.static import StaticEmbedder, shipped


def export(embedder: StaticEmbedder, out: Path) -> None:
    """Write ``out`` as a sentence-transformers model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokens = StaticEmbedding(embedder.tokenizer, embedding_weights=embedder.vectors())
    SentenceTransformer(modules=[tokens, Normalize()], device="cpu").save(str(out))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--embedder", type=Path, help="a folder made by distil; default: shipped")
    options = parser.parse_args()
    export(StaticEmbedder(options.embedder) if options.embedder else shipped(), options.out)
    print(f"{options.out}: load it with SentenceTransformer({str(options.out)!r})")


if __name__ == "__main__":
    main()
