"""Says whether a message is a report on TLS in SMTP (RFC 8460 §5.3): its JSON is read and held to the schema.

A report goes where the policy of a domain says, to programs that open no ciphertext. What its schema does not
name, or a value that is no number, host, address or short text, makes it something else. A person could write
at most 4 KiB for people and 4 KiB of words into it; its names and hashes have no room for a blank (256 KiB).
"""

from __future__ import annotations

import ipaddress
import json
import re
import zlib
from collections.abc import Callable, Mapping

from relay.mime.exempt.entity import decoded, media_type, multipart, text
from relay.mime.headers import Message

MAX_TEXT_BYTES = 4096
"""Of the part for people. Those of Google and Microsoft have fewer than 1000."""
MAX_JSON_BYTES = 262_144
MAX_FREE_CHARS = 4096
"""Of all different strings that may be words: names, reasons, links."""

_TYPES = {"application/tlsrpt+gzip": True, "application/tlsrpt+json": False}
"""Whether the content is compressed."""
_HEADER = ("tls-report-domain", "tls-report-submitter")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.){1,20}[A-Za-z0-9-]{2,63}\.?")
_GZIP_MEMBER = b"\x1f\x8b\x08"
_MAX_GZIP_NAME_BYTES = 300
_HAS_NAME = 0x08
"""RFC 1952 §2.3.1: the only optional field of a member that is allowed; a comment would be text."""


def is_tls_report(message: Message) -> bool:
    """Whether every part of the message is that of a TLS report."""
    kind = media_type(message, frozenset({"report-type", "boundary"}))
    if kind is None or kind.value != "multipart/report":
        return False
    if kind.parameters.get("report-type", "").lower() != "tlsrpt" or not _has_header(message):
        return False
    parts = multipart(message, kind)
    if not parts or len(parts) != 2 or text(parts[0], "plain", MAX_TEXT_BYTES) is None:
        return False
    data = media_type(parts[1], frozenset({"name"}))
    content = decoded(parts[1], MAX_JSON_BYTES) if data and data.value in _TYPES else None
    if data is None or content is None:
        return False
    unpacked = _gunzip(content) if _TYPES[data.value] else content
    return unpacked is not None and _is_report(unpacked, _submitter(message))


def _has_header(message: Message) -> bool:
    """Whether both fields of RFC 8460 §5.3 stand there once and name a domain."""
    fields = [message.get(name) for name in _HEADER]
    return all(
        len(found) == 1 and _DOMAIN.fullmatch(found[0].value.decode("utf-8", "replace")) for found in fields
    )


def _submitter(message: Message) -> str:
    return message.get("tls-report-submitter")[0].value.decode("utf-8", "replace").lower()


def _gunzip(content: bytes) -> bytes | None:
    """The only member of a gzip file; None if there is more, or anything but a file name beside it."""
    if not content.startswith(_GZIP_MEMBER) or len(content) < 18 or content[3] & ~_HAS_NAME:
        return None
    if content[3] & _HAS_NAME and content.find(b"\0", 10, 10 + _MAX_GZIP_NAME_BYTES) < 0:
        return None
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(content, MAX_JSON_BYTES)
    except zlib.error:
        return None
    return unpacked if unpacker.eof and not unpacker.unused_data else None


def _is_report(content: bytes, submitter: str) -> bool:
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return False
    if not _is_object(found, _REPORT, _REQUIRED["report"]):
        return False
    domain = found["contact-info"].rpartition("@")[2].lower()
    # RFC 8460 §5.3: it MUST match; reporters put a host of theirs into one of the two.
    is_same = domain == submitter or submitter.endswith("." + domain) or domain.endswith("." + submitter)
    return is_same and sum(len(words) for words in set(_free(found))) <= MAX_FREE_CHARS


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _free(found: object, name: str = "") -> list[str]:
    """Every string that may be words, wherever it stands; the schema bounds the depth."""
    if isinstance(found, dict):
        return [words for key, value in found.items() for words in _free(value, key)]
    if isinstance(found, list):
        return [words for value in found for words in _free(value, name)]
    return [found] if name in _FREE and isinstance(found, str) else []


# --------------------------------------------------------------------------- the schema (RFC 8460 §4.4)

_Check = Callable[[object], bool]


def _is_object(found: object, members: Mapping[str, _Check], required: frozenset[str]) -> bool:
    """Whether it has the required members, no unknown one, and each is what it should be."""
    if not isinstance(found, dict) or not required <= set(found) <= set(members):
        return False
    return all(members[name](value) for name, value in found.items())


