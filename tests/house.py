"""Reads the three packages as source: what each module imports and calls, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mesh", "capabilities", "agents")

# Reading a clock, a file, a socket, a process, or chance that nobody handed in.
IMPURE_IMPORTS = frozenset(
    [
        "asyncio",
        "zmq",
        "socket",
        "socketserver",
        "ssl",
        "time",
        "os",
        "pathlib",
        "subprocess",
        "multiprocessing",
        "threading",
        "concurrent",
        "queue",
        "select",
        "selectors",
        "signal",
        "sqlite3",
        "urllib",
        "http",
        "shutil",
        "tempfile",
        "glob",
        "fileinput",
        "io",
        "mmap",
        "fcntl",
        "secrets",
        "uuid",
        "importlib",
        "logging",
        "resource",
        "httpx",
        "requests",
        "zeroconf",
        "aiomqtt",
        "platformdirs",
        "pydantic_settings",
        "llama_cpp",
        "rich",
        "typer",
        "textual",
        "psutil",
    ]
)
IMPURE_CALLS = frozenset({"open", "print", "input", "__import__", "exec", "eval", "breakpoint"})
CLOCKS = frozenset({"now", "utcnow", "today"})  # of datetime and date
SEEDED = frozenset({"Random", "Generator", "default_rng", "SeedSequence", "PCG64"})


@cache
def modules() -> dict[str, Path]:
    """Every module of the three packages: dotted name to file."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache  # every pure module reaches the same few others
def _nodes(source: str) -> tuple[ast.AST, ...]:
    return tuple(_runtime_nodes(ast.parse(source)))


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under ``if TYPE_CHECKING``, which never runs, and in a module's
    ``__getattr__``, which runs only for who asks the package for a name (:func:`lazy`)."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(tree, ast.Module) and getattr(child, "name", "") == "__getattr__":
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _runtime_nodes(other)
            continue
        yield child
        yield from _runtime_nodes(child)


def imports(source: str, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, at the top or inside a function.

    ``from a import b`` gives ``a.b``, since b may be a module. ``package`` says that the source
    is an ``__init__.py``, whose relative imports begin one level lower.
    """
    for node in _nodes(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                kept = parents[: len(parents) - node.level + (1 if package else 0)]
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                yield node.lineno, base if alias.name == "*" else f"{base}.{alias.name}"


def project_imports(source: str, module: str, *, package: bool = False) -> set[str]:
    """The project's own modules that run when ``module`` is imported, parent packages too."""
    known = modules()
    reached = set()
    for _, name in imports(source, module, package=package):
        parts = name.split(".")
        reached.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return (reached & set(known)) - {module}


def lazy(source: str, module: str) -> list[str]:
    """What is asked of a top package itself: it is loaded on first use, whatever it takes."""
    return [
        f"line {line}: imports {name}, which the package loads on first use"
        for line, name in imports(source, module)
        if name.count(".") == 1 and name.split(".")[0] in PACKAGES and name not in modules()
    ]


def impurities(source: str, module: str, *, package: bool = False) -> list[str]:
    """What in the source itself does I/O, reads a clock or draws unseeded chance."""
    found = [
        f"line {line}: imports {name}"
        for line, name in imports(source, module, package=package)
        if name.split(".")[0] in IMPURE_IMPORTS
        or (name.startswith("random.") and name.split(".")[1] not in SEEDED)
    ]
    found += lazy(source, module)
    for node in _nodes(source):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        *owner, last = called.split(".")
        draws = owner[-1:] == ["random"] and owner[0] in {"random", "np", "numpy"}
        unseeded = last == "default_rng" and not node.args and not node.keywords
        if (
            called in IMPURE_CALLS
            or (owner[-1:] in (["datetime"], ["date"]) and last in CLOCKS)
            or (draws and last not in SEEDED)
            or unseeded
        ):
            found.append(f"line {node.lineno}: calls {called}()")
    return found
