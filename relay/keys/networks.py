"""Which addresses a stranger's host name may lead to: public ones, and those that the administrator allows.

The domain of a recipient, and every redirect of its web server, chooses where the relay connects to. Without
this guard anyone could make it ask a router, a neighbour container or a cloud's metadata service.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that IANA has assigned to the public internet. Outside of it stand, beside loopback, ULA (fc00::/7),
link-local and multicast: IPv4-mapped and -compatible addresses, NAT64 (64:ff9b::/96, 64:ff9b:1::/48),
site-local (fec0::/10) and segment routing (5f00::/16), some of which `is_global` takes for public."""

_SPECIAL: tuple[IPNetwork, ...] = (
    ipaddress.IPv4Network("168.63.129.16/32"),  # the host below each virtual machine of Azure
    ipaddress.IPv4Network("192.0.0.0/24"),  # RFC 6890, with exceptions in which nobody serves keys
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays (RFC 7526)
    ipaddress.IPv6Network("2001::/23"),  # Teredo, ORCHID and other protocols of RFC 2928
    ipaddress.IPv6Network("2001:db8::/32"),  # documentation (RFC 3849)
    ipaddress.IPv6Network("2002::/16"),  # 6to4: an IPv4 address, maybe a private one, stands in it (RFC 3056)
    ipaddress.IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)
"""Inside of what `is_global` calls public in some version of Python, and no place for a stranger's server."""


def is_permitted(address: IPAddress, allowed: Iterable[IPNetwork] = ()) -> bool:
    """Whether the relay may connect to it.

    Args:
        allowed: networks of `allow_networks`. An IPv4 network does not allow the IPv6 addresses in which an
            address of it stands.
    """
    if any(address in network for network in allowed):
        return True
    if any(address in network for network in _SPECIAL) or address.is_multicast or not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return address in _GLOBAL_UNICAST and address.scope_id is None
    return True
