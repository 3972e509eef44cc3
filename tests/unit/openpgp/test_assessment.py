"""The rules for one certificate, on certificates written by hand: honest, odd and forged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.address import parse_mailbox
from relay.mime.packets import PUBLIC_KEY, PUBLIC_SUBKEY, USER_ID
from relay.openpgp.assessment import primary_ends
from relay.openpgp.judge import Judge
from relay.openpgp.parts import Unusable, merge
from relay.openpgp.signatures import encode
from tests import keys
from tests.forge import MDC_ONLY, Owner, at, raw, subpacket
from tests.opinions import MAILBOX, NOW, OWNER, GnuPG, binding, certificate, judge

DAY = 86400


@pytest.fixture
def gnupg(tmp_path: Path) -> Iterator[GnuPG]:
    program = GnuPG(tmp_path / "h")
    yield program
    program.close()


# --------------------------------------------------------------------------- revocations


SOFT = subpacket(29, b"\x01superseded")


@pytest.mark.parametrize("claims", [MDC_ONLY, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("genuine", [True, False])
def test_assess_revocation_that_claims_to_be_the_owners_counts(claims: bytes, genuine: bool) -> None:
    """Hard or soft, verified or not, and also before a newer binding: a revocation ends the use."""
    revocation = OWNER.sign(0x20, on=at(2025, 3), claims=claims, genuine=genuine)
    data = raw(certificate(binding(on=at(2026))))

    verdict = judge(b"".join([data[0], revocation, *data[1:]]))

    assert "revoked on 2025-03-01" == verdict.sentence


@pytest.mark.parametrize("place", [1, 5])
def test_assess_revocation_in_any_place_counts(place: int) -> None:
    """A revocation that was simply appended to the file counts."""
    data = raw(certificate())
    data.insert(place, OWNER.sign(0x20, on=at(2025, 3)))

    assert "revoked on 2025-03-01" == judge(b"".join(data)).sentence


def test_assess_revocation_by_somebody_else_is_ignored() -> None:
    """A revocation that names another key as issuer cannot make a certificate unusable."""
    stranger = Owner("stranger").fingerprint[-16:]
    revocation = OWNER.sign(0x20, hints=subpacket(16, bytes.fromhex(stranger)), genuine=False)

    assert judge(certificate() + revocation).usable


def test_assess_revocation_by_designated_revoker_counts() -> None:
    """A key that the owner named as revoker is believed although its signature cannot be verified."""
    revoker = bytes.fromhex(Owner("stranger").fingerprint)
    naming = OWNER.sign(0x1F, claims=MDC_ONLY + subpacket(12, b"\x80\x16" + revoker))
    revocation = OWNER.sign(0x20, on=at(2025, 3), hints=subpacket(16, revoker[-8:]), genuine=False)
    data = raw(certificate())

    assert "revoked on 2025-03-01" == judge(b"".join([data[0], naming, revocation, *data[1:]])).sentence


def test_assess_misplaced_subkey_revocation_counts_for_every_subkey() -> None:
    """A subkey revocation that stands on no subkey revokes them all: which one it means is unknown."""
    data = raw(certificate())
    data.insert(1, OWNER.sign(0x28, OWNER.subkey(), on=at(2025, 3)))

    assert "the encryption subkey was revoked on 2025-03-01" == judge(b"".join(data)).sentence


def test_assess_one_subkey_revoked_uses_the_other() -> None:
    """The revocation of one subkey does not touch another."""
    revoked = OWNER.bind(
        OWNER.sign(0x18, OWNER.subkey("old"), flags=b"\x0c"),
        OWNER.sign(0x28, OWNER.subkey("old")),
        label="old",
    )

    verdict = judge(OWNER.start() + revoked + OWNER.bind())

    assert judge(certificate()).subkeys == verdict.subkeys


# --------------------------------------------------------------------------- the newest genuine signature


@pytest.mark.parametrize(("newer", "usable"), [
    (binding(on=at(2025, 6)), True),
    (binding(on=at(2025, 6), key_lasts=10 * DAY), False),
    (binding(on=at(2025, 6), flags=b"\x08"), False),
    (binding(on=at(2025, 6), flags=b"\x20"), False),
    (binding(on=at(2025, 6), flags=None), False),
    (binding(on=at(2025, 6), flags=b"\x20", genuine=False), True),
    (binding(on=at(2025, 6), flags=b"\x08", genuine=False), True),
    (binding(on=at(2025, 6), flags=b"\x08", digest=2), True),
    (binding(on=at(2025, 6), flags=b"\x08", lasts=DAY), True),
    (binding(on=at(2039), flags=b"\x08"), True),
], ids=[
    "again", "expiring", "storage", "login", "no flags", "forged login", "forged storage", "with SHA-1",
    "lapsed", "from the future",
])  # fmt: skip
def test_assess_newest_genuine_binding_decides(newer: bytes, usable: bool) -> None:
    """Of two bindings the newest genuine one counts (R-03); forged, weak, lapsed and future ones do not."""
    older = binding()

    assert [usable, usable] == [
        judge(certificate(older, newer)).usable,
        judge(certificate(newer, older)).usable,
    ]


@pytest.mark.parametrize(
    "stricter", [binding(flags=b"\x08"), binding(key_lasts=30 * DAY)], ids=["storage", "expired"]
)
def test_assess_bindings_of_one_second_the_stricter_counts(stricter: bytes) -> None:
    """Of two genuine bindings with the same date the stricter one counts, in whatever order they stand."""
    pairs = [(binding(), stricter), (stricter, binding())]

    assert [False, False] == [judge(certificate(*pair)).usable for pair in pairs]


@pytest.mark.parametrize(("now", "usable"), [(at(2025, 3), True), (at(2025, 7), False)])
def test_assess_binding_counts_from_its_own_date(now: int, usable: bool) -> None:
    """What the owner says from June on does not hold in March."""
    data = certificate(binding(), binding(on=at(2025, 6), flags=b"\x08"))

    assert usable == judge(data, now=datetime.fromtimestamp(now, UTC)).usable


def test_assess_binding_lapses_by_the_clock_given() -> None:
    """A signature that has expired by now does not count, whatever the machine's clock says."""
    data = certificate(binding(lasts=at(2090) - at(2025)))

    assert [True, False] == [
        judge(data, now=datetime(year, 6, 1, tzinfo=UTC)).usable for year in (2089, 2091)
    ]


