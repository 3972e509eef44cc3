"""Reads what web directories and key servers answered: bytes of strangers in, certificates out.

Whatever the bytes are, the result is a list or `KeySourceUnavailable`. They are bounded before they come here
(`web.WebClient`); reading a mebibyte of tiny packets still takes a moment: call it in a thread.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import islice

from relay.address import user_id_key
from relay.errors import KeySourceUnavailable
from relay.keys.index import address_keys, blocks, parse
from relay.keys.trimming import only_user_id
from relay.keys.unreadable import stand_in
from relay.message import Certificate
from relay.mime import packets
from relay.mime.packets import Malformed

MAX_CERTIFICATES = 20
"""Of one address. A directory holds a current one and some that were revoked."""

_MAX_PACKETS = 20_000
"""Of all certificates of an answer; the judge takes half as many of one."""


def from_directory(body: bytes, source: str, address_key: str) -> list[Certificate]:
    """The certificates of a domain's own directory, about this address and nobody else; at least one.

    As `from_exact`, but an answer that cannot be read is a certificate that the judge calls damaged. The
    server is the domain's own, so the sender hears whose fault it is; and one that answers every question
    with a page is not known to have no key, since that page can also be a maintenance notice.
    """
    try:
        found = parse_bounded(body, source)
    except Malformed:
        return [stand_in(source)]
    return _exact(found, address_key)


def from_exact(body: bytes, source: str, address_key: str) -> list[Certificate]:
    """The certificates of an answer that promises to be about the address; at least one.

    Other User IDs are dropped, and so are certificates for others where there is one for the address. If
    every certificate is for somebody else, they are given as they came, and the judge says that the address
    is missing: "none" would let a wrong file on the server release mail in clear.

    Raises:
        KeySourceUnavailable: it cannot be read, or is more than anyone has; what stands past the limit could
            be a revocation.
    """
    return _exact(_parsed(body, source), address_key)


def from_search(body: bytes, source: str, address_key: str) -> list[Certificate]:
    """The certificates for this address among those that a key server found to be similar; maybe none.

    Key servers that let anyone upload hold any number of certificates for an address; the first
    `MAX_CERTIFICATES` are taken.

    Raises:
        KeySourceUnavailable: the answer cannot be read. It is the server's fault and not the recipient's.
    """
    mine = [found for found in _parsed(body, source) if address_key in address_keys(found)]
    return _trimmed(mine[:MAX_CERTIFICATES], address_key)


def with_fingerprint(body: bytes, source: str, fingerprint: str) -> list[Certificate]:
    """The certificate with this fingerprint in the answer, if it is there, maybe without User IDs.

    Raises as `from_search`.
    """
    named = [found for found in _parsed(body, source) if fingerprint and found.fingerprint == fingerprint]
    return _few(named)


def parse_bounded(body: bytes, source: str) -> list[Certificate]:
    """As `index.parse`, of something that a stranger may have filled with tiny packets.

    Raises:
        Malformed: as `index.parse`.
        KeySourceUnavailable: it would take too long.
    """
    with contextlib.suppress(Malformed):  # `parse` says it better, at the same place
        found = (packet for block in blocks(body) for packet in packets.walk(block))
        if sum(1 for _ in islice(found, _MAX_PACKETS + 1)) > _MAX_PACKETS:
            raise KeySourceUnavailable(f"it answered with more than {_MAX_PACKETS} packets")
    return parse(body, source)


def _exact(found: list[Certificate], address_key: str) -> list[Certificate]:
    return _trimmed(_few(found), address_key) or found


def _few(found: list[Certificate]) -> list[Certificate]:
    if len(found) > MAX_CERTIFICATES:
        raise KeySourceUnavailable(f"it answered with more than {MAX_CERTIFICATES} certificates")
    return found


def _parsed(body: bytes, source: str) -> list[Certificate]:
    try:
        return parse_bounded(body, source)
    except Malformed as exc:
        raise KeySourceUnavailable("its answer is not a readable OpenPGP certificate") from exc


def _trimmed(found: list[Certificate], address_key: str) -> list[Certificate]:
    """Those for the address, without their other User IDs."""
    cut = [(certificate, only_user_id(certificate.data, address_key)) for certificate in found]
    return [_with(certificate, data, address_key) for certificate, data in cut if data is not None]


def _with(certificate: Certificate, data: bytes, address_key: str) -> Certificate:
    kept = tuple(user_id for user_id in certificate.user_ids if user_id_key(user_id) == address_key)
    return replace(certificate, data=data, user_ids=kept)
