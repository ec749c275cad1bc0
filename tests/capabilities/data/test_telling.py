"""A feed that is asked tells its latest in words; figures stand where a plan finds them."""

from __future__ import annotations

from agents.orchestrator.plan import result_of
from capabilities.data.messages import Summary, Update, Value
from capabilities.data.stations import StationBook
from capabilities.data.telling import MAX_KEYS, told
from capabilities.messages import Sample

NOW = 100_000.0


def update(value: Value | None, key: str = "k", at: float = NOW) -> Update:
    return Update(epoch=1, sequence=1, key=key, version=1, at=at, value=value)


def sample(**values: float) -> Sample:
    return Sample(domain="air", type="raw", source="s", at=NOW - 7, values=values)


def stations(**values: float) -> Update:
    book = StationBook("air")
    for name, value in values.items():
        reading = Sample(
            domain="air", type="raw", source=name, at=NOW, values={"pm25_ug_m3": value}
        )
        book.add(name, name, reading)
    view = book.view("junction", NOW)
    assert view is not None
    return update(view, "")


def test_the_readings_that_a_question_names_are_told_alone() -> None:
    text = told([update(sample(pm25_ug_m3=14.0, no2_ug_m3=3.0))], "What is the PM2.5?", NOW)
    assert text == "k: pm25 (ug/m3) = 14 (7 s ago)."


def test_a_question_that_names_none_is_told_all() -> None:
    text = told([update(sample(pm25_ug_m3=14.0, no2_ug_m3=3.0))], "How is the air?", NOW)
    assert "pm25 (ug/m3) = 14" in text
    assert "no2 (ug/m3) = 3" in text


def test_the_common_value_of_stations_is_what_the_next_step_of_a_plan_gets() -> None:
    text = told([stations(a=120.0, b=121.0, c=122.0, liar=900.0)], "pm25?", NOW)
    assert result_of(text) == "121.5"  # the weighted median of four
    assert "Not counted, far from the others: liar." in text


def test_words_are_told_with_their_age_and_what_is_gone_is_not() -> None:
    words = Summary(domain="air", type="summary", source="s", at=NOW - 120, text="All is well.")
    assert told([update(words), update(None, "gone")], "?", NOW) == "All is well. (2 min ago)"
    assert told([update(None)], "?", NOW) == ""


def test_many_keys_are_cut_with_a_word() -> None:
    text = told([update(sample(v=n), f"k{n}") for n in range(MAX_KEYS + 3)], "?", NOW)
    assert text.count("v =") == MAX_KEYS
    assert text.endswith("3 more are not told here.")
