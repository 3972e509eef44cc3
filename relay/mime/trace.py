"""Writes the relay's own Received field (RFC 5321 §4.4).

The client's name in it is text of a stranger: what is not a domain or an address literal is left out.
"""

from __future__ import annotations

import ipaddress
import re

from relay.message import Address

_DOMAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9_])?")
_LITERAL = re.compile(r"\[(?:IPv6:)?[0-9A-Fa-f:.]{2,45}\]")
_NOT_IN_AN_ATOM = re.compile(r"[^A-Za-z0-9._-]")
_TLS_CIPHER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_OPENSSL_GCM = re.compile(r"(ECDHE|DHE)-(ECDSA|RSA)-AES(128|256)-GCM-SHA(256|384)")
_OPENSSL_CHACHA = re.compile(r"(ECDHE|DHE)-(ECDSA|RSA)-CHACHA20-POLY1305")


def received(
    *,
    client_helo: str,
    client_ip: str,
    hostname: str,
    protocol: str,
    tls: str,
    id: str,
    date: str,
    recipient: Address | None,
) -> bytes:
    """One Received field, folded, ended by CRLF.

    Args:
        client_helo: what the client called itself; may be anything.
        client_ip: empty for a unix socket.
        protocol: as `protocol_name` gives it.
        tls: `TLSv1.3 TLS_AES_256_GCM_SHA384`, or empty.
        id: log id of the transaction.
        date: as RFC 5322 §3.3 writes it.
        recipient: the only recipient of this copy, and only if it stands in To or Cc; never a Bcc (T-05).
    """
    lines = [
        f"Received: from {_client(client_helo, client_ip)}",
        f"by {hostname} with {protocol} id {_NOT_IN_AN_ATOM.sub('', id) or 'unknown'}",
    ]
    if recipient and _may_stand_in_for(recipient, protocol):
        lines.append(f"for <{recipient}>")
    if tls:
        lines.append(_tls(tls))
    return ("\r\n\t".join(lines) + f";\r\n\t{date}\r\n").encode()


def protocol_name(*, extended: bool, tls: bool, login: bool, smtputf8: bool) -> str:
    """The transmission type (RFC 3848, RFC 6531 §4.3): `ESMTPSA`, `UTF8SMTPS` …, `SMTP` after HELO."""
    if not extended:
        return "SMTP"
    return ("UTF8SMTP" if smtputf8 else "ESMTP") + ("S" if tls else "") + ("A" if login else "")


def _client(helo: str, ip: str) -> str:
    """Extended-Domain of RFC 5321 §4.4: the client's name, then the address it really came from."""
    named = helo if _DOMAIN.fullmatch(helo) or _LITERAL.fullmatch(helo) else ""
    if not ip:
        return f"{named or 'localhost'} (unix socket)"
    literal = _literal(ip)
    return f"{named or literal or 'unknown'} ({literal or 'unknown address'})"


def _literal(ip: str) -> str:
    """Address literal (RFC 5321 §4.1.3); empty for what is no address."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])  # a scope means nothing to others
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return f"[{address.ipv4_mapped}]" if address.ipv4_mapped else f"[IPv6:{address}]"
    return f"[{address}]"


def _may_stand_in_for(recipient: Address, protocol: str) -> bool:
    return recipient.text.isprintable() and (recipient.is_ascii or protocol.startswith("UTF8"))


def _tls(tls: str) -> str:
    """The `tls` clause (RFC 8314 §4.3) with the registered cipher name; a comment where we do not know it."""
    version, _, cipher = tls.partition(" ")
    if gcm := _OPENSSL_GCM.fullmatch(cipher):
        cipher = "TLS_{}_{}_WITH_AES_{}_GCM_SHA{}".format(*gcm.groups())
    elif chacha := _OPENSSL_CHACHA.fullmatch(cipher):
        cipher = "TLS_{}_{}_WITH_CHACHA20_POLY1305_SHA256".format(*chacha.groups())
    version = _NOT_IN_AN_ATOM.sub("", version)
    if _TLS_CIPHER.fullmatch(cipher):
        return f"tls {cipher} ({version})"
    return f"({version} {_NOT_IN_AN_ATOM.sub('', cipher)})"