def test_assess_reduced_that_reaches_other_subkeys_is_refused() -> None:
    """Where pysequoia would not encrypt to exactly the chosen subkeys, nothing is encrypted.

    Here the clock given and the machine's differ about one of two subkeys.
    """
    brief = OWNER.sign(0x18, OWNER.subkey("brief"), flags=b"\x0c", key_lasts=30 * DAY)
    data = certificate() + OWNER.bind(brief, label="brief")

    verdict = judge(data, now=datetime.fromtimestamp(at(2025, 1, 9), UTC))

    assert "cannot be cut down to its keys for mail" == verdict.sentence


def test_assess_binding_with_sha1_alone_names_the_hash() -> None:
    """A subkey bound with SHA-1 only is refused in words that help its owner, whatever date it bears."""
    owner = Owner("old hand", created=at(2015))
    data = owner.start(user_id=OWNER.user_id) + owner.bind(
        owner.sign(0x18, owner.subkey(), flags=b"\x0c", digest=2)
    )

    assert "the encryption subkey is bound with SHA-1, which is not secure" == judge(data).sentence


def test_assess_expired_subkey_with_honest_binding_is_expired_not_forged() -> None:
    """The probe tells an expired binding from a forged one."""
    verdict = judge(certificate(binding(key_lasts=30 * DAY)))

    assert "the encryption subkey expired on 2025-01-31" == verdict.sentence


