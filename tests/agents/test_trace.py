"""Every decision leaves a line, and the lines stay plain and bounded."""

from __future__ import annotations

import json

from agents.trace import MAX_INPUT_CHARS, MAX_LINES, Trace


def test_a_line_says_rule_inputs_score_threshold_and_action() -> None:
    trace = Trace(b"t" * 16)
    trace.note("relevance", "ask a", inputs={"q": "x"}, score=0.9, threshold=0.5, step=1)
    (line,) = trace.as_dicts()
    assert line["rule"] == "relevance"
    assert line["action"] == "ask a"
    assert line["inputs"] == {"q": "x"}
    assert (line["score"], line["threshold"], line["step"]) == (0.9, 0.5, 1)
    json.dumps(line)


def test_a_long_input_is_cut() -> None:
    trace = Trace(b"t" * 16)
    trace.note("plan", "one", inputs={"question": "x" * 10_000})
    assert len(str(trace.lines[0].inputs["question"])) == MAX_INPUT_CHARS


def test_lines_that_do_not_fit_are_counted_and_told() -> None:
    trace = Trace(b"t" * 16)
    for _ in range(MAX_LINES + 3):
        trace.note("loop", "again")
    assert len(trace.lines) == MAX_LINES
    assert trace.dropped == 3
    assert trace.as_dicts()[-1]["action"] == "dropped 3 lines"
