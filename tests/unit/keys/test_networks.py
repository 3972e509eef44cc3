"""Where a stranger may send the relay, and where not (K-11)."""

from __future__ import annotations

import ipaddress

import pytest

from relay.keys.networks import is_permitted

FORBIDDEN = (
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "168.63.129.16", "172.16.0.1", "192.0.0.9"),
    *(
        "169.254.169.254",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
    ),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:10.0.0.1", "::ffff:93.184.216.34", "::93.184.216.34", "fe80::1", "fe80::1%lo"),
    *("fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "64:ff9b::a00:1", "64:ff9b::5db8:d822"),
    *("64:ff9b:1::1", "100::1", "5f00::1", "2001::1", "2001:20::1", "2001:db8::1", "2002:a00:1::1"),
    *("3fff::1", "4000::1", "2606:4700::1111%lo"),
)
PUBLIC = ("1.1.1.1", "93.184.216.34", "192.0.1.1", "2606:4700::1111", "2a01:4f8::1", "2001:4860::8888")


@pytest.mark.parametrize("address", FORBIDDEN)
def test_is_permitted_special_address_is_not(address: str) -> None:
    """Nothing but the public internet is asked: no private, local, mapped, translated or reserved address."""
    assert not is_permitted(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_is_permitted_public_address_is(address: str) -> None:
    """Public addresses are asked."""
    assert is_permitted(ipaddress.ip_address(address))


def test_is_permitted_allowed_network_is() -> None:
    """What the administrator allows is asked, and its neighbour is not."""
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))

    asked = [
        address
        for address in ("10.1.2.3", "10.2.0.1", "fd12::1", "fc00::1", "::ffff:10.1.2.3")
        if is_permitted(ipaddress.ip_address(address), allowed)
    ]

    assert ["10.1.2.3", "fd12::1"] == asked
