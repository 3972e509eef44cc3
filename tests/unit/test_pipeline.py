"""Tests of `relay/pipeline.py`: the line with real mail, keys and engine, and faults at every step."""

from __future__ import annotations

import asyncio
import base64
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import pysequoia
import pytest

from relay.address import parse_mailbox
from relay.budget import ENCRYPT_FACTOR, Budget
from relay.errors import (
    BadAddress,
    DeliveryIncomplete,
    EncryptionFailed,
    KeyLookupFailed,
    KeyMissing,
    KeyUnusable,
    LoopDetected,
    MessageRefused,
    MixedRefused,
    NextHopRefused,
    NextHopUnavailable,
    NotEncryptedForRecipient,
    OutcomeUnknown,
    RelayError,
    SenderNotAllowed,
    TooManyCopies,
)
from relay.merging import Entry
from relay.message import Address, Login, Released, Sealed, Verdict
from relay.mime import armor, packets
from relay.mime.autocrypt import Header
from relay.openpgp.sequoia import SequoiaEngine
from relay.policy import Policy, parse_pattern
from relay.rule import Encrypt, KeyChange, Mixed, Rule
from tests import keys
from tests.fakes import ScriptedSession
from tests.line import ALICE, BOB, CLIENT, MARKER, SENDER, V6, Line, LyingEngine, decrypted, policy
from tests.mail import packet

OTHER = pysequoia.Cert.from_bytes(keys.certificate("p256").data)


def _content(to: str = ALICE, more: str = "") -> bytes:
    header = f"From: sender@example.com\r\nTo: {to}\r\nSubject: hello\r\n{more}"
    return header.encode() + b"Content-Type: text/plain\r\n\r\n" + MARKER + b"\r\n"


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    engine = SequoiaEngine(workers=1)
    yield Line(engine)
    await engine.close()


# --------------------------------------------------------------------------- what a message becomes


async def test_relay_encrypts_for_every_named_recipient_in_one_copy(line: Line) -> None:
    """To and Cc share one ciphertext on the transaction of the client's own commands."""
    await line.send(_content(f"{ALICE}, {BOB}"), ALICE, BOB)

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    assert (ALICE, BOB) == tuple(map(str, copy.recipients))
    assert b"\r\nContent-Type: text/plain\r\n\r\n" + MARKER + b"\r\n\r\n--" in decrypted(copy, "curve25519")
    assert ["mail", f"rcpt:{ALICE}", f"rcpt:{BOB}", "data"] == line.session.dialogue


async def test_relay_gives_each_bcc_recipient_a_copy_of_its_own(line: Line) -> None:
    """Who stands in no field shares no ciphertext: key IDs would tell of them (B-02)."""
    await line.send(_content(ALICE), ALICE, BOB, "p256@example.com")

    assert [[ALICE], [BOB], ["p256@example.com"]] == [
        [str(recipient) for recipient in copy.recipients] for copy in line.session.taken
    ]
    assert all(1 == len(copy.key_ids) for copy in line.session.taken if isinstance(copy, Sealed))


async def test_relay_gives_all_copies_the_same_message_id_and_date(line: Line) -> None:
    """Copies of one message are one message for everybody (M-15, M-16)."""
    await line.send(_content(ALICE), ALICE, BOB)

    ids = {
        line_of
        for copy in line.session.taken
        for line_of in copy.header.split(b"\r\n")
        if line_of.startswith((b"Message-ID:", b"Date:"))
    }
    assert 2 == len(ids)


async def test_relay_splits_key_versions_into_two_copies(line: Line) -> None:
    """An old v4 key does not deny the owner of a v6 key what RFC 9580 is for (P-17, P-19)."""
    await line.send(_content(f"{BOB}, {V6}"), BOB, V6)

    newer, older = sorted(line.session.taken, key=lambda copy: str(copy.recipients[0]), reverse=True)
    assert ([V6], [BOB]) == ([str(newer.recipients[0])], [str(older.recipients[0])])
    assert MARKER in decrypted(newer, "v6")
    assert MARKER in decrypted(older, "rsa3072")


