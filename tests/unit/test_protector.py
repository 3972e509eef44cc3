"""Tests of `relay/protector.py`: every way in which a copy is made ready to leave."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.address import parse_mailbox
from relay.errors import EncryptionFailed
from relay.merging import Entry
from relay.message import Admission, Lookup, LookupResult, Released, Sealed
from relay.mime.copies import Share, Treatment
from relay.mime.headers import Message, parse
from relay.mime.packets import EncryptedMessage
from relay.openpgp.sequoia import SequoiaEngine
from relay.policy import Policy
from relay.protector import Protector
from relay.rule import Encrypt, Rule
from tests import keys
from tests.line import ALICE, CLIENT, MARKER, Line
from tests.mail import KEY_ID, armor, crlf, encrypted
from tests.unit.test_pipeline_kinds import MDN

BOB = parse_mailbox("bob@example.com")
PLAIN = parse(crlf(f"From: a@b.example\nTo: bob@example.com\nSubject: Lunch\n\n{MARKER.decode()}\n"))


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    engine = SequoiaEngine(workers=1)
    yield Line(engine)
    await engine.close()


def _protector(line: Line, *named: str) -> Protector:
    return Protector(line.parts, CLIENT, "id-1", "Wed, 25 Nov 2026 10:00:00 +0000", False, frozenset(named))


def _share(treatment: Treatment, *names: str, found: EncryptedMessage | None = None) -> Share:
    rules = [Rule(name, encrypt=Encrypt.NEVER) for name in names or ("clear",)]
    return Share(treatment, tuple(Admission(BOB, rule) for rule in rules), found)


async def test_protect_released_copy_names_every_rule(line: Line) -> None:
    """What leaves in clear is the message as it is, with the rules that released it (T-01)."""
    share = _share(Treatment.RELEASE, "first", "second", "first")
    copy = await _protector(line).protect(PLAIN, share)

    assert isinstance(copy, Released)
    assert "first, second" == copy.rule
    assert copy.header.startswith(b"Received: from ")
    assert (PLAIN.body, True) == (copy.body, copy.header.endswith(b"Subject: Lunch\r\n"))


@pytest.mark.parametrize(("named", "shown"), [((BOB.key,), True), ((), False)])
async def test_protect_trace_field_never_names_a_bcc_recipient(
    line: Line, named: tuple[str, ...], shown: bool
) -> None:
    """`for` tells only what To or Cc tell anyway (T-05)."""
    copy = await _protector(line, *named).protect(PLAIN, _share(Treatment.RELEASE))

    assert shown == (b"for <bob@example.com>" in copy.header)


DKIM = b"DKIM-Signature: v=1; a=rsa-sha256; bh=AAAA; b=BBBB\r\n"


@pytest.mark.parametrize(
    ("message", "keeps"), [(parse(DKIM + MDN), False), (parse(DKIM + PLAIN.content), True)]
)
async def test_protect_exempt_copy_is_reduced_and_loses_what_no_longer_fits(
    line: Line, message: Message, keeps: bool
) -> None:
    """A signature over the whole report would fail for the one without its third part (D-09, T-08)."""
    copy = await _protector(line).protect(message, _share(Treatment.EXEMPT))

    assert keeps == (MARKER in copy.body) == (b"DKIM-Signature" in copy.header)


async def test_protect_kept_copy_is_asked_again_whether_it_is_encrypted(line: Line) -> None:
    """Whatever the plan said: nothing readable is ever passed through."""
    found = EncryptedMessage((KEY_ID,), (3,), 0, 1)
    share = _share(Treatment.KEEP, found=found)
    ciphertext = parse(b"From: a@b.example\r\n\r\n" + armor(encrypted(), eol="\r\n"))
    copy = await _protector(line).protect(ciphertext, share)

    assert isinstance(copy, Sealed)
    assert copy.passed_through
    with pytest.raises(EncryptionFailed):
        await _protector(line).protect(PLAIN, share)


async def test_protect_sealed_copy_without_a_key_is_impossible(line: Line) -> None:
    """A plan that forgot the key ends in a refusal, not in clear text."""
    admission = Admission(BOB, Rule("r"), Lookup(LookupResult.NONE))
    with pytest.raises(EncryptionFailed):
        await _protector(line).protect(PLAIN, Share(Treatment.SEAL, (admission,)))


async def test_protect_sealed_copy_is_ciphertext(line: Line) -> None:
    """The way that most messages take."""
    entry = Entry(name="policy.default", encrypt=Encrypt.ALWAYS, keys=("folder",))
    rule = Policy.build(entry).rule_for(None, BOB)
    lookup = await line.parts.finder.find(parse_mailbox(ALICE), rule)
    share = Share(Treatment.SEAL, (Admission(BOB, rule, lookup),))
    copy = await _protector(line).protect(PLAIN, share)

    assert isinstance(copy, Sealed)
    assert [keys.certificate("curve25519").fingerprint] == [v.certificate.fingerprint for v in lookup.chosen]
    assert MARKER not in copy.header + copy.body
