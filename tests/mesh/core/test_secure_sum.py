"""Secure sums: exact with a third gone, and nothing given away to who breaks the rules."""

from __future__ import annotations

import contextlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.clock import Now
from mesh.core.errors import WireError
from mesh.core.secure_sum import SumLimits
from mesh.core.sum_coordinator import SumCoordinator
from mesh.core.sum_masking import combine, derive, pad, split
from mesh.core.sum_messages import (
    MAX_BODY_BYTES,
    MAX_NODES,
    Confirm,
    Confirmed,
    Keys,
    Mask,
    Masked,
    Open,
    Reveal,
    Revealed,
    Sealed,
    ShareOut,
    SumFailed,
    SumPlan,
    SumRefused,
    check_plan,
    decode_answer,
    decode_question,
    encode,
    threshold_for,
)
from tests.mesh.core.sums import ASKER, NOW, Group


def values(group: Group, columns: int, seed: int = 3) -> dict[bytes, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {node: rng.normal(0, 50, columns) for node in group.nodes}


def exact(plan: SumPlan, rows: dict[bytes, np.ndarray], nodes: list[bytes]) -> np.ndarray:
    """The sum of the rounded values, in whole numbers."""
    scale = 2**plan.fraction_bits
    return sum(np.rint(rows[n] * scale).astype(np.int64) for n in nodes) / scale


# -- what comes out ---------------------------------------------------------------------------


@settings(max_examples=25)
@given(count=st.integers(3, 9), seed=st.integers(0, 2**32), data=st.data())
def test_the_sum_is_exact_whoever_up_to_a_third_drops_out_and_whenever(
    count: int, seed: int, data: st.DataObject
) -> None:
    group = Group(count, seed)
    plan = group.plan(columns=5)
    spare = count - plan.threshold
    gone = data.draw(st.lists(st.sampled_from(group.nodes), max_size=spare, unique=True))
    drops = {node: data.draw(st.integers(0, 4)) for node in gone}
    rows = values(group, 5, seed)
    result = group.run(plan, rows, drops)
    # Who falls silent after its masked input (questions 0 to 2) is still in the sum.
    inside = [node for node in group.nodes if drops.get(node, 9) > 2]
    assert result.inputs == len(inside)
    assert set(result.dropped) == set(group.nodes) - set(inside)
    assert np.array_equal(result.sums, exact(plan, rows, inside))


def test_a_third_may_drop_and_one_more_leaves_nothing() -> None:
    group = Group(9)
    rows = values(group, 4)
    gone = dict.fromkeys(group.nodes[:3], 2)
    assert group.run(group.plan(columns=4), rows, gone).inputs == 6
    group = Group(9)
    with pytest.raises(SumFailed, match="nothing comes out"):
        group.run(group.plan(columns=4), rows, dict.fromkeys(group.nodes[:4], 2))


def test_a_coordinator_that_stops_short_has_no_result() -> None:
    group = Group(4)
    rows = values(group, 1)
    coordinator = group.coordinator(group.plan())
    for _ in range(4):
        group.step(coordinator, rows)
    with pytest.raises(SumFailed, match="not over"):
        coordinator.result()


@pytest.mark.parametrize(("nodes", "threshold"), [(3, 3), (4, 3), (5, 4), (9, 6), (16, 11)])
def test_the_threshold_lets_a_third_go_and_keeps_three(nodes: int, threshold: int) -> None:
    assert threshold_for(nodes) == threshold


@given(st.integers(4, MAX_NODES))
def test_no_two_sets_of_survivors_can_both_be_confirmed(nodes: int) -> None:
    # Fewer than a third side with the coordinator and answer twice; honest members do so once.
    liars = (nodes - 1) // 3
    assert 2 * threshold_for(nodes) > nodes + liars


def test_means_variances_and_histograms_come_out_of_sums() -> None:
    group = Group(5)
    rng = np.random.default_rng(5)
    rows = {node: rng.normal(20, 5, (n + 1, 2)) for n, node in enumerate(group.nodes)}
    together = np.concatenate(list(rows.values()))
    mean = group.run(group.plan(kind="mean", columns=2), rows)
    assert mean.rows == 15
    assert mean.means == pytest.approx(together.mean(axis=0), abs=1e-5)
    group = Group(5, seed=2)
    rows = dict(zip(group.nodes, rows.values(), strict=True))
    result = group.run(group.plan(kind="variance", columns=2), rows)
    assert result.variances == pytest.approx(together.var(axis=0), abs=1e-3)
    group = Group(5, seed=3)
    first = {node: row[:, :1] for node, row in zip(group.nodes, rows.values(), strict=True)}
    edges = (10.0, 20.0, 30.0)
    counts = group.run(group.plan(kind="histogram", edges=edges), first).counts
    bins = np.digitize(together[:, 0], edges)
    assert counts == tuple(np.bincount(bins, minlength=4).astype(float))
    assert sum(counts) == 15


def test_a_node_without_rows_takes_part_with_zeros() -> None:
    group = Group(3)
    rows = {node: np.zeros((0, 1)) for node in group.nodes} | {group.nodes[0]: [[4.0], [6.0]]}
    assert group.run(group.plan(kind="mean"), rows).means == (5.0,)
    group = Group(3)
    nobody = dict.fromkeys(group.nodes, np.zeros((0, 1)))
    assert group.run(group.plan(kind="mean"), nobody).means == ()


@pytest.mark.parametrize(
    ("data", "problem"),
    [([1.0, 2.0], "columns"), ([np.nan], "finite"), ([np.inf], "finite"), ([2e6], "bound")],
)
def test_data_that_does_not_fit_the_plan_is_refused_not_clipped(
    data: list[float], problem: str
) -> None:
    group = Group(3)
    with pytest.raises(SumRefused, match=problem):
        group.run(group.plan(), dict.fromkeys(group.nodes, data))


def test_noise_has_the_width_that_the_plan_asks_for() -> None:
    group = Group(4)
    plan = group.plan(columns=2000, noise_std=3.0)
    sums = np.array(group.run(plan, dict.fromkeys(group.nodes, np.zeros(2000))).sums)
    # Enough noise for the threshold; four nodes instead of three add a little more.
    assert sums.std() == pytest.approx(3.0 * np.sqrt(4 / 3), rel=0.1)
    assert abs(sums.mean()) < 0.4
    group = Group(4, seed=9)
    again = group.run(
        group.plan(columns=2000, noise_std=3.0), {n: np.zeros(2000) for n in group.nodes}
    )
    assert not np.array_equal(sums, again.sums)


# -- what is hidden ---------------------------------------------------------------------------


def test_the_same_input_never_looks_the_same_and_looks_like_chance() -> None:
    seen = []
    for seed in range(2):
        group = Group(4, seed)
        coordinator = group.coordinator(group.plan(columns=4096))
        rows = dict.fromkeys(group.nodes, np.zeros(4096))
        for _ in range(2):
            group.step(coordinator, rows)
        for node, question in coordinator.questions().items():
            answer = group.answer(node, question, rows[node], coordinator.plan)
            assert isinstance(answer, Masked)
            seen.append(np.frombuffer(answer.cells, np.uint8))
    for bytes_of_one in seen:
        assert bytes_of_one.mean() == pytest.approx(127.5, abs=2)
        assert np.bincount(bytes_of_one, minlength=256).min() > 60
    assert len({cells.tobytes() for cells in seen}) == len(seen)


def test_one_share_less_than_the_threshold_says_nothing() -> None:
    # The library once shared with a threshold one too low: this keeps it from coming back.
    seed = bytes(range(16))
    for threshold in (2, 3, 5):
        shares = list(enumerate(split(seed, 5, threshold)))
        assert combine(shares[-threshold:], threshold) == seed
        assert combine(shares[: threshold - 1], threshold) is None
        assert combine(shares[: threshold - 1], threshold - 1) != seed
        assert all(
            int.from_bytes(share, "little") != int.from_bytes(seed, "little") for _, share in shares
        )


@given(st.binary(min_size=16, max_size=16), st.integers(2, 12), st.data())
@settings(max_examples=20)
def test_any_threshold_of_shares_gives_the_seed_back(
    seed: bytes, nodes: int, data: st.DataObject
) -> None:
    threshold = data.draw(st.integers(2, nodes))
    shares = list(enumerate(split(seed, nodes, threshold)))
    chosen = data.draw(st.permutations(shares))[:threshold]
    assert combine(chosen, threshold) == seed


# -- a coordinator that lies ------------------------------------------------------------------


def masked(group: Group, rows: dict[bytes, np.ndarray], **fields: object) -> SumCoordinator:
    """A round in which everybody has sent a masked input."""
    coordinator = group.coordinator(group.plan(**fields))
    for _ in range(3):
        group.step(coordinator, rows)
    return coordinator


def test_nobody_opens_both_shares_of_a_node() -> None:
    group = Group(6)
    rows = values(group, 1)
    plan = group.plan()
    coordinator = group.coordinator(plan)
    for stage in range(4):
        group.step(coordinator, rows, frozenset(group.nodes[:1]) if stage >= 2 else frozenset())
    for node, question in coordinator.questions().items():
        answer = group.answer(node, question)
        assert isinstance(answer, Revealed)
        places = [place for place, _ in answer.shares]
        assert len(places) == len(set(places)) == 6


def test_a_coordinator_cannot_ask_for_the_other_shares_after_the_first() -> None:
    group = Group(6)
    coordinator = masked(group, values(group, 1))
    group.step(coordinator, {})
    reveals = coordinator.questions()
    for node, reveal in reveals.items():
        group.answer(node, reveal)
    everybody = tuple(range(6))
    for node in group.nodes:
        for question in (
            reveals[node],
            Confirm(coordinator.plan.round, everybody[1:]),
            Open(coordinator.plan),
        ):
            with pytest.raises(SumRefused):
                group.answer(node, question)


def test_a_node_confirms_one_set_of_survivors_only() -> None:
    group = Group(6)
    coordinator = masked(group, values(group, 1))
    node = group.nodes[5]
    group.answer(node, Confirm(coordinator.plan.round, (0, 1, 2, 3, 4, 5)))
    with pytest.raises(SumRefused, match="out of turn"):
        group.answer(node, Confirm(coordinator.plan.round, (1, 2, 3, 4, 5)))
    # Having been lied to, it opens nothing at all.
    with pytest.raises(SumRefused, match="no such round"):
        group.answer(node, Reveal(coordinator.plan.round, ()))


def test_a_node_falsely_called_dropped_is_not_unmasked() -> None:
    """The coordinator has the victim's masked input and tells the others that it dropped out."""
    group = Group(6)
    rows = values(group, 1)
    coordinator = masked(group, rows)
    plan, round_id = coordinator.plan, coordinator.plan.round
    victim, others = 0, (1, 2, 3, 4, 5)
    with pytest.raises(SumRefused, match="calls this node dropped"):
        group.answer(group.nodes[victim], Confirm(round_id, others))
    confirmed = {p: group.answer(group.nodes[p], Confirm(round_id, others)) for p in others}
    signatures = tuple((p, a.signature) for p, a in confirmed.items() if isinstance(a, Confirmed))
    opened = []
    for place in others:
        answer = group.answer(group.nodes[place], Reveal(round_id, signatures))
        assert isinstance(answer, Revealed)
        opened += [(place, share) for p, share in answer.shares if p == victim]
    # What they open of the victim is its pairwise seed; its own pad stays, and so the input.
    seed = combine(opened, plan.threshold)
    secret = group.members[group.nodes[victim]]
    assert secret.open_rounds == 0
    assert seed is not None
    own = np.frombuffer(coordinator._came[2][victim].cells, "<u8")  # type: ignore[union-attr]
    candidate = own - pad(derive(seed, "own", plan.digest()), plan.cells)
    assert (
        float(candidate.view(np.int64)[0]) / 2**plan.fraction_bits != rows[group.nodes[victim]][0]
    )


def test_the_views_of_two_halves_cannot_both_reach_the_threshold() -> None:
    group = Group(6)
    coordinator = masked(group, values(group, 1))
    round_id = coordinator.plan.round
    all_six, five = tuple(range(6)), (1, 2, 3, 4, 5)
    first = {p: group.answer(group.nodes[p], Confirm(round_id, all_six)) for p in (0, 1, 2)}
    second = {p: group.answer(group.nodes[p], Confirm(round_id, five)) for p in (3, 4, 5)}
    mixed = tuple((p, a.signature) for p, a in (first | second).items() if isinstance(a, Confirmed))
    with pytest.raises(SumRefused, match="did not sign these survivors"):
        group.answer(group.nodes[0], Reveal(round_id, mixed))
    few = tuple((p, a.signature) for p, a in second.items() if isinstance(a, Confirmed))
    with pytest.raises(SumRefused, match="are needed"):
        group.answer(group.nodes[3], Reveal(round_id, few))


@pytest.mark.parametrize(
    "survivors", [(0, 1), (0, 1, 2, 3, 3), (0, 1, 2, 3, 50), (1, 2, 3, 4)], ids=str
)
def test_survivors_that_cannot_be_are_refused(survivors: tuple[int, ...]) -> None:
    group = Group(5)
    coordinator = masked(group, values(group, 1))
    with pytest.raises(SumRefused):
        group.answer(group.nodes[0], Confirm(coordinator.plan.round, survivors))


def test_too_few_with_keys_or_shares_get_no_masked_input() -> None:
    group = Group(6)
    rows = values(group, 1)
    coordinator = group.coordinator(group.plan())
    group.step(coordinator, rows)
    share = coordinator.questions()[group.nodes[0]]
    assert isinstance(share, ShareOut)
    with pytest.raises(SumRefused, match="3 nodes are left, 4 are needed"):
        group.answer(group.nodes[0], ShareOut(share.round, share.keys[:2]))
    group = Group(6)
    coordinator = group.coordinator(group.plan())
    for _ in range(2):
        group.step(coordinator, rows := values(group, 1))
    mask = coordinator.questions()[group.nodes[0]]
    assert isinstance(mask, Mask)
    with pytest.raises(SumRefused, match="3 nodes are left"):
        group.answer(
            group.nodes[0], Mask(mask.round, mask.boxes[:2]), rows[group.nodes[0]], coordinator.plan
        )


def test_keys_put_in_by_the_coordinator_are_refused() -> None:
    for change in ("mask_key", "seal_key", "commitment", "index"):
        group = Group(5)
        coordinator = group.coordinator(group.plan())
        group.step(coordinator, dict.fromkeys(group.nodes))
        share = coordinator.questions()[group.nodes[0]]
        assert isinstance(share, ShareOut)
        victim = share.keys[1]
        forged = {
            "mask_key": {"mask_key": b"\1" * 32},
            "seal_key": {"seal_key": b"\1" * 32},
            "commitment": {"commitment": b"\1" * 16},
            "index": {"index": 7},
        }[change]
        keys = (share.keys[0], msgspec.structs.replace(victim, **forged), *share.keys[2:])
        with pytest.raises(SumRefused, match="over at this node"):
            group.answer(group.nodes[0], ShareOut(share.round, keys))
        assert group.members[group.nodes[0]].open_rounds == 0


def test_a_share_sealed_for_another_or_garbled_is_counted_and_not_needed() -> None:
    group = Group(5)
    rows = values(group, 3)
    coordinator = group.coordinator(group.plan(columns=3))
    for _ in range(2):
        group.step(coordinator, rows)
    for node, question in coordinator.questions().items():
        assert isinstance(question, Mask)
        boxes = question.boxes
        if node == group.nodes[0]:
            boxes = ((boxes[0][0], b"\0" * len(boxes[0][1])), *boxes[1:])
        answer = group.answer(node, Mask(question.round, boxes), rows[node], coordinator.plan)
        coordinator.take(node, answer)
    assert group.members[group.nodes[0]].counters["bad_share"] == 1
    coordinator.advance()
    for _ in range(2):
        group.step(coordinator, rows)
    expected = exact(coordinator.plan, rows, list(group.nodes))
    assert np.array_equal(coordinator.result().sums, expected)


def test_another_asker_cannot_take_over_a_round() -> None:
    group = Group(4)
    coordinator = masked(group, values(group, 1))
    question = coordinator.questions()[group.nodes[0]]
    with pytest.raises(SumRefused, match="for this coordinator"):
        group.members[group.nodes[0]].answer(question, "somebody else", NOW)
    group.answer(group.nodes[0], question)  # and has not broken it


# -- rounds -----------------------------------------------------------------------------------


def test_a_round_is_taken_once() -> None:
    group = Group(3, limits=SumLimits(rest_s=0.0))
    plan = group.plan()
    rows = values(group, 1)
    group.run(plan, rows)
    for node in group.nodes:
        with pytest.raises(SumRefused, match="asked before"):
            group.answer(node, Open(plan))
    later = Now(NOW.mono + 700, NOW.wall + 700)  # forgotten by then, and by then too old
    with pytest.raises(SumRefused, match="another time"):
        group.members[group.nodes[0]].answer(Open(plan), ASKER, later)


def test_data_rests_between_two_sums_so_that_differences_cost_time() -> None:
    group = Group(3, limits=SumLimits(rest_s=60.0))
    rows = values(group, 1)
    group.run(group.plan(), rows)
    with pytest.raises(SumRefused, match="ask in 60 s"):
        group.answer(group.nodes[0], Open(group.plan()))
    later = Now(NOW.mono + 61, NOW.wall + 61)
    answer = group.members[group.nodes[0]].answer(Open(group.plan()), ASKER, later)
    assert isinstance(answer, Keys)


def test_two_coordinators_at_once_do_not_cheat_the_rest() -> None:
    group = Group(3)
    rows = values(group, 1)
    first, second = group.coordinator(group.plan()), group.coordinator(group.plan())
    for coordinator in (first, second):
        group.asker = str(id(coordinator))
        for _ in range(2):
            group.step(coordinator, rows)
    group.asker = str(id(first))
    group.step(first, rows)
    group.asker = str(id(second))
    with pytest.raises(SumRefused, match="just now"):
        group.step(second, rows)


def test_a_coordinator_that_begins_anew_has_given_its_last_round_up() -> None:
    group = Group(3)
    rows = values(group, 1)
    given_up, again = group.coordinator(group.plan()), group.coordinator(group.plan())
    group.step(given_up, rows)
    group.step(again, rows)
    member = group.members[group.nodes[0]]
    assert (member.open_rounds, member.counters["superseded"]) == (1, 1)
    with pytest.raises(SumRefused, match="no such round"):
        group.step(given_up, rows)
    for _ in range(4):
        group.step(again, rows)
    assert again.result().inputs == 3


def test_open_rounds_are_bounded_and_end_by_themselves() -> None:
    member = (group := Group(3, limits=SumLimits(open_rounds=2))).members[group.nodes[0]]
    for asker in ("a", "b"):
        member.answer(Open(group.plan()), asker, NOW)
    with pytest.raises(SumRefused, match="too many sums"):
        member.answer(Open(group.plan()), "c", NOW)
    later = Now(NOW.mono + 121, NOW.wall + 121)
    assert member.answer(Open(group.plan()), "c", later)
    assert member.open_rounds == 1


def test_remembered_rounds_are_bounded() -> None:
    group = Group(3, limits=SumLimits(remembered=2))
    member = group.members[group.nodes[0]]
    for _ in range(2):
        plan = group.plan()
        member.answer(Open(plan), ASKER, NOW)
        member.forget(plan.round)
    with pytest.raises(SumRefused, match="too many sums"):
        member.answer(Open(group.plan()), ASKER, NOW)


# -- plans ------------------------------------------------------------------------------------


def test_a_roster_of_strangers_is_refused() -> None:
    group, outside = Group(4), Group(4, seed=8, mesh=b"other")
    plan = group.plan(nodes=tuple(sorted((*group.nodes[:3], outside.nodes[0]))))
    node = group.nodes[0]
    with pytest.raises(SumRefused, match="no certificate here vouches"):
        group.answer(node, Open(plan))
    with pytest.raises(SumRefused, match="no member"):
        group.coordinator(plan)
    with pytest.raises(SumRefused, match="not in the roster"):
        group.answer(node, Open(group.plan(nodes=group.nodes[1:])))


def test_a_member_may_ask_for_more_company_than_the_plan() -> None:
    group = Group(4, limits=SumLimits(min_inputs=4))
    with pytest.raises(SumRefused, match="needs 4 inputs here, this one allows 3"):
        group.answer(group.nodes[0], Open(group.plan()))
    assert group.answer(group.nodes[0], Open(group.plan(threshold=4)))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"nodes": (b"a" * 16, b"b" * 16)}, "3 to 100 nodes"),
        ({"nodes": (b"a" * 16, b"a" * 16, b"b" * 16)}, "once, in ascending order"),
        ({"nodes": (b"b" * 16, b"a" * 16, b"c" * 16)}, "once, in ascending order"),
        ({"threshold": 2}, "threshold for 4 nodes is 3 to 4"),
        ({"threshold": 5}, "threshold"),
        ({"kind": "median"}, "no kind of sum"),
        ({"kind": "histogram"}, "needs edges"),
        ({"edges": (1.0, 2.0)}, "needs edges"),
        ({"kind": "histogram", "edges": (2.0, 1.0)}, "ascend"),
        ({"columns": 0}, "needs a column"),
        ({"columns": 20_000}, "at most 16384 cells"),
        ({"kind": "variance", "columns": 10_000}, "at most 16384 cells"),
        ({"bound": float("nan")}, "finite"),
        ({"bound": -1.0}, "finite"),
        ({"bound": 1e15}, "do not fit 64-bit"),
        ({"noise_std": 1e14}, "do not fit 64-bit"),
        ({"noise_std": 1e6}, "noise is too wide"),
        ({"fraction_bits": 41}, "fraction_bits"),
        ({"issued": float("inf")}, "finite"),
        ({"name": "Data.GPT/x"}, "cannot be planned"),
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_summed_says_why(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(SumRefused, match=problem):
        check_plan(Group(4).plan(**fields))


# -- what members say -------------------------------------------------------------------------


def test_a_forged_sender_is_refused_at_every_question() -> None:
    group = Group(5)
    rows = values(group, 1)
    coordinator = group.coordinator(group.plan())
    for stage in range(5):
        questions = coordinator.questions()
        answers = {
            node: group.answer(node, question, rows[node], coordinator.plan)
            for node, question in questions.items()
        }
        one, two = group.nodes[0], group.nodes[1]
        if stage != 3:  # all who confirm sign the same bytes, each with its own key
            with pytest.raises(SumRefused):
                coordinator.take(one, answers[two])
        garbled = msgspec.structs.replace(answers[one], signature=b"\0" * 64)
        with pytest.raises(SumRefused, match="not signed"):
            coordinator.take(one, garbled)
        with pytest.raises(SumRefused, match="not asked"):
            coordinator.take(b"x" * 16, answers[one])
        for node, answer in answers.items():
            coordinator.take(node, answer)
        with pytest.raises(SumRefused, match="answered before"):
            coordinator.take(one, answers[one])
        coordinator.advance()
    assert coordinator.counters["forged"] >= 5
    assert np.array_equal(
        coordinator.result().sums, exact(coordinator.plan, rows, list(group.nodes))
    )


def test_what_was_signed_in_another_round_or_mesh_is_refused() -> None:
    group, other = Group(4), Group(4, mesh=b"other")
    old = group.answer(group.nodes[0], Open(group.plan()))
    coordinator = group.coordinator(group.plan())
    with pytest.raises(SumRefused, match="not signed"):
        coordinator.take(group.nodes[0], old)
    # The same keys in another mesh: the signing context differs.
    assert other.nodes == group.nodes
    plan = group.plan()
    foreign = other.answer(other.nodes[0], Open(plan))
    with pytest.raises(SumRefused, match="not signed"):
        group.coordinator(plan).take(group.nodes[0], foreign)


def test_a_wrong_share_is_survived_where_a_right_one_is_to_spare() -> None:
    group = Group(6)
    rows = values(group, 2)
    coordinator = masked(group, rows, columns=2)
    group.step(coordinator, rows)
    liar = group.nodes[1]
    for node, question in coordinator.questions().items():
        answer = group.answer(node, question)
        assert isinstance(answer, Revealed)
        if node == liar:
            answer = _lying(group, coordinator.digest, node, answer)
        coordinator.take(node, answer)
    coordinator.advance()
    assert np.array_equal(
        coordinator.result().sums, exact(coordinator.plan, rows, list(group.nodes))
    )
    assert coordinator.counters["bad_share"] > 0


def test_a_wrong_share_never_becomes_a_wrong_sum() -> None:
    group = Group(3)  # every share is needed: there is no other choice
    rows = values(group, 1)
    coordinator = masked(group, rows)
    group.step(coordinator, rows)
    for node, question in coordinator.questions().items():
        answer = group.answer(node, question)
        assert isinstance(answer, Revealed)
        coordinator.take(node, _lying(group, coordinator.digest, node, answer))
    coordinator.advance()
    with pytest.raises(SumFailed, match="do not fit"):
        coordinator.result()


def _lying(group: Group, digest: bytes, node: bytes, answer: Revealed) -> Revealed:
    from mesh.core.sum_messages import Purpose, RevealedBody

    shares = tuple((p, bytes([share[0] ^ 1]) + share[1:]) for p, share in answer.shares)
    body = RevealedBody(digest, node, shares)
    signature = group.identities[node].sign(Purpose.REVEALED, body).signature
    return Revealed(shares, signature)


def test_shares_for_nobody_or_input_of_another_length_drop_their_sender() -> None:
    group = Group(4)
    rows = values(group, 1)
    coordinator = group.coordinator(group.plan())
    group.step(coordinator, rows)
    questions = coordinator.questions()
    node = group.nodes[0]
    sealed = group.answer(node, questions[node])
    assert isinstance(sealed, Sealed)
    with pytest.raises(SumRefused, match="other nodes"):
        coordinator.take(node, Sealed(sealed.boxes[1:], sealed.signature))
    with pytest.raises(SumRefused, match="not an answer"):
        coordinator.take(node, Confirmed(b"\0" * 64))
    coordinator.take(node, sealed)
    for other in group.nodes[1:]:
        coordinator.take(other, group.answer(other, questions[other]))
    coordinator.advance()
    answer = group.answer(node, coordinator.questions()[node], rows[node], coordinator.plan)
    assert isinstance(answer, Masked)
    with pytest.raises(SumRefused, match="another length"):
        coordinator.take(node, Masked(answer.cells + b"\0" * 8, answer.signature))


# -- bytes ------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
def test_bytes_from_outside_are_a_message_or_an_error_of_ours(body: bytes) -> None:
    for decode in (decode_question, decode_answer):
        with contextlib.suppress(WireError):
            decode(body)


def test_bodies_are_capped_before_they_are_decoded() -> None:
    with pytest.raises(WireError, match="at most"):
        decode_answer(b"\0" * (MAX_BODY_BYTES + 1))
    too_many = encode(Confirm(b"r" * 16, tuple(range(MAX_NODES))))
    assert decode_question(too_many) == Confirm(b"r" * 16, tuple(range(MAX_NODES)))
    with pytest.raises(WireError):
        decode_question(encode(Confirm(b"r" * 16, (MAX_NODES,))))
    with pytest.raises(WireError):
        decode_question(encode(Confirm(b"short", (1,))))
    with pytest.raises(WireError):
        decode_answer(encode(Masked(bytes(16_385 * 8), b"\0" * 64)))


@given(st.data())
@settings(max_examples=50)
def test_a_mutated_answer_is_refused_or_means_the_same(data: st.DataObject) -> None:
    group = Group(3)
    plan = group.plan()
    coordinator = group.coordinator(plan)
    node = group.nodes[0]
    body = bytearray(encode(group.answer(node, Open(plan))))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    try:
        coordinator.take(node, decode_answer(bytes(body)))
    except (WireError, SumRefused):
        return
    raise AssertionError("a changed answer was taken")


@given(st.data())
@settings(max_examples=40)
def test_a_mutated_question_gets_an_answer_or_a_refusal_and_nothing_else(
    data: st.DataObject,
) -> None:
    group = Group(3)
    rows = values(group, 1)
    coordinator = group.coordinator(group.plan())
    for _ in range(data.draw(st.integers(0, 4))):
        group.step(coordinator, rows)
    node = group.nodes[0]
    body = bytearray(encode(coordinator.questions()[node]))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError, SumRefused):
        question = decode_question(bytes(body))
        group.answer(node, question, rows[node], coordinator.plan)
    assert group.members[node].open_rounds <= 2
