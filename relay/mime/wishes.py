"""Finds what a sender wishes for one message, in a header field or a tag in its Subject, and takes both out.

Who may wish what is decided elsewhere. A tag that lowers counts at the very start of the Subject only, so
that a reply to a message that had one lowers nothing by accident; one that raises counts anywhere. Both are
cut out wherever they stand: they are words to the relay and must not travel on, least of all in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from relay.errors import MessageRefused
from relay.mime import words
from relay.mime.headers import Field, Message

_TAGGED = frozenset({"subject", "thread-topic"})
"""Outlook copies the Subject of a thread into Thread-Topic."""
_BLANKS = " \t\r\n"
_TAG = re.compile(r"[^\s=?]{1,60}")
_NAME = re.compile(r"[!-9;-~]{1,60}")


class Wish(StrEnum):
    """What the sender wants, as the header field spells it."""

    RAISE = "always"
    """Encrypt, whatever the rule is content with."""
    LOWER = "never"
    """Do not encrypt, where the rule leaves that to the sender."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How senders can wish; each way is off unless it is configured.

    Raises:
        ValueError: the header is no name of a field, or a tag holds blanks, `=` or `?` or is too long: then
            cutting one out could make another, or it could not stand in an encoded word.
    """

    header: str | None = None
    """Name of a field, in any letter case."""
    always: str | None = None
    """Tag in the Subject that raises, such as `[encrypt]`."""
    never: str | None = None
    """Tag in the Subject that lowers, such as `[clear]`."""

    def __post_init__(self) -> None:
        if self.header is not None and not _NAME.fullmatch(self.header):
            raise ValueError("the header of a wish is not a name of a header field")
        if not all(_TAG.fullmatch(tag) for tag in self.tags):
            raise ValueError("a tag has between 1 and 60 characters, none of them a blank, = or ?")

    @property
    def tags(self) -> tuple[str, ...]:
        """Both tags, as far as they are configured."""
        return tuple(tag for tag in (self.always, self.never) if tag is not None)


def wish_of(message: Message, wishes: Wishes) -> Wish | None:
    """What the sender wishes for this message; of two wishes the one that raises.

    Raises:
        MessageRefused: the header field has another value, or stands there with both. A typo must not send
            in clear what was meant to be encrypted.
    """
    if wishes.header is None and not wishes.tags:
        return None
    asked = _asked(message, wishes)
    subjects = [words.decoded(field.value).lstrip(_BLANKS) for field in message.get("subject")]
    if Wish.RAISE in asked or any(_holds(subject, wishes.always) for subject in subjects):
        return Wish.RAISE
    if message.get("resent-from"):  # what a stranger once wrote is no wish of who sends it on
        return None
    if Wish.LOWER in asked or any(_holds(subject, wishes.never, at_start=True) for subject in subjects):
        return Wish.LOWER
    return None


def without_wishes(message: Message, wishes: Wishes) -> Message:
    """The message without the header field, and without tags in its Subject and Thread-Topic.

    A tag in plain ASCII is cut out of the field with blanks on one side of it, and every other octet stays.
    A field in which one is encoded is written anew. Without any of that it is the same object.
    """
    if wishes.header is None and not wishes.tags:
        return message
    fields = tuple(_stripped(message, wishes))
    return message if fields == message.fields else replace(message, fields=fields)


# --------------------------------------------------------------------------- finding


def _asked(message: Message, wishes: Wishes) -> frozenset[Wish]:
    """What the header field says."""
    values = {field.value.lower() for field in message.fields if _is_wish(field, wishes)}
    known = frozenset(wish for wish in Wish if wish.encode("ascii") in values)
    if len(values) > len(known):
        raise MessageRefused(
            "unknown wish", reason=f'its {wishes.header} field must say "always" or "never" and nothing else'
        )
    if len(known) > 1:
        raise MessageRefused(
            "contradicting wishes",
            reason=f'one of its {wishes.header} fields says "always" and one "never"; send it with one field',
        )
    return known


def _is_wish(field: Field, wishes: Wishes) -> bool:
    return wishes.header is not None and field.name == wishes.header.lower()


def _holds(text: str, tag: str | None, *, at_start: bool = False) -> bool:
    if tag is None:
        return False
    pattern = re.compile(_one(tag), re.IGNORECASE)
    return bool(pattern.match(text) if at_start else pattern.search(text))


def _one(tag: str) -> str:
    """The pattern of a tag as a token of its own: not inside of a longer word where it is a word itself."""
    before, behind = (r"(?<!\w)" if _is_in_word(tag[0]) else "", r"(?!\w)" if _is_in_word(tag[-1]) else "")
    return f"{before}{re.escape(tag)}{behind}"


def _is_in_word(char: str) -> bool:
    return bool(re.match(r"\w", char))


def _several(wishes: Wishes) -> str:
    """The pattern of one or more tags that follow each other, with the blanks behind them."""
    one = "|".join(_one(tag) for tag in sorted(wishes.tags, key=len, reverse=True))
    return rf"(?P<tags>(?:{one})(?:[{_BLANKS}]*(?:{one}))*)(?P<blanks>[ \t]*)"


# --------------------------------------------------------------------------- cutting


def _stripped(message: Message, wishes: Wishes) -> Iterator[Field]:
    for field in message.fields:
        if _is_wish(field, wishes):
            continue
        yield _untagged(field, wishes) if wishes.tags and field.name in _TAGGED else field


def _untagged(field: Field, wishes: Wishes) -> Field:
    text = words.decoded(field.value)
    wanted = _cut(text, re.compile(_several(wishes), re.IGNORECASE))
    if wanted == text:
        return field
    name = field.raw[: len(field.name)].decode("ascii")
    # Latin-1 gives every octet a character. Encoded words are passed over as a whole.
    around = re.compile(f"{words.WORD.pattern}|{_several(wishes)}", re.IGNORECASE)
    value = _cut(field.raw[len(name) + 1 :].decode("latin-1"), around)
    sliced = Field(field.name, f"{name}:{value}".encode("latin-1"))
    if words.decoded(sliced.value).split() == wanted.split():  # folds are other blanks than those in between
        return sliced
    return Field(field.name, words.encoded(name, wanted.strip(_BLANKS)))


def _cut(text: str, pattern: re.Pattern[str]) -> str:
    """The text without tags. What stood around one stays apart, so that no new tag comes into being.

    A fold of the header stays where it is, and no line becomes longer or empty.
    """
    kept: list[str] = []
    at = 0
    for found in pattern.finditer(text):
        if found["tags"] is None:
            continue
        before, behind = text[at : found.start()], text[found.end() : found.end() + 1]
        at = found.end()
        if not behind or behind in _BLANKS:
            kept.append(before.rstrip(_BLANKS))
        elif not before or before[-1] in _BLANKS:
            kept.append(before)
        else:
            kept += [before, found["blanks"] or " "]
    return "".join([*kept, text[at:]])
