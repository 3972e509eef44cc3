from __future__ import annotations

import pysequoia
import pytest

from relay.message import Offers, Reply
from relay.mime import headers, pgpmime
from relay.rule import Headers
from relay.server import replies
from tests import keys
from tests.mail import RECEIVED


@pytest.mark.parametrize(
    ("hop", "expected"),
    [(None, 1_000_000), (0, 1_000_000), (10_000_000, 1_000_000), (1_000_000, 631_488), (131_072, 1), (5, 1)],
)
def test_max_bytes_leaves_room_for_encryption(hop: int | None, expected: int) -> None:
    """SIZE is what the next hop takes less the growth (S-29), and never 0, which would mean no limit."""
    assert expected == replies.max_bytes(1_000_000, Offers(size_bytes=hop))


@pytest.mark.parametrize("hop_bytes", [1 << 20, 10_240_000, 26_214_400])
def test_max_bytes_is_never_more_than_the_hop_takes_after_encryption(hop_bytes: int) -> None:
    """A message of exactly the size that EHLO announces fits the next hop when it is sealed (S-29, C-17)."""
    size = replies.max_bytes(1 << 30, Offers(size_bytes=hop_bytes))
    head = b"From: a@example.com\r\nContent-Type: text/plain\r\n\r\n"
    message = headers.parse(head + b"x" * (size - len(head)))
    cert = pysequoia.Cert.from_bytes(keys.certificate("rsa3072").data)

    plan = pgpmime.plan(message, Headers.PROTECT)
    armored = pysequoia.encrypt(recipients=[cert], bytes=plan.payload)
    header, body = pgpmime.wrap(plan.outside, armored, boundary=pgpmime.new_boundary(), received=RECEIVED)

    assert len(header) + 2 + len(body) <= hop_bytes


@pytest.mark.parametrize("smtputf8", [True, False])
def test_offered_is_complete_and_nothing_else(smtputf8: bool) -> None:
    """EHLO says exactly what is built; DSN, CHUNKING, ETRN and their kind are not among it (S-32…S-40)."""
    expected = ["PIPELINING", "SIZE 5", "8BITMIME", "ENHANCEDSTATUSCODES"] + ["SMTPUTF8"] * smtputf8
    expected += ["STARTTLS", "AUTH PLAIN LOGIN"]

    assert expected == replies.offered(5, smtputf8=smtputf8, starttls=True, auth=("PLAIN", "LOGIN"))


def test_positive_replies_have_a_status_except_go_ahead() -> None:
    """RFC 2034 §4: every 2xx reply carries one, a 3xx has none."""
    fixed = [value for value in vars(replies).values() if isinstance(value, Reply)]

    assert [True] * len(fixed) == [(reply.code < 300) is (reply.enhanced.startswith("2.")) for reply in fixed]


def test_empty_challenge_keeps_its_blank() -> None:
    """RFC 4954 §4: `334 ` with the blank."""
    assert b"334 \r\n" == replies.challenge(b"")
