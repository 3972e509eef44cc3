"""The key source `wkd`: the Web Key Directory of the recipient's domain.

Written after draft-koch-openpgp-webkey-service-22; sections below are its own.

What counts as "there is no key", and what does not:

- 404 and 410 of the directory do, and so does a domain without any web server: if the DNS says that neither
  `openpgpkey.DOMAIN` nor `DOMAIN` has an address, nobody publishes keys there. Most domains are of that kind.
- Every other end is "cannot tell": no answer of the DNS or the server, refused connections, bad
  certificates, other statuses. A server that exists and does not serve may well have a key (K-03, K-04).

No SRV records (§5: they let others speak for the domain), no HEAD: it would tell the server no less.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import quote

from relay.keys import answers
from relay.message import Address, Discovered

if TYPE_CHECKING:
    from relay.keys.web import WebClient

_Z_BASE_32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
"""RFC 6189 §5.1.6."""
_ASCII_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_WELL_KNOWN = "/.well-known/openpgpkey"


def wkd_hash(local: str) -> str:
    """The name of a local part in the directory (§3.1): its SHA-1 in Z-Base-32, ASCII letters folded."""
    digest = hashlib.sha1(local.translate(_ASCII_FOLD).encode(), usedforsecurity=False).digest()
    number = int.from_bytes(digest)
    return "".join(_Z_BASE_32[number >> shift & 31] for shift in range(155, -1, -5))


def advanced_path(address: Address) -> str:
    """Where the key is on `openpgpkey.DOMAIN`."""
    return f"{_WELL_KNOWN}/{address.domain}/hu/{wkd_hash(address.local)}"


def direct_path(address: Address) -> str:
    """Where the key is on `DOMAIN`."""
    return f"{_WELL_KNOWN}/hu/{wkd_hash(address.local)}"


def advanced_url(address: Address) -> str:
    """What is asked first (K-02)."""
    return f"https://openpgpkey.{address.domain}{advanced_path(address)}{_parameter(address)}"


def direct_url(address: Address) -> str:
    """What is asked if there is no host `openpgpkey.DOMAIN`."""
    return f"https://{address.domain}{direct_path(address)}{_parameter(address)}"


def _parameter(address: Address) -> str:
    """The local part as it was given: a server may know more of its letter case than the hash tells."""
    return f"?l={quote(address.local, safe='')}"


class WkdSource:
    """A `KeyDiscovery` over the Web Key Directory.

    Args:
        name: as in the configuration.
    """

    def __init__(self, name: str, web: WebClient) -> None:
        self.name = name
        self._web = web

    def cache_key(self, address: Address) -> str:
        """The hash folds ASCII letters, and so do we; `?l=` is a hint for the server."""
        return address.key

    async def discover(self, address: Address) -> Discovered:
        """The certificates of the address, without other people's; see `answers.from_directory`.

        Raises:
            KeySourceUnavailable: it could not be found out.
        """
        if address.domain.startswith("["):
            return Discovered()  # an address literal has no web server with a name to prove
        answer = await self._web.get(advanced_url(address), direct_url(address))
        body = answer.found() if answer else None
        if body is None:
            return Discovered()
        found = await asyncio.to_thread(answers.from_directory, body, self.name, address.key)
        return Discovered(tuple(found))

    async def discover_fingerprint(self, fingerprint: str) -> Discovered:
        """None: a directory knows addresses alone."""
        return Discovered()

    async def close(self) -> None:
        """Nothing is kept open."""
