"""Parses the addresses of SMTP commands (RFC 5321 §4.1.2, RFC 6531 §3.3) and of header fields into `Address`.

Both forms of a domain, U-label and A-label, become one; quoted local parts are unquoted. A local part is not
normalised beyond that: only the destination may interpret it (RFC 5321 §2.3.11), so the long s, the Kelvin
sign and the dotless i stay themselves. Nothing here looks anything up.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

import idna

from relay.errors import AddressSyntax, BadAddress, DomainNotQualified
from relay.message import Address

_MAX_OCTETS = 320
"""A whole address. RFC 5321 §4.5.3.1.3 says 254, but U-labels can take more octets than A-labels."""

_MAX_LOCAL_OCTETS = 128
"""RFC 5321 §4.5.3.1.1 says 64 and wishes receivers to be liberal: VERP and SRS senders are often longer."""

_MAX_DOMAIN_OCTETS = 253

_MAX_USER_ID_CHARS = 2048
"""A longer User ID names no mailbox; no mail program makes them."""

_ANGLE = re.compile(r"<([^<>]*)>")

# RFC 5322 §3.2.3 and RFC 6532 §3.2; which non-ASCII characters are fit to stand in an address is asked below.
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_DOT_STRING = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
# RFC 5321 §4.1.2 Quoted-string, with UTF8-non-ascii of RFC 6531 §3.3
_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e\x80-\U0010ffff]|\\[\x20-\x7e])+)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
# RFC 5321 §4.1.2 sub-domain, in lower case. Labels such as `ab--cd` exist, so IDNA is not asked about ASCII.
_LDH_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_JOINERS = "\u200c\u200d"
"""Invisible, but needed to spell words of Indic scripts and Persian."""
_ROUTING = frozenset("%!@")


class _NotQualified(ValueError):
    """A domain of one label: it means something else on every host."""


def parse_path(text: str) -> Address:
    """What stands between `<` and `>` in MAIL or RCPT.

    Args:
        text: decoded; not empty (the null sender `<>` is for the caller to know).

    Raises:
        BadAddress: a source route (RFC 5321 §4.1.1.3 lets us refuse it) or an unquoted second `@`.
        DomainNotQualified: the domain has one label only (RFC 6409 §4.2).
        AddressSyntax: anything else that is not `local-part@domain`.
    """
    local, _, _ = text.rpartition("@")
    if (text.startswith("@") and ":" in text) or ("@" in local and not local.startswith('"')):
        raise BadAddress(address=text)
    try:
        return parse_mailbox(text)
    except _NotQualified as exc:
        raise DomainNotQualified(address=text) from exc
    except ValueError as exc:
        raise AddressSyntax(address=text, reason=str(exc)) from exc


def parse_mailbox(text: str) -> Address:
    """An addr-spec of a header field or of the configuration, without comments and white space around it.

    Raises:
        ValueError: it is none; the text says why, in our own words.
    """
    if len(text.encode(errors="replace")) > _MAX_OCTETS:
        raise ValueError(f"it is longer than {_MAX_OCTETS} octets")
    if not all(char.isprintable() or char in _JOINERS for char in text):
        raise ValueError("it holds a control character or an invisible one")
    local, at, domain = text.rpartition("@")
    if not at or not domain:
        raise ValueError("it has no domain after an @")
    return Address(text, _unquote(local), parse_domain(domain))


def user_id_key(text: str) -> str | None:
    """`Address.key` of the mailbox in an OpenPGP User ID, None where it names none.

    `Bob <bob@example.com>` or `bob@example.com`: what stands in the last angle brackets, or else the whole
    text; never a part of it. Key sources find by this and the judge accepts by this, so that a certificate
    which the judge would take is never missed.
    """
    mailboxes = _ANGLE.findall(text) if len(text) <= _MAX_USER_ID_CHARS else []
    try:
        return parse_mailbox((mailboxes[-1] if mailboxes else text).strip()).key
    except ValueError:
        return None


def parse_domain(text: str) -> str:
    """The domain of an address as `Address.domain` has it: A-labels, lower case, or a literal in brackets.

    Raises:
        ValueError: it is not a fully qualified domain or an address literal; the text says why.
    """
    if text.startswith("["):
        return _literal(text)
    mapped = _map(text)
    labels = mapped.removesuffix(".").split(".")
    domain = ".".join(_a_label(label) for label in labels)
    if len(domain) > _MAX_DOMAIN_OCTETS:
        raise ValueError(f"its domain is longer than {_MAX_DOMAIN_OCTETS} octets")
    if len(labels) == 1:
        raise _NotQualified("its domain is not fully qualified: it has no dot")
    if labels[-1].isdigit():
        raise ValueError("its domain ends in a number; an IP address stands in brackets")
    return domain


def has_routing(address: Address) -> bool:
    """Whether the local part holds `%`, `!` or `@`, which some servers read as a route to another place.

    Compatibility forms such as the full-width commercial at count: a server that folds them would route too.
    """
    return not _ROUTING.isdisjoint(unicodedata.normalize("NFKC", address.local))


def _unquote(local: str) -> str:
    """The local part without quoting, so that `"b\\ob"` and `bob` are one."""
    if not local:
        raise ValueError("it has nothing before the @")
    if len(local.encode(errors="replace")) > _MAX_LOCAL_OCTETS:
        raise ValueError(f"the part before the @ is longer than {_MAX_LOCAL_OCTETS} octets")
    if _DOT_STRING.fullmatch(local):
        return local
    quoted = _QUOTED.fullmatch(local)
    if not quoted:
        raise ValueError(
            "the part before the @ holds a character that needs quotes, or its quoting is broken"
        )
    return _QUOTED_PAIR.sub(r"\1", quoted[1])


def _map(domain: str) -> str:
    """The domain after the mapping of UTS 46: lower case, NFC, full-width letters and dots as ASCII ones.

    Mail servers with SMTPUTF8 map domains in this way before they look them up; a rule has to match the
    domain that the mail will reach.
    """
    try:
        return idna.uts46_remap(domain)
    except UnicodeError as exc:
        raise ValueError("its domain holds a character that domains may not have") from exc


def _a_label(label: str) -> str:
    try:
        encoded = label if label.isascii() else idna.alabel(label).decode("ascii")
    except UnicodeError as exc:
        raise ValueError("a label of its domain is not a valid international name (IDNA 2008)") from exc
    if not _LDH_LABEL.fullmatch(encoded):
        raise ValueError(
            "its domain has an empty or too long label, or one with a character that may not stand there"
        )
    return encoded


def _literal(text: str) -> str:
    """An address literal (RFC 5321 §4.1.3) in the one spelling that `ipaddress` writes."""
    content = text[1:-1].lower() if text.endswith("]") else ""
    try:
        if content.startswith("ipv6:") and "%" not in content:  # a zone index is valid on one host only
            return f"[ipv6:{ipaddress.IPv6Address(content[5:])}]"
        return f"[{ipaddress.IPv4Address(content)}]"
    except ValueError as exc:
        raise ValueError("its address literal is not [192.0.2.1] or [IPv6:2001:db8::1]") from exc
