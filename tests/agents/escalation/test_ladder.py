"""The ladder climbs from what is here to the cloud, and every rung says why."""

from __future__ import annotations

import pytest

from agents.escalation import Ladder, MeshOnly, Situation
from mesh.core.errors import ConfigError
from mesh.core.wire import Reach

NAME = "knowledge.gpt/arithmetic"


def situation(**changes: object) -> Situation:
    values: dict[str, object] = {
        "name": NAME,
        "local_fit": 0,
        "remote_fit": 0,
        "time_left_s": 10.0,
        **changes,
    }
    return Situation(**values)  # type: ignore[arg-type]


def taken(now: Situation) -> str:
    last = Ladder().climb(now)[-1]
    return f"{last.action} {last.rung}"


def test_the_own_model_comes_before_a_peer_when_the_policy_chose_it() -> None:
    assert taken(situation(local_fit=1, remote_fit=2, chose_me=True)) == "take own_model"


def test_a_peer_is_taken_when_the_policy_puts_it_first() -> None:
    assert taken(situation(local_fit=1, remote_fit=2)) == "take expert"


def test_after_a_failed_attempt_another_peer_is_the_rung() -> None:
    assert taken(situation(remote_fit=1, attempts=1, last="a: lost")) == "take another_peer"


def test_with_nobody_left_it_stops_and_the_cloud_rung_says_why() -> None:
    rungs = {rung.rung: rung for rung in Ladder().climb(situation(reach=Reach.CLOUD))}
    assert rungs["none"].action == "stop"
    assert "no node" in rungs["cloud"].why


def test_a_task_that_may_not_leave_the_mesh_never_reaches_the_cloud() -> None:
    rungs = {rung.rung: rung for rung in Ladder().climb(situation(cloud_fit=1))}
    assert rungs["cloud"].action == "skip"
    assert "may not leave the mesh" in rungs["cloud"].why


def test_spent_attempts_no_time_and_a_hopeless_model_end_the_mesh_rungs() -> None:
    for change in ({"attempts": 2}, {"time_left_s": 0.0}, {"hopeless": True}):
        rungs = Ladder().climb(situation(remote_fit=3, **change))
        assert rungs[-1].action == "stop"


def test_the_last_reason_is_the_reason_to_stop() -> None:
    assert Ladder().climb(situation(attempts=2, last="a: crashed"))[-1].why == "a: crashed"


CLOUDY = {"reach": Reach.CLOUD, "cloud_fit": 1}
CASCADE = {"thresholds": [0.8, 0.6], "gains": [0.0, -0.1, 0.4, 0.1], "budget": 1, "questions": 99}


def test_an_idle_mesh_that_fits_never_asks_the_cloud() -> None:
    assert taken(situation(remote_fit=1, **CLOUDY)) == "take expert"
    assert taken(situation(local_fit=1, chose_me=True, **CLOUDY)) == "take own_model"


def test_full_nodes_lead_to_the_cloud_after_one_redirect() -> None:
    full = {"remote_fit": 3, "attempts_allowed": 5, "last": "a: full", **CLOUDY}
    assert taken(situation(attempts=1, rejections=1, **full)) == "take another_peer"
    assert taken(situation(attempts=2, rejections=2, **full)) == "take cloud"


def test_full_nodes_are_asked_on_when_no_cloud_is_open() -> None:
    full = {"remote_fit": 3, "attempts": 2, "attempts_allowed": 5, "rejections": 2}
    assert taken(situation(**full)) == "take another_peer"
    assert taken(situation(reach=Reach.CLOUD, **full)) == "take another_peer"


def test_nobody_who_fits_leads_to_the_cloud() -> None:
    rung = Ladder().climb(situation(**CLOUDY))[-1]
    assert (rung.rung, rung.action) == ("cloud", "take")
    assert "nobody in the mesh" in rung.why


def test_peers_that_would_be_late_lead_to_the_cloud() -> None:
    late = {"remote_fit": 2, "predicted_s": 30.0, "time_left_s": 10.0}
    assert taken(situation(**late, **CLOUDY)) == "take cloud"
    assert taken(situation(**late)) == "take expert"


def test_an_unsure_answer_goes_to_the_cloud_and_a_hopeless_one_does_not() -> None:
    ladder = Ladder(cascade=CASCADE)
    unsure = {"attempts": 2, "last": "a: unsure", **CLOUDY}
    rung = ladder.climb(situation(confidence=0.6, **unsure))[-1]
    assert (rung.rung, rung.action, rung.score) == ("cloud", "take", 0.4)
    rungs = {r.rung: r for r in ladder.climb(situation(confidence=0.1, **unsure))}
    assert rungs["none"].action == "stop"
    assert "hopeless" in rungs["cloud"].why


def test_the_fitted_thresholds_hold_only_where_the_cloud_may_be_asked() -> None:
    ladder = Ladder(cascade=CASCADE)
    assert ladder.floor(0.3, Reach.CLOUD, 0) == 0.8
    assert ladder.floor(0.3, Reach.CLOUD, 5) == 0.6
    assert ladder.floor(0.3, Reach.MESH, 0) == 0.3
    assert Ladder().floor(0.3, Reach.CLOUD, 0) == 0.3


def test_a_cloud_that_was_asked_in_vain_says_why() -> None:
    rungs = {
        r.rung: r
        for r in Ladder().climb(
            situation(reach=Reach.CLOUD, cloud_why="the budget has no room", attempts=2)
        )
    }
    assert rungs["cloud"].why == "the budget has no room"
    assert rungs["none"].action == "stop"


@pytest.mark.parametrize(
    "cascade", [{}, {"thresholds": "x"}, {**CASCADE, "gains": []}, {**CASCADE, "more": 1}]
)
def test_what_is_no_cascade_is_refused(cascade: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Ladder(cascade=cascade)


def test_mesh_only_does_not_know_of_a_cloud() -> None:
    assert all(rung.rung != "cloud" for rung in MeshOnly().climb(situation()))
    assert MeshOnly().climb(situation(**CLOUDY))[-1].action == "stop"