async def test_relay_releases_where_the_rule_says_so(line: Line) -> None:
    """`never`, and `when-possible` without a key, leave in clear with the rule's name."""
    content = _content("a@clear.example, b@maybe.example")

    await line.send(content, "a@clear.example", "b@maybe.example")

    (copy,) = line.session.taken
    assert isinstance(copy, Released)
    assert "clear, maybe" == copy.rule
    assert content.endswith(copy.body)
    assert b"\r\nSubject: hello\r\n" in copy.header


async def test_relay_split_sends_both_kinds(line: Line) -> None:
    """With `mixed: split` the encrypted copy and the clear one both go out."""
    line.policy = policy(mixed=Mixed.SPLIT)

    await line.send(_content(f"{ALICE}, a@clear.example"), ALICE, "a@clear.example")

    assert [Sealed, Released] == [type(copy) for copy in line.session.taken]
    assert ["a@clear.example"] == [str(recipient) for recipient in line.session.taken[1].recipients]


async def test_relay_passes_what_the_client_encrypted(line: Line) -> None:
    """A message encrypted to the recipient's key goes out byte for byte (D-01)."""
    await line.send(_content(ALICE), ALICE)
    (first,) = line.session.taken
    line.session.taken.clear()

    await line.send(first.header + b"\r\n" + first.body, ALICE)

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    assert copy.passed_through
    assert first.body == copy.body


async def test_relay_refuses_what_was_encrypted_for_somebody_else(line: Line) -> None:
    """A recipient whose key is known must be able to read it (D-08)."""
    await line.send(_content(ALICE), ALICE)
    (first,) = line.session.taken

    with pytest.raises(NotEncryptedForRecipient):
        await line.send(first.header + b"\r\n" + first.body, BOB)

    assert [first] == line.session.taken


@pytest.mark.parametrize("name", ["several-1", "several-2"])
async def test_relay_passes_what_was_encrypted_to_any_usable_certificate(line: Line, name: str) -> None:
    """The client may know the recipient by another good certificate than the one we would choose (D-08)."""
    cert = pysequoia.Cert.from_bytes(keys.certificate(name).data)
    armored = pysequoia.encrypt(recipients=[cert], bytes=b"secret").replace(b"\n", b"\r\n")

    await line.send(b"From: sender@example.com\r\n\r\n" + armored, "several@example.com")

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    assert copy.passed_through


async def test_relay_refuses_a_plain_message_that_a_rule_waited_for(line: Line) -> None:
    """`accept_encrypted` admits a recipient without a key, for an encrypted message only."""
    with pytest.raises(KeyMissing):
        await line.send(_content("x@waits.example"), "x@waits.example")

    assert not line.session.taken


async def test_relay_skips_recipients_who_have_the_message(line: Line) -> None:
    """A retry reaches the rest only, and never the client's own transaction with everybody in it."""
    transaction = await line.begin()
    for recipient in (ALICE, BOB):
        await transaction.admit(parse_mailbox(recipient))

    await transaction.relay(_content(f"{ALICE}, {BOB}"), frozenset({parse_mailbox(ALICE).key}))

    assert [(BOB,)] == [tuple(map(str, copy.recipients)) for copy in line.session.taken]


async def test_relay_passes_what_the_client_encrypted_for_a_recipient_without_a_key(line: Line) -> None:
    """`accept_encrypted`: whose key nobody here knows, the client may have known (D-08)."""
    await line.send(_content(ALICE), ALICE)
    (first,) = line.session.taken
    line.session.taken.clear()

    await line.send(first.header + b"\r\n" + first.body, "x@waits.example")

    assert [first.body] == [copy.body for copy in line.session.taken]


async def test_relay_passes_the_encrypted_message_to_the_rest_only(line: Line) -> None:
    """A retry of what the client encrypted itself reaches nobody twice either."""
    await line.send(_content(f"{ALICE}, {BOB}"), ALICE, BOB)
    (first,) = line.session.taken
    line.session.taken.clear()
    transaction = await line.begin()
    for recipient in (ALICE, BOB):
        await transaction.admit(parse_mailbox(recipient))

    await transaction.relay(first.header + b"\r\n" + first.body, frozenset({parse_mailbox(ALICE).key}))

    assert [(BOB,)] == [tuple(map(str, copy.recipients)) for copy in line.session.taken]


