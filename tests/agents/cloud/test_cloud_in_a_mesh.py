"""One node with a key serves the mesh: masked, paid, audited, and within the budget."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.agent import Agent
from agents.budget.store import FILE
from agents.budget.view import BudgetView, view
from agents.cloud.desk import check
from agents.cloud.lending import LEASE
from agents.config import make_config
from agents.orchestrator.orchestrator import AskOptions
from agents.port import Task
from agents.views import AnswerView
from benchmarks._stand_in import KEY, Fault, StandIn
from mesh.core.access import CLOUD
from mesh.core.errors import ConfigError, NoSuchName, Rejected
from mesh.core.wire import Op, Reach
from mesh.net.audit import audit_folder, last_entries
from tests.agents.cloud.house import House, house, provider
from tests.mesh.net.harness import until

pytestmark = pytest.mark.timeout(120)
QUESTION = "Tell me about the tides of the sea."


def keyed(stand_in: StandIn, folder: Path, **more: Any) -> dict[str, Any]:
    return {"provider": [provider(stand_in, folder)], "budget": {"per_day": 1.0}, **more}


async def ask(agent: Agent, question: str = QUESTION, **options: object) -> AnswerView:
    values: dict[str, object] = {"reach": Reach.CLOUD, "timeout_s": 30.0, **options}
    return await agent.orchestrator.answer(question, AskOptions(**values))  # type: ignore[arg-type]


async def sees_cloud(agent: Agent) -> None:
    await until(
        lambda: any(offer.served.name == CLOUD for offer in agent.port.offers()),
        "the cloud is seen",
    )


async def two(made: House, stand_in: StandIn, **cloud: Any) -> tuple[Agent, Agent]:
    """The node with the key, and one without."""
    holder = await made.agent("holder", cloud=keyed(stand_in, made.folder, **cloud))
    asker = await made.agent("asker", holder, groups=("kids",))
    await sees_cloud(asker)
    return holder, asker


async def book(agent: Agent) -> BudgetView:
    assert agent.cloud is not None
    return await agent.cloud.purse.use(lambda store: view(store, days=1))


def audited(agent: Agent) -> list[dict[str, str]]:
    return [e.detail for e in last_entries(audit_folder(agent.config.node.state), 99, "escalation")]


def test_a_node_without_a_key_is_answered_by_way_of_one_that_has_it(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            holder, asker = await two(made, stand_in)
            found = await ask(asker)
            assert found.text == "The cloud answers so."
            (step,) = found.steps
            assert step.node == "holder"
            assert step.cloud is not None
            assert step.cloud.provider == "acme"
            assert found.cost == step.cloud.cost > 0
            spent = next(w for w in (await book(holder)).windows if w.window == "day")
            assert spent.spent == pytest.approx(found.cost)
            assert spent.reserved == 0
            await until(lambda: audited(asker) and audited(holder), "both have audited it")
            (asked,), (served,) = audited(asker), audited(holder)
            assert (asked["role"], asked["to"], asked["outcome"]) == (
                "asked", "holder", "answered",
            )  # fmt: skip
            assert (served["role"], served["groups"], served["outcome"]) == (
                "served", "kids", "answered",
            )  # fmt: skip
            assert asked["trace"] == served["trace"] == found.trace

    asyncio.run(main())


def test_a_task_that_may_not_leave_the_mesh_is_refused_by_the_node_with_the_key(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, asker = await two(made, stand_in)
            found = await ask(asker, reach=Reach.MESH, name=CLOUD)
            assert found.degraded
            # Also where the asker's own door is broken: the callee checks the reach itself.
            offers = [o for o in asker.port.offers() if o.served.name == CLOUD]
            task = Task(trace=b"t" * 16, deadline=asker.port.now() + 10, reach=Reach.MESH)
            with pytest.raises(Rejected, match="may not leave"):
                [m async for m in asker.port._call(offers[0], b"", task, Op.QUERY)]

    asyncio.run(main())
    assert not stand_in.seen


def test_personal_data_is_masked_on_the_way_out_and_back_in_the_answer(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, asker = await two(made, stand_in)
            await ask(asker, "My name is Anna Berger, write to anna.berger@example.org please.")
            await until(lambda: audited(asker), "it is audited")
            [line] = audited(asker)
            assert "PERSON 1" in line["masked"]

    asyncio.run(main())
    [body] = stand_in.seen
    sent = json.dumps(body)
    assert "Anna" not in sent
    assert "example.org" not in sent
    assert "<PERSON_1>" in sent


def test_what_still_looks_personal_after_masking_stays_in_the_mesh(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, asker = await two(made, stand_in)
            found = await ask(asker, "Please reach us under 0415 555 2671")
            assert found.degraded
            assert "personal data (phone)" in found.missing[0]
            assert "555" not in found.missing[0]
            await until(lambda: audited(asker), "it is audited")
            assert audited(asker)[0]["outcome"].startswith("personal_data")

    asyncio.run(main())
    assert not stand_in.seen


def test_over_the_budget_it_is_refused_with_a_time_and_nothing_leaves(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            limits = {"per_day": 1.0, "groups": {"kids": {"per_day": 0.000001}}}
            _, asker = await two(made, stand_in, budget=limits)
            for _ in range(3):
                found = await ask(asker)
                assert found.degraded
                assert found.retry_after_s > 0
                assert "budget" in found.missing[0]

    asyncio.run(main())
    assert not stand_in.seen


def test_a_cloud_that_is_down_hangs_nobody(tmp_path: Path, stand_in: StandIn) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            _, asker = await two(made, stand_in)
            stand_in.always = Fault(status=503)
            found = await asyncio.gather(*(ask(asker, timeout_s=8.0) for _ in range(6)))
            assert all(answer.degraded and answer.missing for answer in found)
            assert all(answer.retry_after_s > 0 for answer in found)
            stand_in.always = Fault(no_model=True)

    asyncio.run(main())


def test_a_rule_of_access_keeps_the_cloud_from_a_group(tmp_path: Path, stand_in: StandIn) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            rule = {"allow": False, "names": CLOUD, "groups": ["kids"], "ops": ["escalate"]}
            holder = await made.agent("holder", cloud=keyed(stand_in, tmp_path), access=[rule])
            kid = await made.agent("kid", holder, groups=("kids",))
            grown = await made.agent("grown", holder)
            await sees_cloud(kid)
            await sees_cloud(grown)
            refused = await ask(kid)
            assert refused.degraded
            assert "may not escalate" in refused.missing[0]
            assert (await ask(grown)).text == "The cloud answers so."

    asyncio.run(main())


def test_without_the_publish_right_a_key_serves_its_own_node_and_nobody_else(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            holder = await made.agent(
                "holder", cloud=keyed(stand_in, tmp_path), publish=("knowledge.gpt/**",)
            )
            assert not holder.troubles
            found = await ask(holder)
            assert found.text == "The cloud answers so."
            assert found.steps[0].node == "holder"
            assert (await ask(holder, reach=Reach.MESH)).degraded
            day = next(w for w in (await book(holder)).windows if w.window == "day")
            assert day.spent == pytest.approx(found.cost)
            before = len(stand_in.seen)

            asker = await made.agent("asker", holder)
            await until(
                lambda: asker.node.core.profile(holder.node.me.node) is not None, "they know it"
            )
            assert not [offer for offer in asker.port.offers() if offer.served.name == CLOUD]
            assert (await ask(asker)).degraded
            # Nor does it answer who calls the name without having been offered it.
            task = Task(trace=b"t" * 16, deadline=asker.port.now() + 10.0, reach=Reach.CLOUD)
            (mine,) = holder.port.resolve(CLOUD, task)
            forged = msgspec.structs.replace(mine, me=False)
            with pytest.raises(NoSuchName):
                [m async for m in asker.port._call(forged, b"", task, Op.QUERY)]
            assert len(stand_in.seen) == before

    asyncio.run(main())


def test_ones_own_rule_keeps_ones_own_key_from_being_used(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            deny = {"allow": False, "names": CLOUD, "ops": ["escalate"]}
            holder = await made.agent(
                "holder",
                cloud=keyed(stand_in, tmp_path),
                publish=("knowledge.gpt/**",),
                access=[deny],
            )
            assert (await ask(holder)).degraded

    asyncio.run(main())
    assert not stand_in.seen


def test_the_key_is_in_no_record_log_status_or_view(
    tmp_path: Path, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            holder, asker = await two(made, stand_in)
            stand_in.script += [Fault(status=500), Fault(status=401), Fault(no_model=True)]
            for _ in range(3):
                await ask(asker, timeout_s=8.0)
            shown = repr(asker.node.core.profile(holder.node.me.node))
            shown += repr(holder.node.core.profile(holder.node.me.node))
            shown += repr(holder.config) + repr(await book(holder))
            assert holder.cloud is not None
            shown += repr(holder.cloud.status()) + repr(vars(holder.cloud)) + repr(holder.troubles)
            assert KEY not in shown

    with caplog.at_level("DEBUG"):
        asyncio.run(main())
    assert KEY not in caplog.text
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name != "key":
            assert KEY.encode() not in file.read_bytes(), file


def test_a_readable_key_is_a_trouble_that_says_what_mends_it(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            cloud = keyed(stand_in, tmp_path)
            (tmp_path / "key").chmod(0o640)
            holder = await made.agent("holder", cloud=cloud)
            [trouble] = holder.troubles
            assert f"chmod 600 {tmp_path / 'key'}" in trouble
            assert KEY not in trouble

    asyncio.run(main())


# -- leases over two real nodes ---------------------------------------------------------------


def test_two_nodes_with_keys_share_one_budget_by_leases(tmp_path: Path, stand_in: StandIn) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            lender = await made.agent("lender", cloud=keyed(stand_in, tmp_path, lease_share=0.5))
            shared = keyed(stand_in, tmp_path, budget={}, lease_from="lender")
            borrower = await made.agent("borrower", lender, cloud=shared)
            await until(
                lambda: any(o.served.name == LEASE for o in borrower.port.offers()),
                "the lender is seen",
            )
            task = {"name": f"{CLOUD}@borrower"}
            found = await ask(borrower, **task)
            assert found.text == "The cloud answers so.", found.missing
            lent = next(w for w in (await book(lender)).windows if w.window == "day")
            assert lent.reserved == pytest.approx(0.5)
            [lease] = (await book(borrower)).leases
            assert lease.used == pytest.approx(found.cost)
            await made.stop(borrower)
            after = next(w for w in (await book(lender)).windows if w.window == "day")
            assert after.reserved == 0
            assert after.spent == pytest.approx(found.cost)

    asyncio.run(main())


def test_a_borrower_whose_lender_is_gone_spends_what_it_has_and_then_nothing(
    tmp_path: Path, stand_in: StandIn
) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            # Room for one call in a lease: 64 tokens out, some hundred in.
            tiny = {"per_day": 0.0012}
            lender = await made.agent("lender", cloud=keyed(stand_in, tmp_path, budget=tiny))
            shared = keyed(stand_in, tmp_path, budget={}, lease_from="lender")
            borrower = await made.agent("borrower", lender, cloud=shared)
            await until(
                lambda: any(o.served.name == LEASE for o in borrower.port.offers()),
                "the lender is seen",
            )
            first = await ask(borrower, name=f"{CLOUD}@borrower")
            assert first.text == "The cloud answers so.", first.missing
            await made.stop(lender)
            second = await ask(borrower, name=f"{CLOUD}@borrower")
            assert second.degraded
            assert second.retry_after_s > 0

    asyncio.run(main())


def test_who_may_not_offer_a_cloud_gets_no_lease(tmp_path: Path, stand_in: StandIn) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            lender = await made.agent("lender", cloud=keyed(stand_in, tmp_path))
            other = await made.agent("other", lender, publish=("knowledge.gpt/**",))
            await until(
                lambda: any(o.served.name == LEASE for o in other.port.offers()), "it is seen"
            )
            found = await ask(other, name=LEASE, reach=Reach.MESH)
            assert found.degraded
            assert "may not offer" in found.missing[0]
            lent = next(w for w in (await book(lender)).windows if w.window == "day")
            assert lent.reserved == 0

    asyncio.run(main())


# -- configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base_url": "http://cloud.example.org/v1"}, "readable for everybody"),
        ({"base_url": "ftp://127.0.0.1"}, "https://"),
    ],
)
def test_a_key_does_not_travel_in_plain_text(
    tmp_path: Path, stand_in: StandIn, change: dict[str, str], says: str
) -> None:
    raw = {
        "node": {"state": str(tmp_path)},
        "cloud": {
            "provider": [provider(stand_in, tmp_path, **change)],
            "budget": {"per_day": 1.0},
        },
    }
    with pytest.raises(ConfigError, match=says):
        check(make_config(raw, base=tmp_path).cloud)


def test_a_cloud_without_a_budget_is_refused(tmp_path: Path, stand_in: StandIn) -> None:
    raw = {
        "node": {"state": str(tmp_path)},
        "cloud": {"provider": [provider(stand_in, tmp_path)]},
    }
    with pytest.raises(ConfigError, match="no budget") as caught:
        check(make_config(raw, base=tmp_path).cloud)
    assert "per_day" in caught.value.hint


def test_the_book_lies_in_the_state_directory(tmp_path: Path, stand_in: StandIn) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            await made.agent("holder", cloud=keyed(stand_in, tmp_path))

    asyncio.run(main())
    assert (tmp_path / "holder" / FILE).exists()
