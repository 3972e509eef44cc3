"""What an owner revoked, cut out of certificates, and how the judge counts it beside any other copy."""

from __future__ import annotations

import pytest

from relay.openpgp.revocations import revocations
from tests.forge import Owner, at, raw
from tests.opinions import OWNER, certificate, judge

GOOD = certificate()
KEY = OWNER.sign(0x20, on=at(2026))
SUBKEY = OWNER.sign(0x28, OWNER.subkey(), on=at(2026))
USER_ID = OWNER.sign(0x30, OWNER.user_id, on=at(2026))


def _with(signature: bytes, behind: int) -> bytes:
    """The good certificate with a signature behind one of its packets."""
    packets = raw(GOOD)
    return b"".join([*packets[:behind], signature, *packets[behind:]])


@pytest.mark.parametrize(
    ("signature", "behind"),
    [
        (KEY, 1),
        (KEY, 5),
        (SUBKEY, 5),
        (USER_ID, 3),
        (OWNER.sign(0x20, genuine=False), 1),
    ],
)
def test_revocations_beside_the_good_copy_are_as_the_whole(signature: bytes, behind: int) -> None:
    """Whatever a copy revoked, wherever it stood, the small one takes back as well."""
    whole = _with(signature, behind)
    small = revocations([whole])

    assert judge(whole).sentence == judge(GOOD, small).sentence == judge(small, GOOD).sentence
    assert (True, False) == (judge(GOOD).usable, judge(GOOD, small).usable)
    assert 0 < len(small) < len(whole)


def test_revocations_of_one_subkey_leave_the_other() -> None:
    """What was not revoked may be used."""
    two = GOOD + OWNER.bind(label="second")
    small = revocations([_with(SUBKEY, 5)])

    assert (2, 1) == (len(judge(two).subkeys), len(judge(two, small).subkeys))


@pytest.mark.parametrize(
    "copies", [[], [GOOD], [GOOD, GOOD], [b"garbage"], [GOOD, b""], [Owner("eve").start()]]
)
def test_revocations_where_nothing_was_revoked_are_empty(copies: list[bytes]) -> None:
    """Nothing is raised for any octets."""
    assert b"" == revocations(copies)


def test_revocations_of_strangers_are_not_kept() -> None:
    """Anybody can add a signature that is not the owner's; so nobody fills what is kept."""
    strange = Owner("eve").sign(0x30, OWNER.user_id)

    assert b"" == revocations([_with(strange * 50, 3)])


def test_revocations_are_the_same_in_any_order_and_however_often() -> None:
    """Equal octets say that nothing new was revoked."""
    subkey, key = _with(SUBKEY, 5), _with(USER_ID, 3)
    both = revocations([subkey, key])

    assert both == revocations([key, subkey]) == revocations([GOOD, key, both, subkey]) == revocations([both])


def test_revocations_of_the_key_take_the_place_of_all_others() -> None:
    """One octet string of bounded length, however many there are: the earliest counts."""
    later = OWNER.sign(0x20, on=at(2026, 5))
    many = _with(KEY + later, 1) + SUBKEY

    assert revocations([_with(KEY, 1)]) == revocations([many, _with(later, 1)])