async def test_relay_encrypts_once_to_a_certificate_that_two_recipients_share(line: Line) -> None:
    """A role key of two addresses is one session key packet, as the self-check counts them."""
    await line.send(_content("a@hand.example, b@hand.example"), "a@hand.example", "b@hand.example")

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    assert 1 == len(copy.key_ids)


async def test_relay_removes_a_dkim_signature_from_encrypted_copies_only(line: Line) -> None:
    """Encryption breaks the signature; what leaves as it is keeps it."""
    line.policy = policy(mixed=Mixed.SPLIT)

    await line.send(_content(ALICE, "DKIM-Signature: v=1\r\n"), ALICE, "a@clear.example")

    assert [False, True] == [b"DKIM-Signature" in copy.header for copy in line.session.taken]
    assert b"DKIM" not in decrypted(line.session.taken[0], "curve25519")


@pytest.mark.parametrize(
    ("to", "recipients", "shown"),
    [
        (ALICE, [ALICE], [True]),
        (ALICE, [ALICE, BOB], [True, False]),
        (f"{ALICE}, {BOB}", [ALICE, BOB], [False]),
    ],
)
async def test_received_names_a_recipient_only_who_stands_alone_and_in_the_open(
    to: str, recipients: list[str], shown: list[bool], line: Line
) -> None:
    """Neither a Bcc recipient nor one of several stands in the trace field (T-05)."""
    await line.send(_content(to), *recipients)

    assert shown == [b"\tfor <" in copy.header for copy in line.session.taken]


async def test_received_tells_how_the_message_came(line: Line) -> None:
    """TLS and login of the client stand in the protocol name and the tls clause (T-02, T-03)."""
    await line.send(_content(), ALICE)
    await line.send(_content(), ALICE, client=replace(CLIENT, login=None, tls=""))

    with_both, with_none = (copy.header.split(b";")[0] for copy in line.session.taken)
    assert b"with ESMTPSA id" in with_both
    assert b"tls TLS_AES_256_GCM_SHA384 (TLSv1.3)" in with_both
    assert b"with ESMTP id" in with_none
    assert b"tls" not in with_none


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("recipient", "error"),
    [
        ("nokey@example.com", KeyMissing),
        ("expired-primary@example.com", KeyUnusable),
        ("expired-subkey@maybe.example", None),
        ("a%b@clear.example", BadAddress),
        ('"a@b"@clear.example', BadAddress),
        ("a%b@routes.example", None),
    ],
)
async def test_admit_refuses_what_no_content_can_heal(
    recipient: str, error: type[RelayError] | None, line: Line
) -> None:
    """Each recipient alone is refused at RCPT; the next hop never hears of it."""
    transaction = await line.begin()

    if error is None:
        await transaction.admit(parse_mailbox(recipient))
    else:
        with pytest.raises(error):
            await transaction.admit(parse_mailbox(recipient))

    assert (error is None) == (f"rcpt:{recipient}" in line.session.dialogue)


@pytest.mark.parametrize("domain", ["example.com", "maybe.example"])
async def test_admit_with_the_source_down_is_temporary(domain: str, line: Line) -> None:
    """An outage is 451 under `always` and under `when-possible`."""
    line.source.down = True
    transaction = await line.begin()

    with pytest.raises(KeyLookupFailed):
        await transaction.admit(parse_mailbox(f"x@{domain}"))

    assert not transaction.admissions


async def test_relay_refuses_clear_beside_a_recipient_refused_before(line: Line) -> None:
    """A recipient refused at RCPT still forbids clear copies: the client may have given up on nobody."""
    transaction = await line.begin()
    with pytest.raises(KeyMissing):
        await transaction.admit(parse_mailbox("nokey@example.com"))
    await transaction.admit(parse_mailbox("a@clear.example"))

    with pytest.raises(MixedRefused):
        await transaction.relay(_content("a@clear.example"))

    assert not line.session.taken


@pytest.mark.parametrize("recipient", [parse_mailbox("x@example.com"), None])
async def test_relay_refuses_clear_beside_a_recipient_that_the_edge_turned_away(
    recipient: Address | None, line: Line
) -> None:
    """A recipient over a limit or with bad syntax is a refused one, and its rule counts all the same."""
    transaction = await line.begin()
    transaction.turned_away(recipient)
    await transaction.admit(parse_mailbox("a@clear.example"))

    with pytest.raises(MixedRefused):
        await transaction.relay(_content("a@clear.example"))

    assert not line.session.taken


