"""Taking certificates apart and merging their copies."""

from __future__ import annotations

import pytest

from relay.mime.packets import PUBLIC_SUBKEY, USER_ID
from relay.openpgp import parts
from relay.openpgp.parts import MAX_BYTES, MAX_PACKETS, MAX_USER_ID_OCTETS, Unusable, identity, merge
from relay.openpgp.signatures import encode, parse_signature
from tests.forge import Owner, raw, subpacket

OWNER = Owner("owner")
WHOLE = OWNER.start() + OWNER.bind()


def test_merge_files_each_signature_on_its_component() -> None:
    """Primary key, User ID and subkey each get their own signatures."""
    direct = OWNER.sign(0x1F)
    first, *others = raw(WHOLE)

    merged = merge([first + direct + b"".join(others)])

    [user_id], [subkey] = merged.user_ids.values(), merged.subkeys.values()
    assert [0x1F] == [found.type for found in merged.primary.signatures.values()]
    assert [0x13] == [found.type for found in user_id.signatures.values()]
    assert [0x18] == [found.type for found in subkey.signatures.values()]


def test_merge_copies_have_everything_of_each() -> None:
    """Nothing is lost and nothing is doubled, whatever each copy lacks."""
    packets = raw(WHOLE)
    copies = [b"".join(packets[:3]), b"".join([packets[0], *packets[3:]]), WHOLE, WHOLE]

    merged, alone = merge(copies), merge([WHOLE])

    assert list(alone.user_ids) == list(merged.user_ids)
    assert list(alone.subkeys) == list(merged.subkeys)
    assert [1, 1] == [
        len(found.signatures) for found in [*merged.user_ids.values(), *merged.subkeys.values()]
    ]


def test_merge_drops_signatures_of_others_and_on_unknown_packets() -> None:
    """What another key signed, and what stands on a packet that we do not know, is not kept."""
    stranger = subpacket(16, bytes(8))
    theirs = OWNER.sign(0x13, OWNER.user_id, hints=stranger)
    attribute = encode(17, b"picture") + OWNER.sign(0x13, b"picture") + OWNER.sign(0x30, b"picture")

    merged = merge([OWNER.start(theirs) + attribute + OWNER.bind()])

    [user_id] = merged.user_ids.values()
    assert ([], []) == (list(user_id.signatures), list(user_id.revocations))


def test_merge_misplaced_revocation_of_a_user_id_counts_for_all() -> None:
    """Appended behind the subkeys, it could mean any User ID."""
    second = encode(USER_ID, b"second")

    merged = merge([OWNER.start() + second + OWNER.bind() + OWNER.sign(0x30, OWNER.user_id)])

    assert [True, True] == [found.revoked_at is not None for found in merged.user_ids.values()]
    assert merged.primary.revoked_at is None


def test_merge_misplaced_binding_is_dropped() -> None:
    """A binding that stands on no subkey binds nothing."""
    merged = merge([OWNER.start() + OWNER.sign(0x18, OWNER.subkey()) + encode(PUBLIC_SUBKEY, OWNER.subkey())])

    [subkey] = merged.subkeys.values()
    assert {} == subkey.signatures


def test_merge_primary_key_once_more_as_subkey_is_skipped() -> None:
    """It would be encrypted to under an ID that is not a subkey's."""
    graft = encode(PUBLIC_SUBKEY, OWNER.primary) + OWNER.sign(0x18, OWNER.primary, flags=b"\x0c")

    assert {} == merge([OWNER.start() + graft]).subkeys


def test_merge_partial_length_is_damage() -> None:
    """Keys and signatures have no partial lengths (RFC 9580 §4.2.1.4)."""
    partial = bytes([0xC0 | 13, 0xE9]) + bytes(512) + b"\x00"

    with pytest.raises(Unusable, match="damaged"):
        merge([WHOLE + partial])


@pytest.mark.parametrize("tag", [2, 10, 13, 14])
def test_merge_packet_without_a_length_is_damage(tag: int) -> None:
    """It would swallow whatever follows it, a revocation for example (RFC 9580 §4.2.2)."""
    swallowing = bytes([0x83 | tag << 2]) + OWNER.sign(0x20)

    with pytest.raises(Unusable, match="damaged"):
        merge([WHOLE + swallowing])


