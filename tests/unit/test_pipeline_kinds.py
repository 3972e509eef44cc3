"""Tests of `relay/pipeline.py`: exemptions, wishes, and readers beside the recipient."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.address import parse_mailbox
from relay.errors import CalendarRefused, KeyLookupFailed, KeyMissing, MixedRefused, ReaderKeyMissing
from relay.merging import Entry
from relay.message import Released, Sealed
from relay.mime.wishes import Wishes
from relay.openpgp.sequoia import SequoiaEngine
from relay.policy import Policy, parse_pattern
from relay.rule import Calendar, Encrypt, Exemption, Mixed
from tests import keys
from tests.line import ALICE, BOB, MARKER, SENDER, V6, Line, decrypted
from tests.mail import armor, crlf, encrypted

NOBODY = "nobody@example.com"
MDN = crlf(
    f"""\
    From: sender@example.com
    To: {ALICE}
    Subject: Read: lunch
    Message-ID: <2@example.com>
    Date: Wed, 25 Nov 2026 10:00:00 +0000
    MIME-Version: 1.0
    Content-Type: multipart/report; report-type=disposition-notification; boundary=b

    --b
    Content-Type: text/plain

    The message was displayed.
    --b
    Content-Type: message/disposition-notification

    Reporting-UA: mail.example; Mail
    Final-Recipient: rfc822;sender@example.com
    Original-Message-ID: <1@example.com>
    Disposition: manual-action/MDN-sent-manually; displayed

    --b
    Content-Type: message/rfc822

    From: a@b.example
    Subject: Lunch

    {MARKER.decode()}
    --b--
    """
)
CALENDAR = crlf(
    """\
    From: sender@example.com
    To: curve25519@example.com
    Subject: Lunch
    MIME-Version: 1.0
    Content-Type: text/calendar; method=REQUEST; charset=utf-8

    BEGIN:VCALENDAR
    PRODID:-//a//b//EN
    VERSION:2.0
    METHOD:REQUEST
    BEGIN:VEVENT
    UID:1@example.com
    DTSTAMP:20261125T100000Z
    DTSTART:20261126T110000Z
    SUMMARY:Lunch
    ORGANIZER:mailto:sender@example.com
    ATTENDEE:mailto:curve25519@example.com
    END:VEVENT
    END:VCALENDAR
    """
)


def _content(subject: str = "Lunch", more: str = "") -> bytes:
    return crlf(f"From: sender@example.com\nTo: {ALICE}\nSubject: {subject}\n{more}\n{MARKER.decode()}\n")


def _policy(*others: tuple[str, dict[str, object]], **fields: object) -> Policy:
    given: dict[str, object] = {"encrypt": Encrypt.ALWAYS, "keys": ("folder",), **fields}
    default = Entry(name="policy.default", **given)  # type: ignore[arg-type]
    entries = [(parse_pattern(name), Entry(name=name, **own)) for name, own in others]  # type: ignore[arg-type]
    return Policy.build(default, entries, [])


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    engine = SequoiaEngine(workers=1)
    yield Line(engine)
    await engine.close()


# --------------------------------------------------------------------------- exemptions

EXEMPT = frozenset({Exemption.MDN})


async def test_relay_exempt_message_leaves_as_it_is_and_is_logged(line: Line) -> None:
    """The report stays readable for machines; what came back in it is cut to its header (D-09)."""
    line.policy = _policy(exempt=EXEMPT)
    await line.send(MDN, ALICE, NOBODY, sender=None)

    (copy,) = line.session.taken
    assert isinstance(copy, Released)
    assert "policy.default (exempt: mdn)" == copy.rule
    assert b"Disposition: manual-action" in copy.body
    assert b"\r\n\r\nFrom: a@b.example\r\nSubject: Lunch\r\n" in copy.body
    assert MARKER not in copy.body
    exempted = [fields for event, fields in line.journal.events if event == "recipient_exempted"]
    assert [(ALICE, "mdn"), (NOBODY, "mdn")] == [(each["recipient"], each["kind"]) for each in exempted]


async def test_relay_message_of_a_kind_that_no_rule_names_is_encrypted(line: Line) -> None:
    """The message never lowers the policy: without the rule's word a report is mail like any other."""
    line.policy = _policy(exempt=frozenset({Exemption.DSN}))
    await line.send(MDN, ALICE, sender=None)

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    assert MARKER in decrypted(copy, "curve25519")


async def test_relay_ordinary_message_to_an_exempting_rule_is_encrypted_or_refused(line: Line) -> None:
    """The recipient that waited for a report does not get a message in clear."""
    line.policy = _policy(exempt=EXEMPT)
    await line.send(_content(), ALICE, sender=None)
    with pytest.raises(KeyMissing):
        await line.send(_content(), NOBODY, sender=None)

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)


