"""Reads what an LDAP server answers (RFC 4511): the few messages that a search needs, strictly.

Anything else is `Refused`; nothing here is "no entry" unless the server said success. No I/O but the function
that is given to `receive`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from relay.keys.answers import parse_bounded
from relay.keys.unreadable import stand_in
from relay.message import Certificate
from relay.mime.packets import Malformed

BIND_RESPONSE, ENTRY, DONE, REFERENCE, EXTENDED_RESPONSE = 0x61, 0x64, 0x65, 0x73, 0x78
"""Tags of the operations (RFC 4511 §4.2.2, §4.5.2, §4.12)."""

_INTEGER, _OCTET_STRING, _ENUMERATED, _SEQUENCE, _SET = 0x02, 0x04, 0x0A, 0x30, 0x31

_UNSOLICITED_ID = 0
"""Of messages that answer nothing: the server is about to leave (RFC 4511 §4.4)."""

_SUCCESS = 0
_RESULTS = {
    3: "time limit exceeded",
    4: "size limit exceeded",
    8: "stronger authentication required",
    10: "referral to another server, which is not asked",
    13: "confidentiality required",
    32: "no such object: the base does not exist, or may not be read",
    48: "inappropriate authentication",
    49: "invalid credentials",
    50: "insufficient access rights",
    51: "busy",
    52: "unavailable",
    53: "unwilling to perform",
}
"""What administrators will meet (RFC 4511 §4.1.9); the server's own text is a stranger's."""


class Refused(Exception):
    """The server said something else than what was asked for."""


async def receive(read: Callable[[int], Awaitable[bytes]], max_bytes: int) -> bytes:
    """The next LDAPMessage, with its header; nothing behind it is read.

    Args:
        read: gives exactly as many octets as it is asked for.

    Raises:
        Refused: it is none, or longer than `max_bytes`.
    """
    head = await read(2)
    if head[1] & 0x80:
        head += await read(head[1] & 0x7F)
    kind, start, length = _header(head, 0)
    if kind != _SEQUENCE:
        raise Refused("its answer is not LDAP")
    if start + length > max_bytes:
        raise Refused("its answer is too long")
    return head + await read(length)


def read_message(message: bytes, number: int) -> tuple[int, bytes]:
    """The tag and the content of the operation in a message (RFC 4511 §4.1.1); controls are skipped.

    Raises:
        Refused: it is no LDAPMessage, or not one in answer to request `number`.
    """
    (tag, content), *rest = [*_elements(message), (0, b"")]
    (id_tag, identifier), (kind, body), *_ = [*_elements(content), (0, b""), (0, b"")]
    if tag != _SEQUENCE or id_tag != _INTEGER or len(rest) > 1:
        raise Refused("its answer is not LDAP")
    if int.from_bytes(identifier) == _UNSOLICITED_ID:
        raise Refused("it ends the connection")
    if int.from_bytes(identifier) != number:
        raise Refused("it answers something that was not asked")
    return kind, body


def entry_values(body: bytes, attribute: str) -> list[bytes]:
    """The values of an attribute, with whatever options, in a SearchResultEntry (RFC 4511 §4.5.2).

    Raises:
        Refused: it is none.
    """
    found: list[bytes] = []
    for part in _content(body, (_OCTET_STRING, _SEQUENCE))[1:]:
        for kind, pair in _elements(part):
            if kind != _SEQUENCE:
                raise Refused("an entry in its answer cannot be read")
            name, values = _content(pair, (_OCTET_STRING, _SET))
            if name.partition(b";")[0].lower() == attribute.partition(";")[0].lower().encode():
                contents = [value for _, value in _elements(values)]
                if not contents:  # only a request for names alone is answered so (RFC 4511 §4.5.1.6)
                    raise Refused("an entry in its answer cannot be read")
                found += contents
    return found


def read_value(value: bytes, source: str) -> list[Certificate]:
    """The certificates in one value, armoured or binary; at least one.

    For a value that holds anything else stands a certificate that the judge calls damaged: an address with
    such a value is not one without.

    Raises:
        KeySourceUnavailable: it holds more packets than anybody's certificates.
    """
    try:
        return parse_bounded(value, source)
    except Malformed:
        return [stand_in(source)]


def need_success(answer: tuple[int, bytes], kind: int) -> None:
    """Raises Refused unless the answer is of this kind and its result code is success."""
    if answer[0] == REFERENCE:
        raise Refused("it refers to another server, which is not asked")
    (code_tag, code), *_ = [*_elements(answer[1]), (0, b"")]
    if answer[0] != kind or code_tag != _ENUMERATED:
        raise Refused("it answers something that was not asked")
    result = int.from_bytes(code)
    if result != _SUCCESS or not code:
        raise Refused(f"it answered {_RESULTS.get(result, 'an error')} (result {result})")


def _content(data: bytes, tags: tuple[int, ...]) -> list[bytes]:
    """The contents of elements with exactly these tags."""
    elements = list(_elements(data))
    if tuple(tag for tag, _ in elements) != tags:
        raise Refused("an entry in its answer cannot be read")
    return [content for _, content in elements]


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of every BER element: definite lengths, tags of one octet (RFC 4511 §5.1)."""
    offset = 0
    while offset < len(data):
        tag, start, length = _header(data, offset)
        offset = start + length
        if offset > len(data):
            raise Refused("its answer is cut off")
        yield tag, data[start:offset]


def _header(data: bytes, offset: int) -> tuple[int, int, int]:
    """Tag, offset of the content, and its length."""
    length_at = offset + 1
    first = data[length_at] if length_at < len(data) else 0x80
    more = first & 0x7F if first & 0x80 else 0
    start = length_at + 1 + more
    if first == 0x80 or more > 4 or start > len(data):
        raise Refused("its answer is not LDAP")
    return data[offset], start, int.from_bytes(data[length_at + 1 : start]) if more else first