@pytest.mark.parametrize("tag", [1, 3, 4, 8, 9, 11, 18, 20, 22, 39])
def test_merge_packet_that_must_not_be_ignored_is_damage(tag: int) -> None:
    """Parts of messages and unknown critical packets make the whole unreadable (RFC 9580 §4.3)."""
    with pytest.raises(Unusable, match=f"holds a packet of type {tag}"):
        merge([WHOLE + encode(tag, bytes(20))])


@pytest.mark.parametrize("tag", [10, 12, 17, 21, 40, 60, 63])
def test_merge_packet_that_may_be_ignored_is(tag: int) -> None:
    """Markers, trust, padding, pictures, unknown and private packets do no harm."""
    assert 1 == len(merge([WHOLE + encode(tag, bytes(20))]).subkeys)


@pytest.mark.parametrize("filling", [b"\xca\x00", b"\xfc\x00"], ids=["markers", "private packets"])
def test_merge_too_many_packets_hide_nothing(filling: bytes) -> None:
    """A revocation behind thousands of packets that say nothing is not overlooked: the whole is refused."""
    with pytest.raises(Unusable, match="packets"):
        merge([WHOLE + filling * MAX_PACKETS + OWNER.sign(0x20)])


def test_merge_limits_count_each_copy_and_all_of_them() -> None:
    """One copy may be large, and several together larger."""
    copies = [WHOLE + encode(60, bytes(MAX_BYTES - len(WHOLE) - 16) + bytes([number])) for number in range(5)]

    assert 1 == len(merge(copies[:4]).subkeys)
    with pytest.raises(Unusable, match="together larger"):
        merge(copies)
    with pytest.raises(Unusable, match="is larger"):
        merge([WHOLE + encode(60, bytes(MAX_BYTES))])


def test_merge_huge_user_id_is_skipped_with_its_signatures() -> None:
    """GnuPG does not know it either; what stands on it says nothing."""
    huge = encode(USER_ID, bytes(MAX_USER_ID_OCTETS + 1)) + OWNER.sign(0x13, b"?", key_lasts=9)

    [user_id] = merge([OWNER.start() + huge + OWNER.bind()]).user_ids.values()

    assert (OWNER.user_id, [0]) == (
        user_id.body,
        [found.key_lasts_seconds for found in user_id.signatures.values()],
    )


def test_merge_certifications_of_others_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of them cost nothing: only what may be the owner's is taken apart."""
    read: list[bytes] = []
    monkeypatch.setattr(parts, "parse_signature", lambda body: read.append(body) or parse_signature(body))
    other = Owner("other")
    flood = other.sign(0x10, OWNER.user_id, subject=OWNER.primary) * 1000

    merge([OWNER.start(OWNER.sign(0x13, OWNER.user_id), flood) + OWNER.bind()])

    assert 2 == len(read)


@pytest.mark.parametrize("body", [b"", b"\x03", b"\x04", b"\x06", b"\x04\x13", b"\x06\x30", b"\x05\x13"])
@pytest.mark.parametrize("place", [1, 2, 3, 5])
def test_merge_signature_without_content_is_skipped(body: bytes, place: int) -> None:
    """A signature packet that ends after an octet or two says nothing, wherever it stands."""
    packets = raw(WHOLE)
    packets.insert(place, encode(2, body))

    merged, alone = merge([b"".join(packets)]), merge([WHOLE])

    assert list(alone.subkeys) == list(merged.subkeys)
    assert [1, 1] == [
        len(found.signatures) for found in [*merged.user_ids.values(), *merged.subkeys.values()]
    ]


def test_identity_is_that_of_the_primary_key() -> None:
    """Copies share it, whatever else they hold; different certificates do not."""
    other = Owner("other")

    assert identity(WHOLE) == identity(OWNER.start()) == identity(WHOLE[:-1])
    assert identity(WHOLE) != identity(other.start())
    assert b"rubbish" == identity(b"rubbish")


def test_identity_is_not_searched_for_without_end() -> None:
    """Millions of markers in front of the key are not walked through."""
    markers = b"\xca\x00" * (MAX_PACKETS + 1)

    assert markers + WHOLE == identity(markers + WHOLE)
