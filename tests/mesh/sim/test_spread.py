"""How news spreads: rounds, and the curve that people see."""

from __future__ import annotations

import math

from mesh.sim.network import Link
from mesh.sim.rounds import Beat
from mesh.sim.spread import spread


def test_without_loss_news_takes_as_many_rounds_as_the_mesh_has_digits_to_the_base_four() -> None:
    beat = Beat(seed=1, nodes=60)
    assert max(beat.rounds() for _ in range(10)) <= 4


def test_with_a_quarter_lost_it_takes_a_few_rounds_more() -> None:
    beat = Beat(seed=2, nodes=32, loss=0.25)
    assert max(beat.rounds() for _ in range(10)) <= 9


def test_the_curve_rises_to_everybody_and_repeats_from_its_seed() -> None:
    link = Link(loss=0.2, datagram=True)
    curve = spread(3, 24, link)
    assert curve.known[0] == 1
    assert curve.known[-1] == 24
    assert curve.known == sorted(curve.known)
    assert 0 < curve.reached_s(0.5) <= curve.reached_s(1.0) < math.inf
    assert curve.share_at(curve.times_s[-1]) == 1.0
    assert spread(3, 24, link) == curve


def test_what_is_being_done_is_told() -> None:
    told: list[str] = []
    spread(4, 8, Link(), told=lambda what, _: told.append(what))
    assert list(dict.fromkeys(told)) == ["building", "settling", "spreading"]
