"""Turns a document into `Settings`: finds every wrong setting, not the first one only.

pydantic stops at a section that is wrong. So that the rest of the file is checked in the same run, the wrong
part is noted, cut out, and the document validated again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from relay.config.document import Document
from relay.config.problems import Path
from relay.config.schema import KeySourceSettings, SecretKeySettings, Settings

_MAX_ROUNDS = 4
"""Each round cuts out whole entries, then sections; the last resort is an empty document."""

_UNIT_SIZES = {"listen": 2, "keys": 2, "secret_keys": 2, "policy": 3}
"""How long the path of the part is that is cut out around a wrong setting; elsewhere it is the section."""

_TYPES: dict[str, dict[str, type[BaseModel]]] = {
    section: {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}
    for section, union in {"keys": KeySourceSettings, "secret_keys": SecretKeySettings}.items()
}
"""By section: each type of entry with its settings."""

_KINDS = {"keys": "key source", "secret_keys": "secret keys"}
"""What an entry of the section is called."""


def validate(document: Document) -> Settings:
    """The settings of the document; every wrong part is in its problems and has the default here."""
    data: dict[str, Any] = document.data
    for _ in range(_MAX_ROUNDS):
        try:
            return Settings.model_validate(data, context={"directory": document.file.parent})
        except ValidationError as exc:
            data = _without_errors(document, data, exc)
    return Settings()


def _without_errors(document: Document, data: dict[str, Any], exc: ValidationError) -> dict[str, Any]:
    for error in exc.errors():
        path = _path(error["loc"], error["type"], document.data)
        _report(document, path, _message(dict(error)))
        data = _cut(data, path[: _UNIT_SIZES.get(str(path[0]), 1)])
    return data


def _report(document: Document, path: Path, message: str) -> None:
    """Adds the problem, unless a reader's one stands at the same place (an undefined variable)."""
    problem = document.problem(path, message)
    if problem.path not in {known.path for known in document.problems}:
        document.problems.append(problem)


def _path(location: tuple[str | int, ...], kind: str, data: Any) -> Path:
    """The place in the document for pydantic's location, which also names the members of unions."""
    path: list[str | int] = []
    for step in location:
        is_there = isinstance(data, dict) and step in data
        is_item = isinstance(data, tuple) and isinstance(step, int) and step < len(data)
        if is_there or is_item:
            data = data[step]
            path.append(step)
    if kind == "missing":
        path.append(location[-1])
    if kind == "union_tag_not_found":
        path.append("type")
    return tuple(path)


def _cut(data: Any, path: Path) -> Any:
    """A copy of the data without the value at `path`; a list keeps a hole, so that indexes stay true."""
    first, rest = path[0], path[1:]
    if isinstance(data, tuple) and isinstance(first, int):
        hole = _cut(data[first], rest) if rest and data[first] is not None else None
        return (*data[:first], hole, *data[first + 1 :])
    if not isinstance(data, dict) or first not in data:
        return data
    kept = {key: value for key, value in data.items() if key != first}
    if rest and isinstance(data[first], dict | tuple):
        kept[first] = _cut(data[first], rest)
    return kept


def _message(error: dict[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _unknown(error["loc"])
        case "missing" | "union_tag_not_found":
            return "is missing"
        case "value_error":
            return str(context["error"])
        case "union_tag_invalid":
            return _unknown_type(str(error["loc"][0]), str(context["tag"]))
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "tuple_type":
            return "must be a list, such as [one, two]"
        case "string_type":
            return "must be a single text"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be a mapping of settings, such as {name: value}"
    return str(error["msg"])


def _unknown_type(section: str, tag: str) -> str:
    return f"{tag[:40]!r} is not a type of {_KINDS[section]}; there are: {', '.join(_TYPES[section])}"


def _unknown(location: tuple[str | int, ...]) -> str:
    name = str(location[-1])
    if name == "password":
        return "secrets do not stand in this file; give the path of a file with it in password_file"
    if name in ("override", "sign"):
        return f"{name} belongs to entries of policy.senders only"
    names = [known for known in _siblings(location) if known != name]
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"unknown setting; did you mean {close[0]}?"
    return f"unknown setting; known here: {', '.join(names)}" if names else "unknown setting; remove it"


def _siblings(location: tuple[str | int, ...]) -> list[str]:
    """The settings that may stand where the last step of the location stands."""
    models: list[type[BaseModel]] = [Settings]
    if location[0] in _TYPES and len(location) > 3:  # ("keys", its name, its type, the setting)
        models, location = [_TYPES[str(location[0])][str(location[2])]], location[3:]
    for step in location[:-1]:
        fields = [model.model_fields[str(step)] for model in models if step in model.model_fields]
        if fields:  # other steps are names of entries, indexes, and tags of unions
            models = [model for field in fields for model in _models(field.annotation)]
    known = [field for model in models for field in model.model_fields.items()]
    return list(dict.fromkeys(name for name, field in known if field.annotation is not type(None)))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation such as `dict[str, Model | None]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
