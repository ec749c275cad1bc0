"""What a node says of a name becomes an offer: its model, its languages, the age of its data."""

from __future__ import annotations

from agents.meshport import _age_s, _model
from mesh.core.records import LIVE, ModelInfo, ServedName

WALL = 1_000_000.0
SMALL, LARGE = ModelInfo(name="gossamer-small", file="small"), ModelInfo(name="large", file="l7b")


def test_a_name_finds_its_model_by_file_or_by_header() -> None:
    assert _model((SMALL, LARGE), ServedName("a.gpt/b", model="small")) is SMALL
    assert _model((SMALL, LARGE), ServedName("a.gpt/b", model="large")) is LARGE


def test_a_name_that_rests_on_no_model_is_not_given_the_only_one() -> None:
    assert _model((SMALL,), ServedName("a.gpt/b", model="documents")) is None
    assert _model((SMALL,), ServedName("a.gpt/b")) is None


def test_a_node_that_does_not_tell_files_has_its_only_model_behind_its_names() -> None:
    paced = ModelInfo(name="paced 7b")
    assert _model((paced,), ServedName("a.gpt/b", model="paced")) is paced
    assert _model((paced, SMALL), ServedName("a.gpt/b", model="paced")) is None


def test_data_is_as_old_as_its_newest_and_never_from_the_future() -> None:
    assert _age_s(WALL - 60, WALL) == 60
    assert _age_s(WALL + 60, WALL) == 0
    assert _age_s(LIVE, WALL) == 0
    assert _age_s(0.0, WALL) == -1
