"""What of a grammar is refused before native code reads it."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.slm import gbnf
from capabilities.slm.errors import BadRequest

GOOD = r"""
# an order of drinks
root  ::= order ("," ws order)*
order ::= amount ws (
    "tea" | "coffee"   # both are hot
  | [a-z]{3,12}
)
amount ::= [1-9] [0-9]? | "\x41\u00e9"
ws ::= " "?
"""


def test_a_good_grammar_passes() -> None:
    gbnf.check(GOOD)


@pytest.mark.parametrize(
    ("grammar", "word"),
    [
        ("", "root"),
        ("start ::= [a]", "root"),
        ("root ::= other", "nowhere"),
        ('root ::= "a', "does not end"),
        ("root ::= [a", "does not end"),
        ('root ::= ("a"', r"\) was expected"),
        ('root ::= "a" )', "end of a line"),
        ("root = [a]", "::= was expected"),
        ('root ::= "a"\nroot ::= "b"', "twice"),
        ('root ::= root "a" | "b"', "begins with itself"),
        ('root ::= x? root "a" | "b"\nx ::= "x"', "begins with itself"),
        ('root ::= a\na ::= b\nb ::= a "x" | "y"', "begins with itself"),
        ('root ::= ("a"*)*', "may be empty"),
        ('root ::= x+\nx ::= "" | "a"', "may be empty"),
        ('root ::= ("a"?){1,9}', "may be empty"),
        ('root ::= "a" root', "never comes to an end"),
        ('root ::= "a"{99999}', "within 2000"),
        ('root ::= "a"{5,2}', "grow"),
        ('root ::= "a"{x}', "written"),
        ('root ::= "a"**', "brackets around"),
        ('root ::= (("abcd"{200}){20}){20}', "20000 elements"),
        ("root ::= " + "(" * 40 + '"a"' + ")" * 40, "nested deeper"),
        ("root ::= [z-a]", "backwards"),
        ('root ::= "\\q"', "unknown escape"),
        ('root ::= "\\x4"', "too few digits"),
        ("root ::= <think>", "end of a line"),
        ('root ::= "a" # ' + "x" * gbnf.MAX_CHARS, "characters"),
    ],
)
def test_a_grammar_that_would_harm_is_refused_with_its_reason(grammar: str, word: str) -> None:
    with pytest.raises(BadRequest, match=word):
        gbnf.check(grammar)


def test_a_wrong_line_is_named() -> None:
    with pytest.raises(BadRequest, match="line 3"):
        gbnf.check('root ::= a\na ::= "x"\nb := "y"')


def test_rules_that_lean_on_each_other_without_end_are_refused_soon() -> None:
    chain = [f"r{i} ::= r{i + 1}" for i in range(2000)]
    random.Random(1).shuffle(chain)
    with pytest.raises(BadRequest, match="too deeply"):
        gbnf.check("\n".join(["root ::= r0", *chain, 'r2000 ::= ""']))


def test_a_long_chain_of_rules_in_order_passes() -> None:
    chain = "\n".join(f'r{i} ::= "a" | r{i + 1} "b"' for i in range(1500))
    gbnf.check(f'root ::= r0\n{chain}\nr1500 ::= "c"')
    with pytest.raises(BadRequest, match="itself"):
        gbnf.check(f'root ::= r0\n{chain}\nr1500 ::= r7 "c"')


@given(st.text(alphabet='rot:=abx"[](){}|*+?\\., \n0129#^-<', max_size=80))
def test_any_text_passes_or_is_refused(text: str) -> None:
    with contextlib.suppress(BadRequest):
        gbnf.check("root ::= " + text)


@given(st.text(max_size=30))
def test_any_text_can_be_quoted(text: str) -> None:
    gbnf.check("root ::= " + gbnf.quote(text) + ' "."')
