"""Sentences that the teacher is asked about, from the files that a user names.

A source is ``PATH`` (one sentence a line), ``PATH:KEY`` (a column of a CSV file, a key of a JSON
or JSON-lines file; every string below it is taken), or a folder with WordNet's ``data.*`` files,
whose glosses and examples cover far more of English than any set of questions does. Nothing of
these files is shipped: the teacher's vectors for them are what the student is fitted to.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mesh.core.errors import ConfigError

MIN_WORDS = 2  # of what a key leads to: a label such as "pin_change" is no sentence
MAX_CHARS = 400
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_QUOTED = re.compile(r'"([^"]+)"')


def read(sources: Iterable[str], *, seed: int, limit: int = 0) -> list[str]:
    """Distinct sentences of all sources, shuffled by ``seed``; at most ``limit`` (0: all).

    Raises :class:`ConfigError` for a source that is not there or holds no sentence.
    """
    found: dict[str, None] = {}
    for source in sources:
        before = len(found)
        found.update((sentence, None) for sentence in _sentences(source))
        if len(found) == before:
            raise ConfigError(f"{source} holds no new sentence", hint="PATH, or PATH:KEY")
    texts = sorted(found)
    random.Random(seed).shuffle(texts)
    return texts[:limit] if limit else texts


def _sentences(source: str) -> Iterator[str]:
    for text in _texts(source):
        for part in _SENTENCE_END.split(" ".join(text.split())):
            if len(part.split()) >= MIN_WORDS:
                yield part[:MAX_CHARS]


def _texts(source: str) -> Iterator[str]:
    path, _, key = source.partition(":")
    file = Path(path)
    if file.is_dir():
        yield from _wordnet(file)
        return
    try:
        if not key:
            yield from file.read_text(encoding="utf-8").splitlines()
        elif file.suffix == ".csv":
            with file.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    yield row[key] or ""
        elif file.suffix == ".jsonl":
            for line in file.read_text(encoding="utf-8").splitlines():
                yield from _strings(json.loads(line)[key])
        else:
            whole = json.loads(file.read_text(encoding="utf-8"))
            for part in whole if isinstance(whole, list) else [whole]:
                yield from _strings(part[key])
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{source} cannot be read: {error}", hint="PATH, or PATH:KEY") from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)


def _wordnet(folder: Path) -> Iterator[str]:
    """Each synset's definition, its examples, and its words with the definition."""
    for file in sorted(folder.glob("data.*")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            head, bar, gloss = line.partition(" | ")
            if not bar or line.startswith("  "):
                continue
            fields = head.split()
            count = int(fields[3], 16)
            words = [fields[4 + 2 * n].replace("_", " ") for n in range(count)]
            definition = _QUOTED.sub("", gloss).strip(" ;")
            yield f"{words[0]}: {definition}"
            yield from _QUOTED.findall(gloss)