def test_assess_subkey_expires_at_the_second() -> None:
    """At its last second it is used, one second later it is not (RFC 9580 §5.2.3.13)."""
    data = certificate(binding(key_lasts=30 * DAY))
    end = datetime.fromtimestamp(at(2025) + 30 * DAY, UTC)
    # Before its end the binding is alive for the relay; pysequoia's clock is the machine's.
    verdicts = [judge(data, now=end - timedelta(seconds=1)), judge(data, now=end)]

    assert [True, False] == [verdict.usable for verdict in verdicts]


def test_assess_subkey_of_another_version_is_skipped() -> None:
    """An unknown subkey and its signatures are skipped, the known one beside it is used (R-12)."""
    unknown = encode(PUBLIC_SUBKEY, b"\x05" + OWNER.subkey()[1:]) + binding()
    oddities = encode(60, b"private") + encode(17, b"attribute") + OWNER.sign(0x13, b"attribute")

    assert len(judge(OWNER.start() + oddities + unknown + OWNER.bind()).subkeys) == 1


# --------------------------------------------------------------------------- User IDs


@pytest.mark.parametrize(("user_id", "address"), [
    ("Bob <bob@example.com>", "BOB@Example.COM"),
    ("Bob <BOB@EXAMPLE.COM>", "bob@example.com"),
    ("bob@example.com", "bob@example.com"),
    ("Bob (work) <bob@example.com>", "bob@example.com"),
    ("<bob@example.com>", "bob@example.com"),
    ("B <bob@bücher.example>", "bob@xn--bcher-kva.example"),
    ("B <bob@xn--bcher-kva.example>", "bob@BÜCHER.example"),
    ('"bob" <"bob"@example.com>', "bob@example.com"),
])  # fmt: skip
def test_assess_user_id_names_the_address_in_another_spelling(user_id: str, address: str) -> None:
    """Letter case, bare addresses, both forms of a domain and quoting do not hide a User ID."""
    data = OWNER.start(OWNER.sign(0x13, user_id.encode()), user_id=user_id.encode()) + OWNER.bind()

    assert judge(data, address=parse_mailbox(address)).usable


@pytest.mark.parametrize(("user_id", "address"), [
    ("<ed00@example.com>", "d00@example.com"),
    ("<bob@example.com.evil.example>", "bob@example.com"),
    ("bob@example.com and others", "bob@example.com"),
    ("bob@example.com <mallory@example.com>", "bob@example.com"),
    ("<bo\u212a@example.com>", "bok@example.com"),
    ("<bob+tag@example.com>", "bob@example.com"),
    ("", "bob@example.com"),
    ("Bob", "bob@example.com"),
])  # fmt: skip
def test_assess_user_id_of_another_address_does_not_match(user_id: str, address: str) -> None:
    """Nothing matches by substring, by Unicode folding, by name or by sub-address."""
    data = OWNER.start(OWNER.sign(0x13, user_id.encode()), user_id=user_id.encode()) + OWNER.bind()

    assert f"has no User ID <{address}>" == judge(data, address=parse_mailbox(address)).sentence


def test_assess_user_id_with_latin1_name_matches_by_address() -> None:
    """A name in an old encoding does not hide the address."""
    user_id = "Jörg <owner@example.com>".encode("latin-1")

    assert judge(OWNER.start(OWNER.sign(0x13, user_id), user_id=user_id) + OWNER.bind()).usable


def test_assess_without_address_needs_no_user_id_but_a_self_signature() -> None:
    """A certificate chosen by hand is taken by any genuine self-signature, and by none other."""
    primary = encode(PUBLIC_KEY, OWNER.primary)
    anonymous = primary + OWNER.sign(0x1F, flags=b"\x01") + OWNER.bind()
    unsigned = primary + OWNER.sign(0x1F, flags=b"\x01", genuine=False) + OWNER.bind()

    verdicts = [judge(data, address=None) for data in (certificate(), anonymous, unsigned)]

    assert ["usable", "usable", "the certificate has no valid self-signature"] == [
        verdict.sentence for verdict in verdicts
    ]


