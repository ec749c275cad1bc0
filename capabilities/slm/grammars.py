"""The grammar that a request holds its answer to; pure."""

from __future__ import annotations

from functools import lru_cache

from capabilities.messages import Generate
from capabilities.slm import gbnf, schema
from capabilities.slm.errors import BadRequest


def grammar_of(request: Generate) -> str:
    """GBNF that is safe to give to llama.cpp, or nothing; raises BadRequest or Unsupported."""
    if request.json_schema and request.grammar:
        raise BadRequest("json_schema and grammar exclude each other", hint="send one of them")
    if request.json_schema:
        return _from_schema(request.json_schema)
    if request.grammar:
        _check(request.grammar)
    return request.grammar


@lru_cache(maxsize=32)
def _check(text: str) -> None:
    gbnf.check(text)


@lru_cache(maxsize=32)
def _from_schema(text: str) -> str:
    return schema.to_gbnf(text)
