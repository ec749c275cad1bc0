"""Law 1: what decides does no I/O, reads no clock, draws no chance that was not handed in."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from tests.house import impurities, modules, project_imports

PURE = (
    "mesh.core",
    "mesh.core.*",
    "mesh.sim",
    "mesh.sim.*",
    "agents.classifier",
    "agents.classifier.*",
    "agents.redaction",
    "agents.redaction.*",
    "agents.scheduling",
    "agents.scheduling.*",
    "agents.escalation",
    "agents.escalation.*",
    "agents.boards.deploy.planning",
    "agents.boards.shedding",
    "agents.budget.lease",
    "agents.budget.limits",
    "agents.halves",
    "agents.ledger.receipts",
    "agents.orchestrator.plan",
    "agents.orchestrator.verify",
    "agents.orchestrator.aggregate",
    "agents.orchestrator.allocate",
    "agents.orchestrator.freshness",
    "agents.orchestrator.joining",
    "agents.orchestrator.modelplan",
    "agents.orchestrator.objectives",
    "agents.orchestrator.tail",
    "agents.orchestrator.needs",
    "agents.orchestrator.learning",
    "agents.orchestrator.replanning",
    "agents.cooperation.documents_protocol",
    "agents.cooperation.skeletons_protocol",
    "capabilities.reading.extract",
    "capabilities.reading.units",
    "agents.cooperation.cache",
    "agents.cooperation.cache_asking",
    "agents.cooperation.cache_facts",
    "agents.cooperation.knowledge",
    "capabilities.knowledge.cutting",
    "capabilities.knowledge.entry",
    "capabilities.cloud.breaker",
    "capabilities.cloud.limits",
    "capabilities.cloud.provider",
    "capabilities.cloud.retrying",
    "capabilities.cloud.sse",
    "capabilities.data.messages",
    "capabilities.data.log",
    "capabilities.data.follower",
    "capabilities.data.lines",
    "capabilities.data.robust",
    "capabilities.data.stations",
    "capabilities.data.telling",
    "capabilities.data.titles",
    "capabilities.data.reuse",
    "capabilities.data.sim",
    "capabilities.drafting.accepting",
    "capabilities.drafting.lengths",
    "capabilities.drafting.messages",
    "capabilities.drafting.ngrams",
    "capabilities.drafting.tree",
    "capabilities.segments.accounts",
    "capabilities.segments.bodies",
    "capabilities.segments.calibration",
    "capabilities.segments.choosing",
    "capabilities.segments.lens",
    "capabilities.segments.messages",
    "capabilities.segments.questions",
    "capabilities.segments.rows",
    "capabilities.segments.streams",
    "capabilities.segments.switching",
    "capabilities.segments.uploading",
    "capabilities.sensors.anomaly",
    "capabilities.sensors.faults",
    "capabilities.sensors.home_assistant",
    "capabilities.sensors.insight",
    "capabilities.sensors.mapping",
    "capabilities.sensors.payload",
    "capabilities.sensors.ppg",
    "capabilities.sensors.readings",
    "capabilities.sensors.senml",
    "capabilities.sensors.sequences",
    "capabilities.sensors.series",
    "capabilities.sensors.sparkplug",
    "capabilities.sensors.topics",
    "capabilities.state_noise",
    "capabilities.slm.batching",
    "capabilities.slm.prefixes",
    "capabilities.slm.sequences",
    "capabilities.slm.gbnf",
    "capabilities.slm.schema",
    "capabilities.slm.ranges",
    "capabilities.slm.patterns",
    "capabilities.slm.multiples",
    "capabilities.slm.distinct",
    "capabilities.slm.merging",
    "capabilities.slm.threads",
    "capabilities.slm.tools",
    "capabilities.standards",
    "capabilities.standards.*",
)
# Not deciders: what stands beside them and makes, or reads from disk, what they are handed.
NOT_DECIDING = (
    "agents.classifier.training",
    "agents.classifier.training.*",
    "agents.classifier.shipped",
)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def pure_modules() -> list[str]:
    """The modules that law 1 binds."""
    return [n for n in modules() if _matches(n, PURE) and not _matches(n, NOT_DECIDING)]


def reached_from(name: str) -> dict[str, str]:
    """Every project module that importing ``name`` runs, with the path that led there."""
    known = modules()
    paths, waiting = {name: name}, [name]
    while waiting:
        here = waiting.pop()
        file = known[here]
        package = file.name == "__init__.py"
        for other in project_imports(file.read_text(), here, package=package):
            if other not in paths:
                paths[other] = f"{paths[here]} -> {other}"
                waiting.append(other)
    return paths


@pytest.mark.parametrize("name", pure_modules())
def test_a_pure_module_does_no_io_and_imports_none_that_does(name: str) -> None:
    known = modules()
    found = []
    for reached, path in reached_from(name).items():
        file = known[reached]
        package = file.name == "__init__.py"
        found += [f"{path} {x}" for x in impurities(file.read_text(), reached, package=package)]
    assert not found, "\n".join(found)


def test_the_pure_modules_are_there() -> None:
    assert "mesh.core.names" in pure_modules()
    assert len(pure_modules()) > 5


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "import zmq.asyncio",
        "from os import path",
        "def f():\n    import time\n    return time.monotonic()",
        "from pathlib import Path",
        "text = open('x').read()",
        "print('here')",
        "import random\nrandom.random()",
        "import random\nrandom.SystemRandom()",
        "from random import choice",
        "import numpy as np\nnp.random.rand(3)",
        "import numpy as np\nnp.random.default_rng()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.utcnow()",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import socket",
        "def f():\n    from agents import connect\n    return connect",
    ],
)
def test_an_impure_source_is_seen(source: str) -> None:
    assert impurities(source, "mesh.core.synthetic")


@pytest.mark.parametrize(
    "source",
    [
        "import random\nrng = random.Random(7)\nrng.random()",
        "def f(rng):\n    return rng.choice([1, 2])",
        "import numpy as np\nnp.random.default_rng(7)",
        "if TYPE_CHECKING:\n    import asyncio",
        "from datetime import datetime\ndatetime.fromtimestamp(0)",
        "from collections.abc import AsyncIterator",
    ],
)
def test_a_pure_source_passes(source: str) -> None:
    assert not impurities(source, "mesh.core.synthetic")


def test_relative_imports_are_followed() -> None:
    assert "mesh.core.names" in project_imports("from .names import check_name", "mesh.core.x")
    assert "mesh.core.names" in project_imports("from . import names", "mesh.core", package=True)
    assert "mesh.net" in project_imports("from ..net import pump", "mesh.core.x")
