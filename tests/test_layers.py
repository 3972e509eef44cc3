"""Enforces the import layers: who may import whom, and which libraries stop where.

Imports under `if TYPE_CHECKING:` do not count: they are gone at run time, and a part may name the Protocol
that it fulfils without depending on the module that stands beside it. Imports inside functions do count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYER_OF = {
    "values": ("relay", "message", "rule", "remembered", "errors", "address", "seams"),
    "files": ("files", "clock", "hardening"),
    "pure": ("policy", "merging", "decision", "senders", "mime"),
    "adapters": ("keys", "openpgp", "nexthop", "store", "spool"),
    "line": (
        *("pipeline", "protector", "sealing", "threads", "parts", "lookup", "pins"),
        *("forward", "budget", "outcomes", "conversation"),
    ),
    "edge": ("server",),
    "root": (
        *("app", "config", "cli", "__main__", "demo", "journal", "explain"),
        *("authenticators", "build", "key_commands", "remote", "signers", "sources", "terminal"),
    ),
}
"""Each module or package below `relay`, in one layer. A new one is added here on purpose, or a test fails."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a layer may import."""

    ours: frozenset[str]
    """Layers of the relay; the own package is always allowed."""
    libraries: frozenset[str]
    """Third-party packages."""
    not_stdlib: frozenset[str] = frozenset()
    """Modules of the standard library that the layer must not use."""


_PROGRAMS = frozenset({"subprocess", "signal", "multiprocessing", "concurrent", "threading", "asyncio"})
_FILES = frozenset({"os", "io", "pathlib", "shutil", "tempfile", "sqlite3", "logging"})
_NETWORK = frozenset({"socket", "ssl", "select", "selectors", "smtplib", "http", "urllib.request"})
_IO = _PROGRAMS | _FILES | _NETWORK | {"time", "random"}
"""What does I/O, waits, or knows the time."""

RULES = {
    # Parsing an address needs IDNA tables (RFC 5891); everything else is the standard library.
    "values": Allowed(frozenset({"values"}), frozenset({"idna"}), _IO),
    # Small things without knowledge of mail: a clock, an atomic file, private memory.
    "files": Allowed(frozenset({"values", "files"}), frozenset()),
    "pure": Allowed(frozenset({"values", "pure"}), frozenset(), _IO - {"io"}),
    "adapters": Allowed(
        frozenset({"values", "files", "pure"}),
        frozenset(
            {
                *("pysequoia", "gnupg", "aiosmtplib", "cryptography"),
                *("aiohttp", "dns", "ldap3", "sqlalchemy", "aiosqlite", "asyncpg"),
            }
        ),
    ),
    "line": Allowed(frozenset({"values", "pure", "line"}), frozenset(), _IO - {"asyncio", "random"}),
    "edge": Allowed(
        frozenset({"values", "files", "pure", "line"}),
        frozenset({"aiosmtpd", "argon2", "idna"}),
    ),
}

