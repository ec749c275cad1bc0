"""A node is drained, its models come and go: by its owner, and by whom it lets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.administering import DRAINED_FILE, Order, kept_drained, section_of
from agents.agent import Agent
from agents.config import AgentConfig, ModelSection, NodeSection
from agents.faces.client import ControlClient
from agents.library import Agent as Remote
from mesh.core.access import ADMIN, Operation, Policy, Rule, operations_on
from mesh.core.errors import AccessDenied, ConfigError, GossamerError, Rejected
from mesh.core.wire import CallHeader, Op, Reach
from mesh.net.audit import audit_folder, last_entries
from tests.agents.cloud.house import House, house
from tests.mesh.net.harness import until

pytestmark = pytest.mark.timeout(120)
SUMS = "knowledge.gpt/arithmetic"
ARITHMETIC = [{"path": "builtin:arithmetic", "context": 512, "threads": 1}]
QUESTION = "What is 48 * 27?"


async def two(made: House, **more: Any) -> tuple[Agent, Agent]:
    """A node that calculates, and one that sees it."""
    worker = await made.agent("worker", model=ARITHMETIC)
    admin = await made.agent("admin", worker, **more)
    await until(lambda: bool(sees(admin)), "the name is seen")
    return worker, admin


def sees(agent: Agent) -> list[str]:
    return [o.node_name for o in agent.port.offers() if o.served.name == SUMS and o.healthy]


def audited(agent: Agent) -> list[dict[str, str]]:
    return [e.detail for e in last_entries(audit_folder(agent.config.node.state), 99, "admin")]


async def order(agent: Agent, verb: str, **args: Any) -> Any:
    async with await ControlClient.connect(agent.config.node.state) as client:
        return await client.fetch(verb, args, silence_s=60.0)


async def answer(agent: Agent, timeout_s: float = 30.0) -> str:
    """To the question, by whoever calculates."""
    async with Remote(agent.config.node.state) as remote:
        return (await remote.generate(SUMS, QUESTION, timeout_s=timeout_s)).text


def test_a_drained_node_takes_nothing_new_says_so_and_is_resumed(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            worker, admin = await two(made, publish=(ADMIN,))
            done = await order(admin, "drain", node="worker", reason="a new power supply")
            assert done == {
                "node": "worker",
                "op": "drain",
                "draining": True,
                "running": 0,
                "kept": True,
            }
            await until(lambda: not sees(admin), "its status says so")
            assert [
                v["draining"] for v in await order(admin, "peers") if v["name"] == "worker"
            ] == [True]
            with pytest.raises(Rejected, match="worker is drained: a new power supply"):
                await call(admin, worker)
            with pytest.raises(GossamerError):
                await answer(admin, timeout_s=3.0)
            await order(admin, "resume", node="worker")
            await until(lambda: bool(sees(admin)), "it takes work again")
            assert "1296" in await answer(admin)
            await until(lambda: len(audited(worker)) == 2, "both are audited")
            assert [(e["op"], e["outcome"]) for e in reversed(audited(worker))] in (
                [("drain", "done"), ("resume", "done")],
                [("resume", "done"), ("drain", "done")],
            )

    asyncio.run(main())


async def call(admin: Agent, worker: Agent, name: str = SUMS, body: bytes = b"") -> list[bytes]:
    header = CallHeader(
        trace=bytes(16),
        span=bytes(8),
        timeout_ms=10_000,
        caller=admin.node.me.node,
        reach=Reach.MESH,
    )
    return [one async for one in admin.node.call(worker.node.me.node, name, body, header)]


def test_what_runs_is_finished_while_a_node_is_drained(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            worker, _ = await two(made)
            async with Remote(worker.config.node.state) as remote:
                events = remote.generate_stream(SUMS, QUESTION)
                await anext(events)
                done = await remote.drain()
                assert done["draining"]
                last = [event async for event in events][-1]
                assert "1296" in last.text  # type: ignore[union-attr]
                with pytest.raises(GossamerError):
                    await remote.generate(SUMS, QUESTION, timeout_s=2.0)

    asyncio.run(main())


def test_a_drained_node_is_drained_still_when_it_is_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            worker = await made.agent("worker")
            await order(worker, "drain", reason="a loose wire")
            again = Agent(worker.config)
            await worker.stop()
            try:
                await again.start()
                assert again.node.serving.draining == "worker is drained: a loose wire"
                assert (await order(again, "status"))["drained"] == again.node.serving.draining
                await order(again, "resume")
                assert not again.node.serving.draining
            finally:
                await again.stop()
        assert kept_drained(worker.config.node.state, "worker") == ""

    asyncio.run(main())


def test_what_kept_a_drain_and_cannot_be_read_keeps_it_still(tmp_path: Path) -> None:
    assert kept_drained(tmp_path, "worker") == ""
    (tmp_path / DRAINED_FILE).write_bytes(b"\xff not JSON")
    assert kept_drained(tmp_path, "worker") == f"worker is drained: {DRAINED_FILE} cannot be read"


def test_a_drain_that_cannot_be_kept_holds_all_the_same_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            worker = await made.agent("worker")
            (worker.config.node.state / DRAINED_FILE).mkdir()  # nothing can be written in its place
            done = await order(worker, "drain")
            assert done["draining"]
            assert not done["kept"]
            assert worker.node.serving.draining

    asyncio.run(main())


def test_without_the_right_a_node_is_refused_and_hears_who_could_grant_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            worker, admin = await two(made, publish=("computation.gpt/**",))
            with pytest.raises(
                AccessDenied, match=r"does not grant computation\.gpt/admin"
            ) as told:
                await order(admin, "drain", node="worker")
            assert "--publish computation.gpt/admin" in told.value.hint
            assert not worker.node.serving.draining
            refusals = audit_folder(worker.config.node.state)
            await until(lambda: bool(last_entries(refusals, 9, "refusal")), "it is audited")

    asyncio.run(main())


def test_a_model_is_loaded_and_unloaded_at_another_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            worker, admin = await two(made, publish=(ADMIN,))
            done = await order(admin, "unload", node="worker", model="gossamer-arithmetic")
            assert done["names"] == [SUMS]
            assert done["cut_off"] == 0
            await until(lambda: not sees(admin), "the name is gone")
            assert not worker.ready_capabilities
            done = await order(admin, "load", node="worker", model="builtin:arithmetic")
            assert done["models"] == ["gossamer-arithmetic"]
            await until(lambda: bool(sees(admin)), "the name is back")
            assert "1296" in await answer(admin)
            with pytest.raises(GossamerError, match="served here already"):
                await order(admin, "load", node="worker", model="builtin:arithmetic")
            for model in ("/etc/passwd", "../../etc/passwd", "builtin:nothing", ""):
                with pytest.raises(GossamerError):
                    await order(admin, "load", node="worker", model=model)
            assert not worker.troubles
            with pytest.raises(GossamerError, match="there are: gossamer-arithmetic"):
                await order(admin, "unload", node="worker", model="nothing")

    asyncio.run(main())


def test_the_policy_is_changed_and_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            worker, _ = await two(made)
            assert (await order(worker, "policy"))["policy"] == "load_aware"
            assert (await order(worker, "policy", policy="random"))["policy"] == "random"
            parts = worker.orchestrator.dispatch.parts_for("")
            assert type(parts.policy).__name__ == "Random"
            for wrong in ("nonsense", "os:system"):
                with pytest.raises(ConfigError):
                    await order(worker, "policy", policy=wrong)
            assert (await order(worker, "policy"))["policy"] == "random"
            done = await order(worker, "policy", policy="configured")
            assert done["policy"] == done["configured"]
            with pytest.raises(ConfigError, match="no nodes are called"):
                await order(worker, "drain", node="nobody")

    asyncio.run(main())


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", msgspec.msgpack.encode({"op": "format"}), msgspec.msgpack.encode([1] * 99)],
)
def test_an_order_that_is_none_changes_nothing(tmp_path: Path, body: bytes) -> None:
    async def main() -> None:
        async with house(tmp_path) as made:
            worker = await made.agent("worker")
            admin = await made.agent("admin", worker, publish=(ADMIN,))
            await until(lambda: admin.node.transport.has_way(worker.node.me.node), "they met")
            with pytest.raises(GossamerError):
                await call(admin, worker, ADMIN, body)
            assert not worker.node.serving.draining

    asyncio.run(main())


class Someone(msgspec.Struct):
    """A member, as far as access looks at it."""

    name: str = "someone"
    groups: tuple[str, ...] = ("home",)
    publish: tuple[str, ...] = ()


def allowed(publish: tuple[str, ...], *rules: Rule) -> bool:
    (operation,) = operations_on(ADMIN, Op.QUERY)
    assert operation is Operation.ADMIN
    try:
        Policy(rules).require(Someone(publish=publish), ADMIN, operation, own=False)  # type: ignore[arg-type]
    except AccessDenied:
        return False
    return True


def test_only_a_certificate_that_grants_the_very_name_is_the_right_to_administer() -> None:
    assert allowed((ADMIN,))
    for patterns in ((), ("computation.gpt/**",), ("computation.gpt/*",), ("**",)):
        assert not allowed(patterns)


def test_a_rule_about_everything_is_none_about_administration() -> None:
    assert not allowed((), Rule(allow=True, names="computation.gpt/**"))
    assert allowed((), Rule(allow=True, names=ADMIN, groups=("home",), ops=(Operation.ADMIN,)))
    assert not allowed((ADMIN,), Rule(allow=False, names="computation.gpt/**"))


def test_another_node_names_a_model_and_no_place_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capabilities.slm.store.folder", lambda: tmp_path / "models")
    (tmp_path / "models").mkdir()
    pulled, other = tmp_path / "models" / "small.gguf", tmp_path / "other.gguf"
    pulled.touch()
    other.touch()
    config = AgentConfig(
        node=NodeSection(state=tmp_path), model=(ModelSection(path=str(other), slots=7),)
    )
    empty = AgentConfig(node=NodeSection(state=tmp_path))

    def far(model: str, config: AgentConfig = empty) -> ModelSection:
        return section_of(Order(op="load", model=model), config, local=False)

    assert far("small").path == far("small.gguf").path == str(pulled)
    assert far("other", config).slots == 7
    for wrong in (str(other), "../other.gguf", "other"):
        with pytest.raises(ConfigError, match="there is no model"):
            far(wrong)
    assert section_of(Order(op="load", model=str(other)), empty, local=True).path == str(other)