def test_assess_revoked_user_id_leaves_the_others() -> None:
    """With one User ID revoked, the certificate stays usable for another."""
    fixture = keys.fixture("revoked-user-id")

    [verdict] = Judge().judge([fixture.certificate], parse_mailbox("other@example.com"), NOW)

    assert verdict.usable


def test_assess_sentence_with_an_international_address_is_ascii() -> None:
    """An address with letters beyond ASCII is escaped in the sentence."""
    verdict = judge(certificate(), address=parse_mailbox("bücher@example.com"))

    assert "has no User ID <b\\xfccher@example.com>" == verdict.sentence


# --------------------------------------------------------------------------- when a usable verdict ends

_SOON, _LATER = at(2030) - at(2025), at(2031) - at(2025)


def _two_subkeys(first: int, second: int) -> bytes:
    """Subkeys that last so many seconds."""
    return b"".join(
        OWNER.bind(OWNER.sign(0x18, OWNER.subkey(label), flags=b"\x0c", key_lasts=lasts), label=label)
        for label, lasts in (("a", first), ("b", second))
    )


def _start(lasts: int) -> bytes:
    return OWNER.start(OWNER.sign(0x13, OWNER.user_id, key_lasts=lasts))


@pytest.mark.parametrize(("data", "expires"), [
    (certificate(), None),
    (certificate(binding(key_lasts=_SOON)), at(2030)),
    (_start(_SOON) + OWNER.bind(), at(2030)),
    (_start(_LATER) + OWNER.bind(binding(key_lasts=_SOON)), at(2030)),
    (_start(_SOON) + OWNER.bind(binding(key_lasts=_LATER)), at(2030)),
    (OWNER.start() + _two_subkeys(_SOON, _LATER), at(2031)),
    (OWNER.start() + _two_subkeys(_SOON, 0), None),
    (_start(_LATER) + _two_subkeys(_SOON, 0), at(2031)),
    (OWNER.start() + _two_subkeys(_SOON, 30 * DAY), at(2030)),
    (certificate(binding(lasts=_SOON)), at(2030)),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id, lasts=_SOON)) + OWNER.bind(), at(2030)),
    (certificate(binding(key_lasts=_SOON, genuine=False), binding()), None),
    (certificate(binding(key_lasts=0xFFFF_FFFF)), at(2025) + 0xFFFF_FFFF),
], ids=[
    "never", "subkey", "primary", "subkey before primary", "primary before subkey", "later of two",
    "one of two", "primary before one of two", "one of two is gone", "binding lapses", "User ID lapses",
    "forged", "longest",
])  # fmt: skip
def test_assess_verdict_ends_when_no_subkey_is_left(data: bytes, expires: int | None) -> None:
    """The first moment at which the primary key or the last chosen subkey has expired; None: never."""
    moment = None if expires is None else datetime.fromtimestamp(expires, UTC)

    assert moment == judge(data).expires


def test_assess_verdict_ends_at_the_moment_that_it_names() -> None:
    """Until then it is usable, from then on it is not."""
    data = _start(_LATER) + _two_subkeys(_SOON, _LATER)
    end = judge(data).expires
    assert end is not None

    assert [True, False] == [judge(data, now=now).usable for now in (end - timedelta(seconds=1), end)]


@pytest.mark.parametrize(("name", "expires"), [
    ("two-subkeys", None),
    ("primary-for-mail", None),
    ("expired-primary", None),
])  # fmt: skip
def test_assess_fixture_ends(name: str, expires: datetime | None) -> None:
    """What never expires has no end, and what is unusable has none either."""
    fixture = keys.fixture(name)

    assert expires == Judge().judge([fixture.certificate], fixture.address, NOW)[0].expires