async def test_admit_keyless_recipient_is_refused_at_once_where_no_exemption_can_apply(line: Line) -> None:
    """A named sender sends no delivery report, so that nothing is waited for (S-45)."""
    line.policy = _policy(exempt=frozenset({Exemption.DSN}))
    transaction = await line.begin()
    with pytest.raises(KeyMissing):
        await transaction.admit(parse_mailbox(NOBODY))


async def test_relay_exempt_copy_beside_another_always_is_refused(line: Line) -> None:
    """It is a clear copy, and the other rule forbids these, unless it says split."""
    other: dict[str, object] = {"encrypt": Encrypt.ALWAYS}
    line.policy = _policy((BOB, other), exempt=EXEMPT)
    with pytest.raises(MixedRefused):
        await line.send(MDN, ALICE, BOB, sender=None)
    line.policy = _policy((BOB, {**other, "mixed": Mixed.SPLIT}), exempt=EXEMPT)
    await line.send(MDN, ALICE, BOB, sender=None)

    assert {Sealed: BOB, Released: ALICE} == {type(c): str(c.recipients[0]) for c in line.session.taken}


async def test_relay_never_is_not_reduced(line: Line) -> None:
    """Where nothing is encrypted anyway, a report leaves byte for byte."""
    line.policy = _policy(encrypt=Encrypt.NEVER, exempt=EXEMPT)
    await line.send(MDN, ALICE, sender=None)

    assert MDN.endswith(line.session.taken[0].body)


async def test_relay_calendar_is_encrypted_clear_or_refused(line: Line) -> None:
    """The three words of `calendar` (D-13)."""
    for calendar, kind in ((Calendar.ENCRYPT, Sealed), (Calendar.CLEAR, Released)):
        line.policy = _policy(calendar=calendar)
        await line.send(CALENDAR, ALICE)
        assert isinstance(line.session.taken[-1], kind)
    assert CALENDAR.endswith(line.session.taken[-1].body)
    line.policy = _policy(calendar=Calendar.REFUSE)
    beside_text = crlf(
        "From: sender@example.com\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nSee below\n--b\n"
        "Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\n--b--\n"
    )
    for content in (CALENDAR, beside_text):
        with pytest.raises(CalendarRefused):
            await line.send(content, ALICE)


# --------------------------------------------------------------------------- wishes

WISHES = Wishes("X-Encrypt", "[encrypt]", "[clear]")


@pytest.mark.parametrize("content", [_content("[encrypt] Lunch"), _content(more="X-Encrypt: always\n")])
@pytest.mark.parametrize("encrypt", [Encrypt.NEVER, Encrypt.WHEN_POSSIBLE])
async def test_relay_wish_raises_every_rule(line: Line, content: bytes, encrypt: Encrypt) -> None:
    """With it a message is encrypted although the rule would not; without a key it is refused."""
    line.wishes, line.policy = WISHES, _policy(encrypt=encrypt)
    await line.send(content, ALICE)
    with pytest.raises(KeyMissing):
        await line.send(content, NOBODY)
    line.source.down = True
    if encrypt is Encrypt.NEVER:
        with pytest.raises(KeyLookupFailed):
            await line.send(content, ALICE)

    (copy,) = line.session.taken
    inside = decrypted(copy, "curve25519")
    assert b"\r\nSubject: Lunch\r\n" in inside
    assert b"encrypt]" not in copy.header + inside
    assert b"X-Encrypt" not in copy.header + inside


@pytest.mark.parametrize("content", [_content("[clear] Lunch"), _content(more="X-Encrypt: never\n")])
async def test_relay_wish_lowers_only_where_the_rule_allows_it(line: Line, content: bytes) -> None:
    """A message cannot talk the relay out of its policy; the tag is stripped all the same."""
    line.wishes, line.policy = WISHES, _policy()
    await line.send(content, ALICE)
    line.policy = _policy(allow_lower=True)
    await line.send(content, ALICE, NOBODY)

    sealed, released = line.session.taken
    assert (Sealed, Released) == (type(sealed), type(released))
    assert isinstance(released, Released)
    assert "policy.default (lowered by the message)" == released.rule
    assert b"clear]" not in released.header + decrypted(sealed, "curve25519")
    assert b"X-Encrypt" not in released.header + sealed.header + decrypted(sealed, "curve25519")


async def test_relay_wish_that_lowers_spares_whose_rule_does_not_allow_it(line: Line) -> None:
    """Beside a recipient under a plain `always` no clear copy leaves."""
    line.wishes = WISHES
    line.policy = _policy((BOB, {"allow_lower": True}))
    with pytest.raises(MixedRefused):
        await line.send(_content("[clear] Lunch"), ALICE, BOB)


