"""The house: imports run agents, capabilities, mesh and never back; a module fits in a head."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house import PACKAGES, imports, modules

MAY_NOT_IMPORT = {"mesh": {"capabilities", "agents"}, "capabilities": {"agents"}, "agents": set()}
MAX_LINES = 500
LONGER_WITH_REASON: dict[str, str] = {}  # module: why it is one thing that cannot be cut


def upward(source: str, module: str) -> list[str]:
    """The imports of a module that run against the direction of the house."""
    forbidden = MAY_NOT_IMPORT[module.split(".")[0]]
    return [
        f"{module} line {line} imports {name}"
        for line, name in imports(source, module)
        if name.split(".")[0] in forbidden
    ]


def test_imports_run_from_agents_to_capabilities_to_mesh_only() -> None:
    found = [x for name, path in modules().items() for x in upward(path.read_text(), name)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mesh.core.x", "import agents.views"),
        ("mesh.core.x", "def f():\n    from capabilities.base import Request"),
        ("capabilities.x", "from agents import port"),
    ],
)
def test_an_import_against_the_direction_is_seen(module: str, source: str) -> None:
    assert upward(source, module)


def test_the_packages_do_not_import_tests_benchmarks_or_examples() -> None:
    outside = {"tests", "benchmarks", "examples", "scripts"}
    found = [
        f"{module} line {line} imports {name}"
        for module, path in modules().items()
        for line, name in imports(path.read_text(), module)
        if name.split(".")[0] in outside
    ]
    assert not found, "\n".join(found)


def test_no_module_needs_a_search_box() -> None:
    long = {
        name: lines
        for name, path in modules().items()
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
        and name not in LONGER_WITH_REASON
    }
    assert not long, f"split by responsibility (or say why not): {long}"


def test_every_folder_of_modules_is_a_package() -> None:
    known = set(modules())
    orphans = {name for name in known if name.rpartition(".")[0] not in known | {""}}
    assert not orphans, f"these folders lack an __init__.py: {orphans}"
    assert set(PACKAGES) <= known


def test_an_agent_that_needs_no_numbers_starts_without_their_library() -> None:
    """15 MB of each agent's memory; a Pi runs several."""
    heavy = ("numpy", "llama_cpp", "torch", "networkx", "textual")
    code = f"import agents.agent, sys; print([m for m in {heavy!r} if m in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.strip() == "[]"
