"""Reads who stands in the address fields of a message (RFC 5322 §3.4).

Two questions, two safe sides: a recipient whose place in To or Cc is in doubt counts as Bcc and gets a copy
of its own; an author that cannot be read is refused, because nobody could say whether the login may use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.address import parse_mailbox
from relay.errors import MessageRefused
from relay.message import Address
from relay.mime.headers import Field, Message

_NAMED = ("to", "cc", "resent-to", "resent-cc")
_AUTHORS = ("from", "sender")
_OUTSIDE = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\[\]]*\]|[^"()<>\[\]:;,]+|.', re.DOTALL)
"""A quoted string, a domain literal, a run of ordinary characters, or one special."""
_IN_COMMENT = re.compile(r"\\.|[()]|[^()\\]+|.", re.DOTALL)
_AROUND_AT = re.compile(r"(?<![ \t])[ \t]*@[ \t]*(?=[^@\"]*\Z)")
_ADDR_SPEC = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s"]+)@[^\s"]+')
_MAX_ADDR_CHARS = 1000
"""RFC 5321 §4.5.3.1 needs 320; comments and blanks come on top."""
_UNDECODABLE = "\ufffd"


def recipients_named(message: Message) -> frozenset[str]:
    """The `Address.key` of every mailbox in To, Cc, Resent-To and Resent-Cc that can be read."""
    found = (addr for name in _NAMED for field in message.get(name) for addr in _addresses(field))
    return frozenset(addr.key for addr in found if addr)


def has_unreadable_recipients(message: Message) -> bool:
    """Whether a mailbox of these fields cannot be read: nobody can say then who does not stand there."""
    return any(addr is None for name in _NAMED for field in message.get(name) for addr in _addresses(field))


def author(message: Message) -> tuple[Address, ...]:
    """Every mailbox in From and Sender.

    Raises:
        MessageRefused: there is none in From, or one of them cannot be read.
    """
    fields = [field for name in _AUTHORS for field in message.get(name)]
    found = [addr for field in fields for addr in (*_addresses(field), *_shown(field))]
    readable = tuple(addr for addr in found if addr)
    has_author = any(True for field in message.get("from") for _ in _addresses(field))
    if not has_author or len(readable) < len(found):
        raise MessageRefused(
            "author cannot be read",
            reason="its From or Sender field is not a list of complete mail addresses",
        )
    return readable


def writers(message: Message) -> tuple[Address, ...]:
    """Every mailbox in From: who wrote it, whoever sent it for them (RFC 5322 §3.6.2).

    Raises:
        MessageRefused: there is none, or one of them cannot be read.
    """
    return author(Message(tuple(message.get("from")), b""))


def _addresses(field: Field) -> Iterator[Address | None]:
    """Each mailbox of an address list; None for one that cannot be read."""
    # Octets that are no UTF-8 are usual in display names and never part of an address.
    for pieces in _mailboxes(field.value.decode("utf-8", "replace")):
        if "".join(pieces).strip():  # lists may have empty elements (RFC 5322 §4.4), groups may be empty
            yield _address(pieces)


def _shown(field: Field) -> Iterator[Address | None]:
    """What stands like an address, unquoted, in a display name; other programs take it for the author."""
    for pieces in _mailboxes(field.value.decode("utf-8", "replace")):
        words = pieces[: pieces.index("<")] if "<" in pieces else []
        bare = " ".join(word for word in words if not word.startswith('"'))
        yield from (_address([word]) for word in bare.split() if "@" in word)


def _mailboxes(value: str) -> Iterator[list[str]]:
    """The mailboxes of an address list as their pieces, without comments and group names."""
    pieces: list[str] = []
    at, depth, in_angle = 0, 0, False
    while found := (_IN_COMMENT if depth else _OUTSIDE).match(value, at):
        piece, at = found[0], found.end()
        if piece == "(" or (depth and piece == ")"):
            depth += 1 if piece == "(" else -1
            pieces.append(" ")
        elif depth:
            continue
        elif piece == '"':  # a quoted string without end: everything behind it is in doubt
            break
        elif piece in {",", ";"} and not in_angle:
            yield pieces
            pieces = []
        elif piece == ":" and not in_angle:
            if "<" in pieces or any("@" in word and not word.startswith('"') for word in pieces):
                yield ["<"]  # no name of a group: others read an address here
            pieces = []
        else:
            in_angle = piece == "<" or (in_angle and piece != ">")
            pieces.append(piece)
    yield pieces if at == len(value) and not depth else ["<"]


def _address(pieces: list[str]) -> Address | None:
    """The mailbox in these pieces: what stands in angle brackets, or else all of them."""
    if "<" in pieces:
        start = pieces.index("<") + 1
        end = pieces.index(">") if ">" in pieces[start:] else -1
        if end < start or "".join(pieces[end + 1 :]).strip():
            return None
        pieces = pieces[start:end]
    text = "".join(pieces).strip()
    if len(text) > _MAX_ADDR_CHARS or _UNDECODABLE in text:
        return None
    text = _AROUND_AT.sub("@", text)
    if not _ADDR_SPEC.fullmatch(text):
        return None
    try:
        return parse_mailbox(text)
    except ValueError:
        return None