async def test_relay_forgives_a_turned_away_recipient_under_a_lax_rule(line: Line) -> None:
    """Only a rule that forbids clear copies binds the others."""
    transaction = await line.begin()
    transaction.turned_away(parse_mailbox("x@clear.example"))
    await transaction.admit(parse_mailbox("a@clear.example"))

    await transaction.relay(_content("a@clear.example"))

    assert 1 == len(line.session.taken)


async def test_admit_from_the_null_sender_obeys_the_strictest_sender_entry(line: Line) -> None:
    """`MAIL FROM:<>` is no way around a rule for senders."""
    strict = Entry(name="policy.senders.hr", encrypt=Encrypt.ALWAYS)
    line.policy = policy(encrypt=Encrypt.WHEN_POSSIBLE)
    line.policy = replace(
        line.policy,
        senders=Policy.build(strict, [], [(parse_pattern("*@hr.example"), strict)]).senders,
    )
    transaction = await line.begin(sender=None)

    with pytest.raises(KeyMissing):
        await transaction.admit(parse_mailbox("nokey@example.com"))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (_content(more="Content-Type: text/html\r\n"), MessageRefused),
        (_content(more="From: other@example.com\r\n"), MessageRefused),
        (_content(more="no header\r\n"), MessageRefused),
        (b"Received: x\r\n" * 101 + _content(), LoopDetected),
    ],
)
async def test_relay_refuses_unfit_messages(content: bytes, error: type[RelayError], line: Line) -> None:
    """What is ambiguous or loops is refused before any key is used (M-09, M-10, T-06)."""
    with pytest.raises(error):
        await line.send(content, ALICE)

    assert not line.session.taken


@pytest.mark.parametrize("allowed", [("boss@example.com",), ()])
async def test_relay_refuses_a_foreign_author(allowed: tuple[str, ...], line: Line) -> None:
    """A login that is bound to senders, or to none at all, may not write as somebody else (S-23)."""
    client = replace(CLIENT, login=Login("sender", allowed))

    with pytest.raises(SenderNotAllowed):
        await line.send(_content(), ALICE, client=client)

    assert not line.session.taken


async def test_relay_refuses_more_copies_than_the_budget_ever_holds(line: Line) -> None:
    """Encrypting is under the memory budget, with every copy counted, before it starts."""
    content = _content(ALICE)
    line.ground = replace(line.ground, budget=Budget(2 * ENCRYPT_FACTOR * len(content)))
    await line.send(content, ALICE)

    with pytest.raises(TooManyCopies):
        await line.send(content, ALICE, BOB)

    assert 1 == len(line.session.taken)


@pytest.mark.parametrize(("seconds", "refused"), [(299, False), (301, True)])
async def test_relay_looks_keys_up_again_after_a_long_upload(
    seconds: float, refused: bool, line: Line
) -> None:
    """A key that went away while the message arrived is not used; a moment later it may still be."""
    transaction = await line.begin()
    await transaction.admit(parse_mailbox(ALICE))
    line.clock.advance(seconds)
    line.source.down = True

    if refused:
        with pytest.raises(KeyLookupFailed):
            await transaction.relay(_content())
    else:
        await transaction.relay(_content())

    assert refused != bool(line.session.taken)


# --------------------------------------------------------------------------- faults


