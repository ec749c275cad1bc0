"""From token pieces to visible text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from capabilities.messages import Delta, TokenLogprob
from capabilities.slm.output import TextStream, held_back


def say(stream: TextStream, *pieces: bytes) -> list[Delta]:
    return [delta for piece in pieces for delta in stream.push(piece)]


def test_a_character_cut_in_two_tokens_comes_out_whole() -> None:
    stream = TextStream()
    deltas = say(stream, b"na", b"\xc3", b"\xafve")
    assert [(d.text, d.tokens) for d in deltas] == [("na", 1), ("ïve", 2)]
    assert stream.text == "naïve"


def test_half_a_character_at_the_end_is_dropped() -> None:
    stream = TextStream()
    assert [d.text for d in say(stream, b"a", b"\xf0\x9f")] == ["a"]
    assert stream.flush() == []
    assert stream.text == "a"


def test_bytes_that_are_no_text_are_replaced() -> None:
    stream = TextStream()
    say(stream, b"a\xffb")
    assert stream.text == "a\ufffdb"


def test_a_stop_string_spread_over_tokens_is_never_seen() -> None:
    stream = TextStream(stops=["END"])
    deltas = say(stream, b"on", b"e E", b"N", b"D two")
    assert "".join(d.text for d in deltas) == stream.text == "one "
    assert stream.stopped


def test_what_only_began_like_a_stop_string_is_emitted_later() -> None:
    stream = TextStream(stops=["END"])
    assert [d.text for d in say(stream, b"a E", b"N", b"ough")] == ["a ", "ENough"]
    say(stream, b" EN")
    assert [d.text for d in stream.flush()] == ["EN"]
    assert stream.text == "a ENough EN"


def test_the_earliest_of_several_stop_strings_wins() -> None:
    stream = TextStream(stops=["b", "abc", ""])
    say(stream, b"xabc")
    assert stream.text == "x"


def test_thinking_is_emitted_apart_and_kept_out_of_the_text() -> None:
    stream = TextStream(stops=["!"])
    deltas = stream.mark(thinking=True) + say(stream, b"hm! ")
    deltas += stream.mark(thinking=False) + say(stream, b"yes", b"!")
    assert [(d.text, d.thinking) for d in deltas] == [("hm! ", True), ("yes", False)]
    assert stream.text == "yes"


def test_logprobs_travel_with_the_text_of_their_tokens() -> None:
    stream = TextStream()
    assert stream.push(b"\xc3", TokenLogprob("?", -1.0)) == []
    (delta,) = stream.push(b"\xa9", TokenLogprob("?", -2.0))
    assert [one.logprob for one in delta.logprobs] == [-1.0, -2.0]


@given(st.text(max_size=30), st.lists(st.text(max_size=4), max_size=3), st.integers(1, 5))
def test_the_text_is_cut_at_the_first_stop_string_however_it_arrives(
    text: str, stops: list[str], size: int
) -> None:
    whole = text.encode("utf-8", "ignore").decode()
    data = whole.encode()
    stream = TextStream(stops=stops)
    deltas: list[Delta] = []
    for at in range(0, len(data), size):
        deltas += stream.push(data[at : at + size])
        if stream.stopped:
            break
    deltas += stream.flush()
    cuts = [at for stop in stops if stop and (at := whole.find(stop)) >= 0]
    assert stream.text == "".join(d.text for d in deltas)
    if cuts:
        assert stream.stopped
        # A longer stop string that began earlier may complete later than a shorter one.
        assert whole.startswith(stream.text)
        assert not any(stop and stop in stream.text for stop in stops)
    else:
        assert stream.text == whole


def test_only_the_beginning_of_a_stop_string_is_held_back() -> None:
    assert held_back("abcEN", ["END", "x"]) == 2
    assert held_back("abc", ["END"]) == 0
    assert held_back("", []) == 0
