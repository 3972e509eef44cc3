"""Enforces the shape of the tree: tests mirror the source, files are short, danger has one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "relay").rglob("*.py"))
MAX_LINES = 450

WITHOUT_TEST = {
    "relay/__main__.py": "starts relay.cli, nothing else",
    "relay/merging.py": "tested through `Policy`, which asks it for every rule",
}
"""Modules without a test of their own, each with the reason. Modules without code need none anyway."""

EXTRA_TESTS = {
    "tests/unit/mime/test_autocrypt_vectors.py": "relay/mime/autocrypt.py: the messages of the specification",
    "tests/unit/keys/test_contract.py": "one suite that every local key source passes",
    "tests/unit/keys/test_contract_outside.py": "one suite that every key source outside passes",
    "tests/unit/test_pipeline_lookups.py": "relay/pipeline.py: key lookups side by side, in time, with pins",
    "tests/unit/test_pipeline_kinds.py": "relay/pipeline.py: exemptions, wishes, other readers",
    "tests/unit/openpgp/test_engines.py": "one suite that both engines pass",
}
"""Test modules below tests/unit that mirror no module, each with the reason."""

TOP_LEVEL = {
    *(
        "pyproject.toml",
        "README.md",
        "relay",
        "config",
        "tests",
        "docker",
        "Makefile",
        "LICENSE",
        "CHANGELOG.md",
    ),
}

FORBIDDEN = {
    r"\bas_bytes\(|\bas_string\(|BytesGenerator": "content is sliced, never reserialised",
    r"CERT_NONE|check_hostname\s*=\s*False|_create_unverified": "certificates are always verified",
    r"shell\s*=\s*True|os\.system\(|os\.popen\(": "programs are started without a shell",
    r"\bpickle\b|\bmarshal\b|\beval\(|\bexec\(|\byaml\.load\(": "data is never code",
}
"""Patterns that do not occur in relay/, with the reason."""

FORBIDDEN_IN_MIME = {
    r"\.splitlines\(": "str.splitlines also splits at VT, FF, FS, NEL, LS and PS: header injection",
    r"\bemail\.(parser|message|policy|generator|header)|message_from": "the `email` parser sees other fields",
}
"""Patterns that do not occur in relay/mime/, with the reason."""

CATCHES_ALL = {
    "relay/server/": "the edge: a bug is answered 451 and logged",
    "relay/openpgp/worker.py": "a panic of the library has no name; what is no panic is raised again",
}
"""Where `except Exception` may stand, with the reason."""

ONLY_IN = {
    "Sealed": ("relay/mime/selfcheck.py", "relay/mime/detect.py"),
    "Released": ("relay/mime/",),
}
"""Values that only these files construct: what leaves the relay is made in one place."""


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _test_of(source: Path) -> Path:
    relative = source.relative_to(ROOT / "relay")
    return ROOT / "tests" / "unit" / relative.parent / f"test_{relative.name}"


def _has_code(path: Path) -> bool:
    """Whether any function has a body: constants, plain dataclasses and Protocols have nothing to test."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(not isinstance(statement, ast.Expr) for node in functions for statement in node.body)


NEEDS_TEST = [path for path in SOURCES if _name(path) not in WITHOUT_TEST and _has_code(path)]


@pytest.mark.parametrize("source", NEEDS_TEST, ids=_name)
def test_source_has_a_test(source: Path) -> None:
    """Every module has its test at the same place below tests/unit."""
    expected = _test_of(source)
    # A package may have one test for all of its modules: config.load is the only way into relay/config.
    whole_package = expected.parent.parent / f"test_{source.parent.name}.py"

    assert expected.exists() or whole_package.exists(), f"{_name(expected)} is missing"


@pytest.mark.parametrize("test", sorted((ROOT / "tests" / "unit").rglob("test_*.py")), ids=_name)
def test_unit_test_has_a_source(test: Path) -> None:
    """Every test below tests/unit tests the module of its name."""
    relative = test.relative_to(ROOT / "tests" / "unit")
    source = ROOT / "relay" / relative.parent / relative.name.removeprefix("test_")

    assert source.exists() or source.with_suffix("").is_dir() or _name(test) in EXTRA_TESTS


@pytest.mark.parametrize("source", SOURCES, ids=_name)
def test_source_is_short(source: Path) -> None:
    """A file fits into a head; a longer one becomes a package."""
    assert len(source.read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("source", SOURCES, ids=_name)
def test_source_has_no_forbidden_construct(source: Path) -> None:
    """What must never be done is not there."""
    patterns = FORBIDDEN | (FORBIDDEN_IN_MIME if _name(source).startswith("relay/mime/") else {})

    found = [
        f"{number}: {line.strip()} ({reason})"
        for number, line in _code_lines(source)
        for pattern, reason in patterns.items()
        if re.search(pattern, line)
    ]

    assert [] == found


def _code_lines(source: Path) -> Iterator[tuple[int, str]]:
    """Lines without docstrings and comments: words about a danger are no danger."""
    text = source.read_text("utf-8")
    quiet: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            quiet.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for number, line in enumerate(text.split("\n"), 1):
        if number not in quiet:
            yield number, line.partition("  #")[0] if not line.lstrip().startswith("#") else ""


@pytest.mark.parametrize("source", SOURCES, ids=_name)
def test_source_catches_everything_only_at_the_edge(source: Path) -> None:
    """`except Exception` (or less) stands at the marked places alone: elsewhere a bug propagates."""
    handlers = [
        node for node in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(node, ast.ExceptHandler)
    ]
    broad = [handler.lineno for handler in handlers if _is_broad(handler)]

    assert [] == broad or _name(source).startswith(tuple(CATCHES_ALL))


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether it catches bugs too; one that cleans up and raises again does not swallow them."""
    names = "" if handler.type is None else ast.unparse(handler.type)
    if handler.type is not None and not re.search(r"\b(Base)?Exception\b", names):
        return False
    return not (isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None)


@pytest.mark.parametrize("source", SOURCES, ids=_name)
def test_outgoing_content_is_made_in_one_place(source: Path) -> None:
    """`Sealed` and `Released` are constructed only where their promise is checked."""
    calls = [node for node in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(node, ast.Call)]
    made = {name for node in calls if (name := ast.unparse(node.func).rpartition(".")[2]) in ONLY_IN}

    assert [] == [name for name in made if not _name(source).startswith(ONLY_IN[name])]


def test_top_level_is_as_designed() -> None:
    """Nothing is added beside the few things that a newcomer sees first."""
    ignored = {"dist", "build"}

    assert (
        set()
        == {
            path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.name not in ignored
        }
        - TOP_LEVEL
    )


def test_links_between_the_documents_lead_somewhere() -> None:
    """A reader who follows a link of a README finds the page."""
    documents = [ROOT / "README.md", *ROOT.glob("*/README.md")]
    links = [
        (document, target)
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8"))
    ]

    assert [] == [
        f"{document.relative_to(ROOT)}: {target}"
        for document, target in links
        if not (document.parent / target).exists()
    ]
