"""What stands for a key that cannot be read."""

from __future__ import annotations

from relay.address import parse_mailbox
from relay.keys.unreadable import stand_in
from relay.mime.packets import certificates
from relay.openpgp.judge import Judge
from tests.fakes import FixedClock


def test_stand_in_is_never_usable_and_can_be_stored() -> None:
    """It is judged damaged for every address, and reads back as what it was."""
    found = stand_in("dane")
    (verdict,) = Judge().judge([found], parse_mailbox("ann@example.test"), FixedClock().now())

    assert (False, True) == (verdict.usable, "damaged" in verdict.sentence)
    assert [found] == certificates(found.data, "dane")
    assert "dane" == found.source
