"""Says whether a message is of a shape that a rule may exempt from encryption, strictly and without I/O.

What is exempt leaves in clear, so a label never counts: every part and every field has to be what the
standard of that kind describes, nothing may stand beside it, and free text is limited. Anything in doubt is
not exempt. A person could always write 48 KiB into the header (8 KiB of a report under an address, 40 KiB of
any other report): 16 KiB in fields of any name and 32 KiB in those of servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.message import Address
from relay.mime.exempt import measure
from relay.mime.exempt.calendar import holds_calendar, is_calendar
from relay.mime.exempt.lists import is_list_traffic_for, is_redistributed
from relay.mime.exempt.machines import is_notice
from relay.mime.exempt.origin import may_send
from relay.mime.exempt.reports import report
from relay.mime.exempt.returned import reduced
from relay.mime.exempt.tlsreport import is_tls_report
from relay.mime.exempt.wkd import is_confirmation_request
from relay.mime.headers import Message
from relay.rule import Exemption

__all__ = ["MAX_BYTES", "exemptions", "holds_calendar", "is_list_traffic_for", "reduced"]

MAX_BYTES = 262_144
"""Of the body, without a message that comes back in a report."""
MAX_HEADER_BYTES = 16_384
"""Of the fields that are not written by servers on the way. Enough for 200 attendees in To."""
MAX_REPORT_HEADER_BYTES = 8192
"""Of those of a report, which has one recipient."""
MAX_SUBJECT_BYTES = 500

_TEXT_ALONE = frozenset({"comments", "keywords"})
"""Fields that no machine writes, and in which there is nothing but text."""
_MIME_VERSION = re.compile(rb"1\.0(?:[ \t]*\([^()]{0,50}\))?")
"""Apple Mail adds a comment."""


def exemptions(
    message: Message, sender: Address | None, recipients_named: frozenset[str]
) -> frozenset[Exemption]:
    """Every kind whose shape the message has.

    `Exemption.LIST` holds only for the recipients for whom `is_list_traffic_for` holds as well. Reports leave
    as `reduced` makes them.

    Args:
        sender: the envelope sender; None for the null sender.
        recipients_named: as `authors.recipients_named` reads them.
    """
    if not _has_usual_header(message):
        return frozenset()
    found = report(message)
    if len(message.body) - (found.original_bytes if found else 0) > MAX_BYTES:
        return frozenset()
    if found:
        is_short = measure.is_moderate(message.fields, MAX_REPORT_HEADER_BYTES)
        return frozenset({found.kind} if is_short and may_send(found, message, sender) else ())
    return frozenset(_of_any_other_shape(message, sender, recipients_named))


def _of_any_other_shape(
    message: Message, sender: Address | None, recipients_named: frozenset[str]
) -> Iterator[Exemption]:
    if is_tls_report(message):
        yield Exemption.TLS_REPORT
    if is_calendar(message):
        yield Exemption.CALENDAR
    if is_confirmation_request(message):
        yield Exemption.WKD
    if sender is None and is_notice(message):
        yield Exemption.NULL_SENDER
    if sender is not None and is_redistributed(message, sender, recipients_named):
        yield Exemption.LIST


def _has_usual_header(message: Message) -> bool:
    """Whether the header is one of moderate size, of MIME, and without fields of nothing but text."""
    if not measure.is_moderate(message.fields, MAX_HEADER_BYTES):
        return False
    if any(field.name in _TEXT_ALONE for field in message.fields):
        return False
    if any(len(field.raw) > MAX_SUBJECT_BYTES for field in message.get("subject")):
        return False
    return _is_mime(message)


def _is_mime(message: Message) -> bool:
    """Whether every reader takes the body for what its one Content-Type says (RFC 2045 §3, §4)."""
    if any(len(message.get(name)) > 1 for name in ("content-type", "content-transfer-encoding")):
        return False
    versions = [field.value for field in message.get("mime-version")]
    if not versions:
        return not any(field.name.startswith("content-") for field in message.fields)
    return len(versions) == 1 and _MIME_VERSION.fullmatch(versions[0]) is not None