async def test_relay_wish_of_a_message_that_is_encrypted_already_changes_nothing_but_is_stripped(
    line: Line,
) -> None:
    """It needs no key of ours, so that nobody is refused for want of one."""
    line.wishes, line.policy = WISHES, _policy(encrypt=Encrypt.NEVER)
    block = armor(encrypted(), eol="\r\n")
    await line.send(_content("[encrypt] Lunch", "X-Encrypt: always\n").partition(MARKER)[0] + block, NOBODY)

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    assert (True, block) == (copy.passed_through, copy.body)
    assert b"encrypt" not in copy.header


async def test_relay_tag_without_configuration_is_part_of_the_subject(line: Line) -> None:
    """Nothing is looked for, and nothing cut, unless the administrator says so."""
    line.policy = _policy(encrypt=Encrypt.NEVER)
    await line.send(_content("[encrypt] Lunch"), ALICE)

    assert b"\r\nSubject: [encrypt] Lunch\r\n" in line.session.taken[0].header


# --------------------------------------------------------------------------- readers

ARCHIVE = keys.certificate("rsa3072").fingerprint
OWNER = parse_mailbox("p256@example.com")


async def test_relay_also_encrypts_each_copy_to_the_readers(line: Line) -> None:
    """The sender and the archive read every copy, as part of it and not as recipients (R-18)."""
    line.policy = _policy(also_encrypt_to=("sender", ARCHIVE))
    await line.send(_content(), ALICE, V6, sender=OWNER)

    for copy, name in zip(line.session.taken, ("curve25519", "v6"), strict=True):
        assert [MARKER in decrypted(copy, reader) for reader in (name, "p256", "rsa3072")] == [True] * 3
    assert [[ALICE], [V6]] == [[str(each) for each in copy.recipients] for copy in line.session.taken]


async def test_relay_null_sender_is_no_reader(line: Line) -> None:
    """Nobody wrote it, so nobody needs a copy; the archive does."""
    line.policy = _policy(also_encrypt_to=("sender", ARCHIVE))
    await line.send(_content(), ALICE, sender=None)

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    assert 2 == len(copy.key_ids)


@pytest.mark.parametrize("reader", ["sender", "F" * 40, keys.certificate("expired-primary").fingerprint])
async def test_admit_reader_without_a_usable_key_refuses_the_recipient(line: Line, reader: str) -> None:
    """A copy that the archive cannot read is not what the rule demands."""
    line.policy = _policy(also_encrypt_to=(reader,))
    transaction = await line.begin(sender=SENDER)
    with pytest.raises(ReaderKeyMissing):
        await transaction.admit(parse_mailbox(ALICE))

    assert "rcpt" not in line.session.dialogue


async def test_admit_reader_s_key_of_one_rule_is_not_used_under_another(line: Line) -> None:
    """Rules differ in whom they trust: what one found must not serve the other (a bug once)."""
    strict = {"also_encrypt_to": (ARCHIVE,), "keys": ("other",)}
    line.policy = _policy((BOB, strict), also_encrypt_to=(ARCHIVE,))
    transaction = await line.begin()
    await transaction.admit(parse_mailbox(ALICE))
    with pytest.raises(KeyLookupFailed):
        await transaction.admit(parse_mailbox(BOB))


async def test_relay_wish_that_changes_no_rule_is_logged_as_ignored(line: Line) -> None:
    """The log does not say that a message was lowered when it was not."""
    line.wishes, line.policy = WISHES, _policy()
    await line.send(_content("[clear] Lunch"), ALICE)
    line.policy = _policy(allow_lower=True)
    await line.send(_content("[clear] Lunch"), ALICE)

    heard = [(event, fields["rules"]) for event, fields in line.journal.events if event.startswith("wish_")]
    assert [("wish_ignored", ""), ("wish_heeded", "policy.default (lowered by the message)")] == heard


async def test_relay_resent_message_lowers_nothing(line: Line) -> None:
    """What a stranger once wrote into a Subject is no wish of who sends it on."""
    line.wishes, line.policy = WISHES, _policy(allow_lower=True)
    await line.send(_content("[clear] Lunch", "Resent-From: sender@example.com\n"), ALICE)

    assert isinstance(line.session.taken[0], Sealed)


async def test_admit_reader_matters_only_for_encrypted_copies(line: Line) -> None:
    """A message that leaves in clear needs nobody else's key."""
    line.policy = _policy(encrypt=Encrypt.WHEN_POSSIBLE, also_encrypt_to=("sender",))
    await line.send(_content(), NOBODY)

    assert isinstance(line.session.taken[0], Released)
