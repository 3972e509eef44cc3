"""Taking certificates apart and merging their copies."""

from __future__ import annotations

import pytest

from relay.mime.packets import PUBLIC_SUBKEY, USER_ID
from relay.openpgp.parts import Unusable, identity, merge
from relay.openpgp.signatures import encode
from tests.forge import Owner, raw, subpacket

OWNER = Owner("owner")
WHOLE = OWNER.start() + OWNER.bind()


def test_merge_files_each_signature_on_its_component() -> None:
    """Primary key, User ID and subkey each get their own signatures."""
    direct = OWNER.sign(0x1F)
    first, *others = raw(WHOLE)

    parts = merge([first + direct + b"".join(others)])

    [user_id], [subkey] = parts.user_ids.values(), parts.subkeys.values()
    assert [0x1F] == [found.type for found in parts.primary.signatures.values()]
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

    parts = merge([OWNER.start(theirs) + attribute + OWNER.bind()])

    [user_id] = parts.user_ids.values()
    assert ([], []) == (list(user_id.signatures), list(user_id.revocations))


def test_merge_misplaced_revocation_of_a_user_id_counts_for_all() -> None:
    """Appended behind the subkeys, it could mean any User ID."""
    second = encode(USER_ID, b"second")

    parts = merge([OWNER.start() + second + OWNER.bind() + OWNER.sign(0x30, OWNER.user_id)])

    assert [True, True] == [found.revoked_at is not None for found in parts.user_ids.values()]
    assert parts.primary.revoked_at is None


def test_merge_misplaced_binding_is_dropped() -> None:
    """A binding that stands on no subkey binds nothing."""
    parts = merge([OWNER.start() + OWNER.sign(0x18, OWNER.subkey()) + encode(PUBLIC_SUBKEY, OWNER.subkey())])

    [subkey] = parts.subkeys.values()
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


def test_identity_is_that_of_the_primary_key() -> None:
    """Copies share it, whatever else they hold; different certificates do not."""
    other = Owner("other")

    assert identity(WHOLE) == identity(OWNER.start()) == identity(WHOLE[:-1])
    assert identity(WHOLE) != identity(other.start())
    assert b"rubbish" == identity(b"rubbish")
