"""What owners say that they can read: believed only where it is signed, and read as narrowly as possible."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay.address import parse_mailbox
from relay.message import Verdict
from relay.mime.packets import PUBLIC_KEY, USER_ID
from relay.openpgp.signatures import encode
from tests import keys
from tests.fakes import FixedClock
from tests.forge import MDC_ONLY, SEIPD2, Owner6, at, raw, subpacket
from tests.opinions import OWNER, judge

SIX = Owner6("six")
NOTHING = b""
FEATURES_OF_GNUPG = subpacket(30, b"\x07")


def verdict_on(name: str) -> Verdict:
    """The verdict on a fixture."""
    fixture = keys.fixture(name)
    return judge(fixture.certificate.data, address=fixture.address, now=FixedClock().now())


def four(on_user_id: bytes = NOTHING, direct: bytes | None = None, on_subkey: bytes = NOTHING) -> Verdict:
    """The verdict on a version 4 certificate with these subpackets; no direct-key signature for None."""
    signed = OWNER.sign(0x13, OWNER.user_id, flags=b"\x01", claims=on_user_id)
    start = raw(OWNER.start(signed))
    if direct is not None:
        start.insert(1, OWNER.sign(0x1F, claims=direct))
    binding = OWNER.sign(0x18, OWNER.subkey(), flags=b"\x0c", claims=on_subkey)
    return judge(b"".join(start) + OWNER.bind(binding))


def six(direct: bytes, on_user_id: bytes = NOTHING) -> Verdict:
    """The same of version 6."""
    data = raw(SIX.certificate(features=direct))
    data[3] = SIX.sign(0x13, SIX.user_id, claims=on_user_id)
    return judge(b"".join(data), address=parse_mailbox("six@example.com"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("curve25519", False),
        ("no-features", False),
        ("features-7", False),
        ("features-9", True),
        ("features-unhashed", False),
        ("forged-features", False),
        ("v6", True),
        ("v6-no-features", True),
        ("pqc", True),
    ],
)
def test_allows_v2_of_the_fixtures(name: str, expected: bool) -> None:
    """P-17, P-18, R-14: bit 0x08 in a genuine hashed area, or version 6 without a word."""
    assert expected is verdict_on(name).allows_v2


@pytest.mark.parametrize("bits", range(16))
def test_allows_v2_bit_8_alone_decides(bits: int) -> None:
    """P-18: the bits of GnuPG and the reserved ones say nothing."""
    assert bool(bits & 8) is four(subpacket(30, bytes([bits]))).allows_v2


@pytest.mark.parametrize("octets", [b"", b"\x00\x08", b"\x08\x00\x00"])
def test_allows_v2_first_octet_counts(octets: bytes) -> None:
    """Features have any length; what is not stated is zero, and other octets are other features."""
    assert octets.startswith(b"\x08") is four(subpacket(30, octets)).allows_v2


@pytest.mark.parametrize(
    ("on_user_id", "direct", "expected"),
    [
        (NOTHING, None, False),
        (NOTHING, NOTHING, False),
        (NOTHING, SEIPD2, True),
        (NOTHING, MDC_ONLY, False),
        (SEIPD2, MDC_ONLY, True),
        (MDC_ONLY, SEIPD2, False),
    ],
)
def test_allows_v2_version_4_narrowest_statement_decides(
    on_user_id: bytes, direct: bytes | None, expected: bool
) -> None:
    """R-13: the User ID first, then the key as such (RFC 9580 §5.2.3.10); silence is a no."""
    assert expected is four(on_user_id, direct).allows_v2


@pytest.mark.parametrize(
    ("direct", "on_user_id", "expected"),
    [
        (NOTHING, NOTHING, True),
        (SEIPD2, NOTHING, True),
        (MDC_ONLY, NOTHING, False),
        (NOTHING, MDC_ONLY, False),
        (MDC_ONLY, SEIPD2, True),
    ],
)
def test_allows_v2_version_6_silence_is_a_yes(direct: bytes, on_user_id: bytes, expected: bool) -> None:
    """P-17: a version 6 key that says nothing is read by programs of RFC 9580, unless it says otherwise."""
    assert expected is six(direct, on_user_id).allows_v2


def test_allows_v2_statement_on_a_subkey_does_not_count() -> None:
    """Features belong to the owner's programs, not to one subkey."""
    assert not four(NOTHING, None, SEIPD2).allows_v2


def test_allows_v2_forged_direct_key_signature_does_not_count() -> None:
    """Only what was found genuine speaks."""
    start = raw(OWNER.start(OWNER.sign(0x13, OWNER.user_id, flags=b"\x01", claims=NOTHING)))
    start.insert(1, OWNER.sign(0x1F, claims=SEIPD2, genuine=False))

    assert not judge(b"".join(start) + OWNER.bind()).allows_v2