def test_primary_ends_of_an_expired_key_is_told() -> None:
    """For what an old key said while it lived, its end matters and is no refusal."""
    merged = merge([_start(30 * DAY) + OWNER.bind()])

    assert at(2025) + 30 * DAY == primary_ends(merged, at(2026))


@pytest.mark.parametrize(("data", "reason"), [
    (encode(PUBLIC_KEY, OWNER.primary) + OWNER.sign(0x20), "revoked"),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id, genuine=False)), "no valid self-signature"),
    (keys.certificate("rsa1024").data, "weak"),
], ids=["revoked", "forged", "weak"])  # fmt: skip
def test_primary_ends_of_what_is_not_believed_raises(data: bytes, reason: str) -> None:
    """A key that may not be believed at any time has no date to give."""
    with pytest.raises(Unusable, match=reason):
        primary_ends(merge([data]), at(2026))


# --------------------------------------------------------------------------- expiry of the primary key

_OTHER = b"other <other@example.com>"


def _with_second_user_id(first: bytes, *second: bytes) -> bytes:
    return OWNER.start(first) + encode(USER_ID, _OTHER) + b"".join(second) + OWNER.bind()


@pytest.mark.parametrize(("data", "usable"), [
    (_with_second_user_id(OWNER.sign(0x13, OWNER.user_id, key_lasts=30 * DAY)), False),
    (_with_second_user_id(
        OWNER.sign(0x13, OWNER.user_id, key_lasts=30 * DAY),
        OWNER.sign(0x13, _OTHER, on=at(2025, 2), key_lasts=9999 * DAY)), True),
    (_with_second_user_id(
        OWNER.sign(0x13, OWNER.user_id, key_lasts=9999 * DAY),
        OWNER.sign(0x13, _OTHER, on=at(2025, 2), key_lasts=30 * DAY)), False),
    (_with_second_user_id(
        OWNER.sign(0x13, OWNER.user_id), OWNER.sign(0x13, _OTHER, key_lasts=30 * DAY)), False),
    (_with_second_user_id(
        OWNER.sign(0x13, OWNER.user_id), OWNER.sign(0x13, _OTHER, key_lasts=30 * DAY, genuine=False)), True),
    (_with_second_user_id(
        OWNER.sign(0x13, OWNER.user_id), OWNER.sign(0x13, _OTHER, key_lasts=30 * DAY),
        OWNER.sign(0x30, _OTHER, on=at(2025, 3))), True),
    (_with_second_user_id(
        OWNER.sign(0x13, OWNER.user_id), OWNER.sign(0x13, _OTHER, key_lasts=30 * DAY),
        OWNER.sign(0x30, _OTHER, on=at(2025, 3), genuine=False)), False),
], ids=["one", "extended", "shortened", "on another", "forged", "withdrawn", "in vain"])  # fmt: skip
@pytest.mark.system
def test_assess_primary_expires_as_gnupg_sees_it(data: bytes, usable: bool, gnupg: GnuPG) -> None:
    """The newest self-signature that states an expiry decides; only a genuine revocation takes it away."""
    verdict = judge(data)

    assert (usable, usable) == (verdict.usable, bool(gnupg.usable(verdict.reduced or data, MAILBOX)))


def test_assess_direct_key_signature_decides_expiry() -> None:
    """Where a genuine direct-key signature states the expiry, User IDs are not asked."""
    data = raw(certificate())
    short = OWNER.sign(0x1F, key_lasts=30 * DAY)
    forged = OWNER.sign(0x1F, key_lasts=30 * DAY, genuine=False)

    verdicts = [judge(b"".join([data[0], extra, *data[1:]])) for extra in (short, forged)]

    assert ["expired on 2025-01-31", "usable"] == [verdict.sentence for verdict in verdicts]