def _honest(plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
    certificates = [pysequoia.Cert.from_bytes(verdict.reduced) for verdict in keys]
    return pysequoia.encrypt(plaintext, recipients=certificates).replace(b"\n", b"\r\n")


def _raise(error: BaseException) -> Callable[[bytes, tuple[Verdict, ...]], bytes]:
    def answer(plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
        raise error

    return answer


def _other_key(plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
    return pysequoia.encrypt(plaintext, recipients=[OTHER]).replace(b"\n", b"\r\n")


def _with_password(plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
    certificates = [pysequoia.Cert.from_bytes(verdict.reduced) for verdict in keys]
    return pysequoia.encrypt(plaintext, recipients=certificates, passwords=["x"]).replace(b"\n", b"\r\n")


def _literal(plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
    packet = b"\xcb\xff" + (len(plaintext) + 6).to_bytes(4) + b"b\0\0\0\0\0" + plaintext
    armored = pysequoia.armor(packet, pysequoia.ArmorKind.Message)
    return armored.encode().replace(b"\n", b"\r\n")


LIES: dict[str, Callable[[bytes, tuple[Verdict, ...]], bytes]] = {
    "plaintext": lambda plaintext, keys: plaintext,
    "nothing": lambda plaintext, keys: b"",
    "plaintext behind the armour": lambda plaintext, keys: _honest(plaintext, keys) + plaintext,
    "plaintext before the armour": lambda plaintext, keys: plaintext + _honest(plaintext, keys),
    "another key": _other_key,
    "a password besides": _with_password,
    "an armoured literal": _literal,
    "one key too few": lambda plaintext, keys: _honest(plaintext, keys[:1]),
    "truncated": lambda plaintext, keys: _honest(plaintext, keys)[:-80],
}


@pytest.mark.parametrize("lie", list(LIES))
async def test_relay_with_a_lying_engine_sends_nothing(lie: str, line: Line) -> None:
    """Whatever an engine returns, only ciphertext for exactly the intended keys leaves."""
    line.engine = LyingEngine(LIES[lie])

    with pytest.raises(EncryptionFailed) as caught:
        await line.send(_content(f"{ALICE}, {BOB}"), ALICE, BOB)

    assert 451 == caught.value.reply().code
    assert not line.session.taken


async def test_relay_with_an_honest_stand_in_engine_sends(line: Line) -> None:
    """The control of the lies: the same harness with an honest answer goes through."""
    line.engine = LyingEngine(_honest)

    await line.send(_content(f"{ALICE}, {BOB}"), ALICE, BOB)

    assert MARKER in decrypted(line.session.taken[0], "curve25519")


@pytest.mark.parametrize(
    "error",
    [EncryptionFailed("x"), RuntimeError("x"), MemoryError(), asyncio.CancelledError(), OSError(28, "full")],
)
async def test_relay_with_a_raising_engine_sends_nothing(error: BaseException, line: Line) -> None:
    """Whatever an engine raises comes out as it is, and no byte has left."""
    line.engine = LyingEngine(_raise(error))

    with pytest.raises(type(error)):
        await line.send(_content(), ALICE)

    assert "data" not in line.session.dialogue


async def test_relay_encrypts_every_copy_before_any_content_leaves(line: Line) -> None:
    """When the second copy cannot be encrypted, the first one does not leave either."""
    calls = []

    def second_fails(plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
        calls.append(keys)
        if len(calls) == 2:
            raise EncryptionFailed("x")
        return _honest(plaintext, keys)

    line.engine = LyingEngine(second_fails)

    with pytest.raises(EncryptionFailed):
        await line.send(_content(ALICE), ALICE, BOB)

    assert (2, False) == (len(calls), "data" in line.session.dialogue)


@pytest.mark.parametrize(
    "error", [NextHopRefused(554, "5.7.1", "the message"), NextHopUnavailable(), OutcomeUnknown()]
)
async def test_relay_with_a_failing_next_hop_raises_its_refusal(error: RelayError, line: Line) -> None:
    """No 250 without delivery: the refusal of the content is the client's."""
    line.session = ScriptedSession({"data": [error]})

    with pytest.raises(type(error)):
        await line.send(_content(), ALICE)


async def test_relay_tells_the_sender_of_recipients_that_failed_later(line: Line) -> None:
    """After one copy was taken, a DSN for the rest makes the 250 true (RFC 5321 §4.4)."""
    transaction = await line.begin()
    for recipient in (ALICE, BOB, V6):
        await transaction.admit(parse_mailbox(recipient))
    for recipient in (BOB, V6):
        line.session.script[f"rcpt:{recipient}"] = [NextHopRefused(550, "5.1.1", "the recipient")]

    forwarded = await transaction.relay(_content(ALICE))

    assert [ALICE] == [str(recipient) for recipient in forwarded.delivered]
    notice = line.session.taken[-1]
    assert isinstance(notice, Released)
    assert (SENDER,) == notice.recipients
    assert b"multipart/report" in notice.header
    assert BOB.encode() in notice.body
    assert V6.encode() in notice.body
    copies = [name for name in line.journal.names() if name.startswith("copy_")]
    assert ["copy_delivered", "copy_failed", "copy_failed", "copy_delivered"] == copies  # the last: the DSN
    assert b"5.1.1" in notice.body
    assert MARKER not in notice.body
    assert b"hello" not in notice.body


@pytest.mark.parametrize("sender", [SENDER, None])
async def test_relay_without_a_way_to_tell_the_sender_is_incomplete(
    sender: Address | None, line: Line
) -> None:
    """Nobody who failed is forgotten: without an accepted DSN the client hears 451."""
    transaction = await line.begin(sender=sender)
    await transaction.admit(parse_mailbox(ALICE))
    await transaction.admit(parse_mailbox(BOB))
    line.session.script[f"rcpt:{BOB}"] = [NextHopRefused(550, "5.1.1", "the recipient")]
    line.session.script[f"rcpt:{SENDER}"] = [NextHopUnavailable()]

    with pytest.raises(DeliveryIncomplete) as caught:
        await transaction.relay(_content(ALICE))

    assert (451, [ALICE]) == (caught.value.reply().code, [str(one) for one in caught.value.delivered])


# --------------------------------------------------------------------------- explain


async def test_journal_names_rule_key_and_outcome_of_every_recipient(line: Line) -> None:
    """Each decision is in the log: rule, source, certificate, key IDs; never content (O-02, O-10)."""
    transaction = await line.begin()
    with pytest.raises(KeyMissing):
        await transaction.admit(parse_mailbox("nokey@example.com"))
    await transaction.admit(parse_mailbox(ALICE))
    await transaction.relay(_content())

    assert ["recipient_refused", "recipient_accepted", "copy_delivered"] == line.journal.names()
    accepted, delivered = line.journal.events[1][1], line.journal.events[2][1]
    assert keys.certificate("curve25519").fingerprint == accepted["certificate"]
    assert delivered["key_ids"] == _key_ids(line.session.taken[0])
    assert "hello" not in repr(line.journal.events)
    assert MARKER.decode() not in repr(line.journal.events)


def _key_ids(copy: Sealed | Released) -> str:
    (block,) = armor.blocks(copy.body)
    return " ".join(packets.encrypted_message(block.data).pkesk_ids)


@dataclass
class _PolicyThatTells:
    """The rule of a policy, and in which thread it was asked for."""

    policy: Policy
    threads: list[int] = field(default_factory=list)

    def rule_for(self, sender: Address | None, recipient: Address) -> Rule:
        self.threads.append(threading.get_ident())
        return self.policy.rule_for(sender, recipient)


@pytest.mark.parametrize(("octets", "on_the_loop"), [(0, True), (6000, False)])
async def test_relay_reads_large_keys_off_the_loop(line: Line, octets: int, on_the_loop: bool) -> None:
    """A key of thousands of packets in an Autocrypt field holds no other client up."""
    author = SENDER.text
    data = base64.b64encode(keys.certificate("curve25519").data + packet(13, b"x" * octets)).decode()
    folded = "\r\n ".join(textwrap.wrap(data, 76))
    content = f"From: {author}\r\nAutocrypt: addr={author}; keydata=\r\n {folded}\r\n\r\nhello\r\n"
    client = replace(CLIENT, login=Login("sender", (author,)))
    transaction = await line.begin(client)
    await transaction.admit(parse_mailbox(ALICE))
    tells = _PolicyThatTells(line.policy)
    transaction.parts = replace(transaction.parts, learner=_Pupil(), policy=tells)  # type: ignore[arg-type]

    await transaction.relay(content.encode())

    assert transaction.lesson is not None
    assert [on_the_loop] == [thread == threading.get_ident() for thread in tells.threads]


class _Pupil:
    """A `KeyLearner` that learns nothing."""

    async def hear(
        self, header: Header, sent_at: datetime | None, key_change: KeyChange, *, id: str = ""
    ) -> None:
        pytest.fail("it was not asked")