def _matches(pattern: str) -> _Check:
    compiled = re.compile(pattern)
    return lambda found: isinstance(found, str) and compiled.fullmatch(found) is not None


def _is_domain(found: object) -> bool:
    return isinstance(found, str) and _DOMAIN.fullmatch(found) is not None


def _is_count(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 53


def _is_ip(found: object) -> bool:
    if not isinstance(found, str):
        return False
    try:
        return "%" not in found and bool(ipaddress.ip_address(found))
    except ValueError:
        return False


def _is_list(found: object, check: _Check) -> bool:
    return isinstance(found, list) and all(check(one) for one in found)


_is_time = _matches(
    r"[0-9]{4}-[0-9][0-9]-[0-9][0-9][Tt][0-9][0-9]:[0-9][0-9]:[0-9][0-9](?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9][0-9]:[0-9][0-9])"
)
_is_words = _matches(r"[^\x00-\x1f\x7f]{0,200}")
_is_link = _matches(r"(?:https?://[!-~]{1,300})?")
_is_pattern = _matches(r"(?:\*\.)?[A-Za-z0-9._-]{1,253}")
_is_policy_line = _matches(
    r"version: ?STSv1|mode: ?(?:testing|enforce|none)|mx: ?[A-Za-z0-9.*_-]{1,255}|max_age: ?[0-9]{1,10}"
    r"|[0-3] [01] [0-2] [0-9A-Fa-f ]{64,2000}|"
)
"""A line of an MTA-STS policy (RFC 8461 §3.2) or a TLSA record (RFC 6698 §2.2)."""

_RESULTS = (
    *(
        "starttls-not-supported",
        "certificate-host-mismatch",
        "certificate-expired",
        "certificate-not-trusted",
    ),
    *("validation-failure", "tlsa-invalid", "dnssec-invalid", "dane-required"),
    *("sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid"),
)
"""RFC 8460 §4.3 and its registry."""

_REQUIRED = {
    "report": frozenset({"organization-name", "date-range", "contact-info", "report-id", "policies"}),
    "date-range": frozenset({"start-datetime", "end-datetime"}),
    "entry": frozenset({"policy", "summary"}),
    "policy": frozenset({"policy-type", "policy-domain"}),
    "summary": frozenset({"total-successful-session-count", "total-failure-session-count"}),
    "failure": frozenset({"result-type", "failed-session-count"}),
}
_FREE = frozenset({"organization-name", "report-id", "failure-reason-code", "additional-information"})
_DATES: Mapping[str, _Check] = {"start-datetime": _is_time, "end-datetime": _is_time}
_COUNTS: Mapping[str, _Check] = dict.fromkeys(_REQUIRED["summary"], _is_count)
_POLICY: Mapping[str, _Check] = {
    "policy-type": _matches("tlsa|sts|no-policy-found"),
    "policy-string": lambda found: _is_list(found, _is_policy_line),
    "policy-domain": _is_domain,
    # Older reports have a string; the RFC, a list.
    "mx-host": lambda found: _is_pattern(found) or _is_list(found, _is_pattern),
}
_FAILURE: Mapping[str, _Check] = {
    "result-type": lambda found: found in _RESULTS,
    "sending-mta-ip": _is_ip,
    "receiving-mx-hostname": _is_pattern,
    "receiving-mx-helo": _is_pattern,
    "receiving-ip": _is_ip,
    "failed-session-count": _is_count,
    "additional-information": _is_link,
    "failure-reason-code": _is_words,
}
_ENTRY: Mapping[str, _Check] = {
    "policy": lambda found: _is_object(found, _POLICY, _REQUIRED["policy"]),
    "summary": lambda found: _is_object(found, _COUNTS, _REQUIRED["summary"]),
    "failure-details": lambda found: _is_list(found, _is_failure),
}
_REPORT: Mapping[str, _Check] = {
    "organization-name": _is_words,
    "date-range": lambda found: _is_object(found, _DATES, _REQUIRED["date-range"]),
    "contact-info": _matches(r"(?:mailto:)?[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,253}"),
    "report-id": _matches(r"[!-~]{1,200}"),
    "policies": lambda found: _is_list(found, lambda one: _is_object(one, _ENTRY, _REQUIRED["entry"])),
}


def _is_failure(found: object) -> bool:
    return _is_object(found, _FAILURE, _REQUIRED["failure"])