def test_allows_v2_newest_statement_counts() -> None:
    """Who took a feature back does not have it any more (RFC 9580 §5.2.3.10)."""
    older = OWNER.sign(0x13, OWNER.user_id, flags=b"\x01", claims=SEIPD2)
    newer = OWNER.sign(0x13, OWNER.user_id, flags=b"\x01", claims=MDC_ONLY, on=at(2025, 6))

    assert [False, True] == [
        judge(OWNER.start(*signatures) + OWNER.bind()).allows_v2 for signatures in ([older, newer], [older])
    ]


def _two_names(order: Sequence[int], *primary: bytes) -> bytes:
    """old@ reads version 1, new@ version 2; `primary` are the further claims on each."""
    names = [
        encode(USER_ID, name) + OWNER.sign(0x13, name, flags=b"\x01", claims=claims + further)
        for name, claims, further in zip(
            (b"<old@b.example>", b"<new@b.example>"), (MDC_ONLY, SEIPD2), primary, strict=True
        )
    ]
    return encode(PUBLIC_KEY, OWNER.primary) + b"".join(names[each] for each in order) + OWNER.bind()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(("mailbox", "expected"), [("old@b.example", False), ("new@b.example", True)])
def test_allows_v2_is_that_of_the_name_by_which_the_key_was_found(
    order: Sequence[int], mailbox: str, expected: bool
) -> None:
    """R-13: two names of one key may be read by different programs."""
    data = _two_names(order, NOTHING, NOTHING)

    assert expected is judge(data, address=parse_mailbox(mailbox)).allows_v2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("main", [0, 1])
def test_allows_v2_chosen_by_hand_is_that_of_the_main_name(order: Sequence[int], main: int) -> None:
    """A key that is named by its fingerprint is asked for its primary User ID's (RFC 9580 §5.2.3.10)."""
    claims = [NOTHING, NOTHING]
    claims[main] = subpacket(25, b"\x01")

    assert bool(main) is judge(_two_names(order, *claims), address=None).allows_v2


@pytest.mark.parametrize(
    ("name", "expected"),
    [("v6", True), ("pqc", True), ("v6-no-features", True), ("features-9", False), ("curve25519", False)],
)
def test_needs_v2_is_for_strong_keys(name: str, expected: bool) -> None:
    """A version 4 key that can read version 2 loses little in a shared version 1 message."""
    assert expected is verdict_on(name).needs_v2


def test_needs_v2_not_where_it_is_not_allowed() -> None:
    """A version 6 key whose owner says version 1 needs no copy of its own."""
    assert not six(MDC_ONLY).needs_v2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v6", True),
        ("pqc", True),
        ("features-7", True),
        ("features-9", False),
        ("no-features", False),
        ("curve25519", False),
        ("rsa3072", False),
        ("p256", False),
    ],
)
def test_needs_sequoia_for_what_gnupg_cannot_or_must_not_write(name: str, expected: bool) -> None:
    """Version 6, and keys to which GnuPG 2.4 would write LibrePGP's container (P-16)."""
    assert expected is verdict_on(name).needs_sequoia


def test_needs_sequoia_libre_pgp_announced_by_the_key_as_such() -> None:
    """Whichever signature GnuPG looks at."""
    assert four(MDC_ONLY, FEATURES_OF_GNUPG).needs_sequoia


_WARNING = "does not list AES-256, with which engine: sequoia encrypts all the same"


@pytest.mark.parametrize(
    ("claims", "warned"),
    [
        (NOTHING, False),
        (subpacket(11, b"\x09\x07"), False),
        (subpacket(11, b"\x07"), True),
        (subpacket(11, b"\x0d"), True),
        (subpacket(11, b""), True),
        (subpacket(39, b"\x07\x02"), False),
        (SEIPD2 + subpacket(39, b"\x07\x02"), True),
        (SEIPD2 + subpacket(39, b"\x07\x09\x02\x09"), True),
        (SEIPD2 + subpacket(39, b"\x07\x02\x09\x02"), False),
        (SEIPD2 + subpacket(39, b"\x09\x03"), True),
        (SEIPD2 + subpacket(11, b"\x07"), False),
    ],
)
def test_leaves_out_aes_256_is_a_warning(claims: bytes, warned: bool) -> None:
    """P-20: what cannot be honoured is said, for the version that will be written."""
    assert ((_WARNING,) if warned else ()) == four(claims).warnings


@pytest.mark.parametrize(
    ("on_user_id", "direct", "expected"),
    [
        (NOTHING, None, False),
        (subpacket(11, b"\x07\x09"), None, True),
        (subpacket(11, b"\x07"), None, False),
        (subpacket(11, b"\x07"), subpacket(11, b"\x09"), False),
        (NOTHING, subpacket(11, b"\x09"), True),
        (subpacket(39, b"\x09\x02"), None, False),
    ],
)
def test_lists_aes_256_only_where_it_is_said(on_user_id: bytes, direct: bytes | None, expected: bool) -> None:
    """P-20, R-13: silence is AES-128 (RFC 9580 §12.2); the narrowest list counts."""
    assert expected is four(on_user_id, direct).lists_aes_256
