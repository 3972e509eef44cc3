"""Reads a YAML file into plain mappings, tuples and texts, and remembers the line of every setting.

Every scalar stays the text that was written: YAML's own guesses (`off` is false, `12:30` is 750) are never
made, the schema knows what each setting should be. A plain `null`, `~` or nothing means "not set". Aliases,
merge keys and tags are refused: a policy should read as it stands, and nothing can then grow beyond the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from relay.config.problems import Path, Problem, show

_MAX_BYTES = 1 << 20
"""Room for some ten thousand rules; a larger file is a mistake (a log, a mailbox, a device)."""

_MAX_DEPTH = 10
"""The deepest setting stands at 4."""

_MAX_CHARS = 4000
"""Of one value or name: the longest is a path."""

_NULLS = ("", "~", "null")
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|\{)")
_STR_TAG = "tag:yaml.org,2002:str"
_MAP_TAG = "tag:yaml.org,2002:map"
_SEQ_TAG = "tag:yaml.org,2002:seq"


@dataclass
class Document:
    """A file that was read, and the list in which its problems are collected."""

    file: FilePath
    data: dict[str, Any] = field(default_factory=dict)
    """Mappings, tuples and texts; settings that are null are left out."""
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def add(self, path: Path, message: str) -> None:
        """Adds a problem with the setting at `path`, or with the missing setting that belongs there."""
        self.problems.append(self.problem(path, message))

    def warn(self, path: Path, message: str) -> None:
        """Adds something that works, but deserves a look."""
        self.warnings.append(self.problem(path, message))

    def is_broken(self, path: Path) -> bool:
        """Whether a problem is already known with the setting itself, so that more would only confuse."""
        return show(path) in {problem.path for problem in self.problems}

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at the line of the setting, or of the nearest one around it."""
        known = next((path[:size] for size in range(len(path), 0, -1) if path[:size] in self.lines), ())
        return Problem(self.file, self.lines.get(known, 1), show(path), message)


def read(file: FilePath, environ: Mapping[str, str]) -> Document:
    """The document in `file`, with `${NAME}` replaced from `environ`; what is wrong is in its problems."""
    document = Document(file)
    text = _text(document)
    if text is None:
        return document
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as exc:
        line, message = _explain(exc, text)
        document.problems.append(Problem(file, line, "", message))
        return document
    except _Refused as exc:
        document.problems.append(Problem(file, exc.line, "", str(exc)))
        return document
    except (ValueError, OverflowError):  # of chr(), for "\\UFFFFFFFF"
        document.add((), "this is not YAML: an escape in double quotes stands for no character")
        return document
    if isinstance(root, yaml.MappingNode):
        document.data = _Reader(document, environ).mapping(root, ())
    elif root is not None:
        document.add(
            (), "this is not a mapping; the file consists of lines such as `hostname: relay.example`"
        )
    return document


def _text(document: Document) -> str | None:
    try:
        with document.file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as exc:
        document.add((), f"the file cannot be read: {exc.strerror}")
        return None
    if len(content) > _MAX_BYTES:
        document.add((), f"the file is larger than {_MAX_BYTES} bytes; this is hardly a configuration")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        document.problems.append(Problem(document.file, line, "", "the file is not UTF-8"))
        return None


class _Refused(Exception):
    """Valid YAML that is not used here."""

    def __init__(self, event: yaml.Event, message: str) -> None:
        super().__init__(message)
        self.line = event.start_mark.line + 1 if event.start_mark else 1


class _Loader(yaml.BaseLoader):
    """Composes nodes without guessing types; stops at an alias and at absurd nesting."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As the base class, bounded."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # missing in the stubs
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(event, _STAR)
        if self._depth >= _MAX_DEPTH:
            raise _Refused(event, "this is nested too deeply")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_STAR = 'a word that starts with * needs quotes: "*.example.com" (aliases are not used here)'


def _explain(exc: yaml.YAMLError, text: str) -> tuple[int, str]:
    """The line and the text of a syntax error."""
    if isinstance(exc, yaml.reader.ReaderError):
        return text.count("\n", 0, exc.position) + 1, "this is not YAML: it holds a control character"
    if not isinstance(exc, yaml.MarkedYAMLError):
        return 1, "this is not YAML"
    mark = exc.problem_mark or exc.context_mark
    line = mark.line + 1 if mark else 1
    if exc.context == "while scanning an alias":
        return line, _STAR
    hint = "; lines are indented with spaces" if "\\t" in str(exc.problem) else ""
    return line, f"this is not YAML: {exc.problem}{hint}"


class _Reader:
    """Turns nodes into data, noting the line of each setting on the way."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        """A mapping without its null values; a doubled key is a problem."""
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or not _is_text(key_node.value):
                line = key_node.start_mark.line + 1
                message = "the name of a setting must be a single word"
                self._document.problems.append(Problem(self._document.file, line, show(path), message))
                continue
            child = (*path, key_node.value)
            if child in self._document.lines:
                self._doubled(key_node, child)
                continue
            self._note(key_node, child)
            value = self._value(value_node, child)
            if value is not None:
                found[key_node.value] = value
        return found

    def _doubled(self, node: yaml.Node, path: Path) -> None:
        message = f"this stands here a second time, first in line {self._document.lines[path]}; keep one"
        line = node.start_mark.line + 1
        self._document.problems.append(Problem(self._document.file, line, show(path), message))

    def _note(self, node: yaml.Node, path: Path) -> None:
        self._document.lines[path] = node.start_mark.line + 1

    def _value(self, node: yaml.Node, path: Path) -> Any:
        if node.tag not in (_STR_TAG, _MAP_TAG, _SEQ_TAG):
            self._document.add(path, f"tags such as {node.tag} are not used here; remove it")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path)
        if not isinstance(node, yaml.ScalarNode) or (node.style is None and node.value in _NULLS):
            return None
        text = self._expand(node.value, path)
        if not _is_text(text):
            self._document.add(path, f"is longer than {_MAX_CHARS} characters, or holds what is no character")
            return None
        return text

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> tuple[Any, ...]:
        for index, item in enumerate(node.value):
            self._note(item, (*path, index))
        values = [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        return tuple("" if value is None else value for value in values)

    def _expand(self, text: str, path: Path) -> str:
        """The text with `${NAME}` from the environment; `$$` is a dollar sign, a single one stays."""

        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            if match[0] == "$$":
                return "$"
            if name is None:
                self._document.add(path, "${ must be followed by a name and }; a dollar sign is written $$")
            elif name not in self._environ:
                self._document.add(path, f"the environment variable {name} is not set")
            return self._environ.get(name or "", "")

        return _VARIABLE.sub(replaced, text)


def _is_text(text: str) -> bool:
    """Whether the text has a sane size and can be written: escapes and variables may hold surrogates."""
    return len(text) <= _MAX_CHARS and not any("\ud800" <= char <= "\udfff" for char in text)