LIBRARY_HOME = {
    "aiosmtplib": ("nexthop",),
    "aiosmtpd": ("server", "demo"),
    "pysequoia": ("openpgp", "demo"),
    "gnupg": ("openpgp", "keys", "demo"),
    "yaml": ("config", "demo"),
    "pydantic": ("config",),
    "argon2": ("server", "cli"),
    "aiohttp": ("keys",),
    "dns": ("keys",),
    "ldap3": ("keys",),
    "sqlalchemy": ("store",),
    "aiosqlite": ("store",),
    "asyncpg": ("store",),
}
"""The only rooms that may know a library; what is absent here is not restricted beyond the rules above."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement of a module of ours."""

    module: str
    """`relay.keys.directory`: who imports."""
    target: str
    """`relay.message` or `asyncio`: what is imported, as far as it is a module."""
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def modules() -> dict[str, Path]:
    """Every module of the relay with its file."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / "relay").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(module: str, source: str, known: frozenset[str] = frozenset(MODULES)) -> list[Import]:
    """Every import that happens at run time, also inside functions."""
    return [
        Import(module, target, node.lineno)
        for node in _run_time_nodes(ast.parse(source))
        for target in _targets(node, module, known)
    ]


def _run_time_nodes(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _run_time_nodes(ast.Module([other], []))
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from _run_time_nodes(node)


def _targets(node: ast.stmt, module: str, known: frozenset[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert isinstance(node, ast.ImportFrom)
    base = node.module or ""
    if node.level:
        package = module.split(".")[: -node.level] if module not in _packages(known) else module.split(".")
        base = ".".join([*package, *([base] if base else [])])
    submodules = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in known else base for name in submodules]


def _packages(known: frozenset[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in known}


def room(module: str) -> str:
    """The first name below `relay`; `relay` itself for the package."""
    return module.split(".")[1] if "." in module else module


def layer(module: str) -> str:
    """The layer of one of our modules, or an empty string where the table does not name it."""
    return next((name for name, rooms in LAYER_OF.items() if room(module) in rooms), "")


def complaint(found: Import) -> str:
    """Why this import is not allowed; empty where it is."""
    own = layer(found.module)
    if own == "root":
        return ""
    rule = RULES[own]
    if found.target == "relay" or found.target.startswith("relay."):
        return _complaint_ours(found, own, rule)
    top = found.target.partition(".")[0]
    if top in sys.stdlib_module_names:
        forbidden = top in rule.not_stdlib or found.target in rule.not_stdlib
        return f"{own} must not use {found.target}" if forbidden else ""
    return "" if top in rule.libraries else f"{own} must not use the library {top}"


def _complaint_ours(found: Import, own: str, rule: Allowed) -> str:
    if room(found.target) == room(found.module):
        return ""
    other = layer(found.target)
    return "" if other in rule.ours else f"{own} must not import {other} ({room(found.target)})"


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_layer(module: str) -> None:
    """Every module stands in the table of layers."""
    assert layer(module), f"name the layer of {module} in tests/test_layers.py"


@pytest.mark.parametrize("module", [name for name in MODULES if layer(name)])
def test_module_imports_only_what_its_layer_may(module: str) -> None:
    """No module imports across its layer: not ours, not a library, not the clock or the network."""
    found = imports_of(module, MODULES[module].read_text("utf-8"))

    assert [] == [f"{bad}: {complaint(bad)}" for bad in found if complaint(bad)]


@pytest.mark.parametrize("module", MODULES)
def test_library_stays_in_its_room(module: str) -> None:
    """Each library is known in one place only, so that it can be replaced there."""
    found = imports_of(module, MODULES[module].read_text("utf-8"))

    assert [] == [
        str(bad)
        for bad in found
        for top in [bad.target.partition(".")[0]]
        if top in LIBRARY_HOME and room(module) not in LIBRARY_HOME[top]
    ]


_CLOCK_CALLS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}


@pytest.mark.parametrize(
    "module", [name for name in MODULES if layer(name) in ("values", "pure", "line", "adapters")]
)
def test_module_takes_time_from_the_clock(module: str) -> None:
    """Only the composition root and the edge know what time it is; the others are told."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]

    assert [] == [node.lineno for node in calls if ast.unparse(node.func).endswith(tuple(_CLOCK_CALLS))]


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("relay.policy", "import asyncio", "pure must not use asyncio"),
        ("relay.policy", "def f():\n    from ssl import SSLContext", "pure must not use ssl"),
        ("relay.mime.headers", "import yaml", "pure must not use the library yaml"),
        ("relay.mime.headers", "from relay.keys import index", "pure must not import adapters (keys)"),
        ("relay.keys.index", "from relay import openpgp", "adapters must not import adapters (openpgp)"),
        ("relay.keys.index", "import relay.config", "adapters must not import root (config)"),
        ("relay.keys.index", "from .. import openpgp", "adapters must not import adapters (openpgp)"),
        ("relay.pipeline", "from relay.nexthop import hop", "line must not import adapters (nexthop)"),
        (
            "relay.server.line",
            "from relay.openpgp.judge import Judge",
            "edge must not import adapters (openpgp)",
        ),
        ("relay.message", "from relay import policy", "values must not import pure (policy)"),
    ],
)
def test_complaint_forbidden_import_is_found(module: str, source: str, expected: str) -> None:
    """The checker sees what it must: absolute, relative and hidden imports."""
    assert [expected] == [complaint(found) for found in imports_of(module, source)]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "relay.keys.index",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import relay.pipeline",
        ),
        (
            "relay.keys.index",
            "from relay.mime import armor\nfrom relay.message import Address\nimport asyncio",
        ),
        ("relay.app", "import relay.nexthop.hop, relay.openpgp, yaml"),
        (
            "relay.server.session",
            "from relay.server import line\nfrom .dialogue import x\nimport aiosmtpd.smtp",
        ),
    ],
)
def test_complaint_allowed_import_is_silent(module: str, source: str) -> None:
    """What the table allows passes, and so does an import for the type checker alone."""
    assert [] == [complaint(found) for found in imports_of(module, source) if complaint(found)]
