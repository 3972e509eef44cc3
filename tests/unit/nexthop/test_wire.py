"""The wire takes only what may leave, and changes nothing but leading dots."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.message import Released, Sealed
from relay.nexthop import wire
from relay.nexthop.wire import Needs
from tests.unit.nexthop.conftest import BOB, sealed

LINES = st.lists(st.sampled_from([b".", b"..", b"", b"x", b".x", b"x.", b"\xff\x00", b"." * 9])).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


def unquoted(raw: bytes) -> bytes:
    """What a server makes of it, line by line (RFC 5321 §4.5.2)."""
    return b"\r\n".join(line.removeprefix(b".") for line in raw.split(b"\r\n"))


@settings(max_examples=100, deadline=None)
@given(header=LINES, body=LINES, block_bytes=st.integers(1, 12))
@example(header=b"", body=b".\r\n" * 8, block_bytes=1)
def test_blocks_of_any_size_unquote_to_the_content(header: bytes, body: bytes, block_bytes: int) -> None:
    """Dot-stuffing is exact wherever a block ends, and no line of the content is a lone dot."""
    raw = b"".join(wire.blocks(Sealed(header, body, (BOB,), ()), block_bytes))

    assert unquoted(raw) == header + b"\r\n" + body
    assert b"." not in raw.split(b"\r\n")


@pytest.mark.parametrize("body", [b"x\n", b"x\r", b"\r\r\n", b"\n.\n", b"\r.\r", b"x\r\n\n.\r\n", b"\n\r"])
@pytest.mark.parametrize("block_bytes", [1, 2, 3, 65536])
def test_blocks_with_a_bare_line_end_refuse_before_it_is_written(body: bytes, block_bytes: int) -> None:
    """A bare CR or LF (SMTP smuggling) is a bug that never reaches the wire."""
    written = []

    with pytest.raises(ValueError, match="bare"):
        written.extend(wire.blocks(sealed(body=body), block_bytes))
    assert b"\n.\n" not in b"".join(written)


def test_blocks_without_final_line_end_gain_one() -> None:
    """The final dot stands on a line of its own."""
    assert b"".join(wire.blocks(sealed(header=b"A: b\r\n", body=b"end"))) == b"A: b\r\n\r\nend\r\n"


def test_blocks_with_empty_body_end_after_the_empty_line() -> None:
    """No line is added to a message without a body."""
    assert b"".join(wire.blocks(sealed(header=b"A: b\r\n", body=b""))) == b"A: b\r\n\r\n"


@pytest.mark.parametrize("content", [b"bytes", "text", None, (b"header", b"body"), type("Sealed", (), {})()])
def test_needs_of_anything_else_raises(content: object) -> None:
    """Only sealed or released content gets as far as the wire."""
    with pytest.raises(TypeError):
        wire.needs_of(content)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("content", [b"bytes", "text", None])
async def test_put_of_anything_else_raises_before_the_protocol_is_touched(content: object) -> None:
    """The last place checks by itself."""
    with pytest.raises(TypeError):
        await wire.put(None, content, 1)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (sealed(header=b"A: b\r\n", body=b"12345\r\n"), Needs(size_bytes=15)),
        (sealed(header=b"A: b\r\n", body=b"\x80\r\n"), Needs(eightbit=True, size_bytes=11)),
        (sealed(header=b"A: \xc3\xa9\r\n", body=b"", smtputf8=True), Needs(True, True, 9)),
        (Released(b"A: b\r\n", b".\r\n", (BOB,), "policy.default"), Needs(size_bytes=11)),
    ],
)
def test_needs_of_content_are_size_octets_and_utf8(content: Sealed | Released, expected: Needs) -> None:
    """The size counts no quoted dots, and 8BITMIME is needed for any octet above 0x7F."""
    assert wire.needs_of(content) == expected


@pytest.mark.parametrize(
    ("needs", "declared", "expected"),
    [
        (Needs(), Needs(), True),
        (Needs(size_bytes=5), Needs(), True),
        (Needs(smtputf8=True), Needs(), False),
        (Needs(eightbit=True), Needs(smtputf8=True), False),
        (Needs(), Needs(True, True), True),
    ],
)
def test_needs_within_declared(needs: Needs, declared: Needs, expected: bool) -> None:
    """MAIL is repeated only for SMTPUTF8 or BODY."""
    assert needs.within(declared) is expected
