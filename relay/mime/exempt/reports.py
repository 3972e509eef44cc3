"""Says whether a message is a delivery report, a read receipt or an abuse report (RFC 3464, 8098, 5965).

All three are multipart/report (RFC 6522): a part for people, one for programs, and what is left of the
message they speak of. The label proves nothing; each field for programs is held against its grammar.

What a person could write into one that is exempt is at most, in octets: 16 KiB in the part for people, 32 KiB
in that for programs (8 KiB of it with blanks), 48 KiB in the header that comes back (32 KiB of them in fields
of servers), beside the header of the message itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.errors import MessageRefused
from relay.mime import headers
from relay.mime.detect import already_encrypted
from relay.mime.exempt import groups, measure
from relay.mime.exempt.entity import is_for_people, is_identity, media_type, multipart
from relay.mime.exempt.groups import DATE, HOST, MAILBOX, MESSAGE_ID, TOKEN, grammar, text_of
from relay.mime.headers import Field, Message, cut
from relay.mime.structure import Part
from relay.rule import Exemption

MAX_TEXT_BYTES = 16_384
"""Of what the part for people tells."""
MAX_ALTERNATIVE_BYTES = 32_768
"""Of that part in two forms. Exchange writes some 20 KiB of HTML, with few words in it."""
MAX_ORIGINAL_HEADER_BYTES = 16_384
"""Of the message that comes back, without the fields of servers. Exchange Online writes some 10 KiB."""
_MAX_SECTION_BYTES = MAX_ORIGINAL_HEADER_BYTES + measure.MAX_TRACE_BYTES

_PARAMETERS = frozenset({"report-type", "boundary"})
_HEADERS_ALONE = frozenset({"text/rfc822-headers", "message/global-headers"})
_LINE_ENDS = frozenset({b"", b"\r\n", b"\r\n\r\n"})
_MESSAGES = frozenset({"message/rfc822", "message/global"})


@dataclass(frozen=True, slots=True)
class Report:
    """A report of which every part is what it should be."""

    kind: Exemption
    original: Part | None
    """The part that holds the message it speaks of, or the header of that."""
    keeps_original: bool
    """Whether that part leaves as it is: it is a header alone, or encrypted."""
    people_bytes: int
    """Of the part for people, as it is encoded."""
    free_bytes: int
    """Of fields for programs that can be any text."""
    final_recipient: str
    """The address of whom it speaks first; empty in an abuse report."""

    @property
    def original_bytes(self) -> int:
        """How much of the report is the message that comes back."""
        return self.original.end - self.original.start if self.original else 0

    @property
    def original_header_bytes(self) -> int:
        """How much header comes back."""
        return len(original_header(self.original) or b"") if self.original else 0


def report(message: Message) -> Report | None:
    """What kind of report a message is, whoever sent it; None if it is none in every part."""
    kind = media_type(message, _PARAMETERS)
    if kind is None or kind.value != "multipart/report":
        return None
    shape = _SHAPES.get(kind.parameters.get("report-type", "").lower())
    parts = multipart(message, kind) if shape else None
    if not shape or not parts or len(parts) not in shape.parts:
        return None
    original = parts[2] if len(parts) == 3 else None
    found = _for_programs(parts[1], shape)
    if not is_for_people(parts[0], MAX_TEXT_BYTES, MAX_ALTERNATIVE_BYTES) or found is None:
        return None
    keeps = _keeps(original) if original else True
    if keeps is None:
        return None
    return Report(shape.kind, original, keeps, parts[0].size, found.free_bytes, found.final_recipient)


# --------------------------------------------------------------------------- what comes back


def original_header(original: Part) -> bytes | None:
    """The header section of the message in this part, without an empty line.

    None if it cannot be read, or holds more than a header does.
    """
    start, end = original.body_start, original.end
    stop = original.whole.find(b"\r\n\r\n", start, min(end, start + _MAX_SECTION_BYTES))
    if stop < 0 and end - start > _MAX_SECTION_BYTES:
        return None
    section = original.whole[start : stop + 2 if stop >= 0 else end]
    # Exchange and others end a header that comes back alone without a line end.
    section += b"" if section.endswith(b"\r\n") else b"\r\n"
    try:
        fields = headers.parse(section).fields
    except MessageRefused:
        return None
    return section if fields and measure.is_moderate(fields, MAX_ORIGINAL_HEADER_BYTES) else None


def _keeps(original: Part) -> bool | None:
    """Whether the part is kept as it is; None if it is nothing that may come back."""
    kind = media_type(original, frozenset({"charset", "name"}))
    header = original_header(original) if kind and is_identity(original) else None
    if kind is None or header is None:
        return None
    if kind.value in _HEADERS_ALONE:
        behind = original.whole[original.body_start + len(header) : original.end]
        return True if behind in _LINE_ENDS else None
    return _is_encrypted(original, header) if kind.value in _MESSAGES else None


def _is_encrypted(original: Part, header: bytes) -> bool:
    """Whether the message that comes back is encrypted; RFC 8098 §3 (d) wants such a one untouched."""
    fields = headers.parse(header).fields
    kinds = [field.value.lower() for field in fields if field.name == "content-type"]
    # Only these two can be; a large message of any other type is not copied to find out.
    if kinds and not kinds[0].startswith((b"multipart/encrypted", b"text/plain")):
        return False
    body = cut(original.whole, min(original.body_start + len(header) + 2, original.end), original.end)
    return already_encrypted(Message(fields, body)) is not None


# --------------------------------------------------------------------------- the part for programs


@dataclass(frozen=True, slots=True)
class _Shape:
    """One kind of report."""

    kind: Exemption
    parts: frozenset[int]
    """How many parts it may have."""
    types: frozenset[str]
    """Of the part for programs."""
    fit: Callable[[list[tuple[Field, ...]]], int | None]
    """How much free text is in its groups; None if they are not of this kind."""


@dataclass(frozen=True, slots=True)
class _ForPrograms:
    free_bytes: int
    final_recipient: str


def _for_programs(part: Part, shape: _Shape) -> _ForPrograms | None:
    kind = media_type(part, frozenset({"name", "charset"}))
    if kind is None or kind.value not in shape.types or not is_identity(part):
        return None
    if part.size > groups.MAX_PART_BYTES:
        return None
    found = groups.read(part.body)
    free = shape.fit(found) if found is not None else None
    if found is None or free is None:
        return None
    recipients = [field.value for group in found for field in group if field.name == "final-recipient"]
    typed = recipients[0].decode("utf-8", "replace") if recipients else ""
    return _ForPrograms(free, typed.partition(";")[2].strip())


_MESSAGE = grammar(
    {
        "reporting-mta": HOST,
        "original-envelope-id": TOKEN,
        "dsn-gateway": HOST,
        "received-from-mta": HOST,
        "arrival-date": DATE,
    },
    required="reporting-mta",
    free="original-envelope-id",
)
"""RFC 3464 §2.2."""
_RECIPIENT = grammar(
    {
        "original-recipient": MAILBOX,
        "final-recipient": MAILBOX,
        "action": rb"(?i:failed|delayed|delivered|relayed|expanded)",
        "status": rb"[245]\.\d{1,3}\.\d{1,3}",
        "remote-mta": HOST,
        # RFC 3464 §2.3.6: of the type smtp it is a reply, which begins with its code.
        "diagnostic-code": rb"(?i:smtp[ \t]*;[ \t]*[245]\d\d[ -]|x-[a-z0-9-]{1,20}[ \t]*;)" + text_of(1000),
        "last-attempt-date": DATE,
        "will-retry-until": DATE,
        "final-log-id": TOKEN,
        "x-supplementary-info": text_of(1000),  # Exchange: the whole reply
    },
    required="final-recipient action status",
    free="diagnostic-code final-log-id",
)
"""RFC 3464 §2.3."""
_RECEIPT = grammar(
    {
        "reporting-ua": text_of(200),
        "mdn-gateway": HOST,
        "original-recipient": MAILBOX,
        "final-recipient": MAILBOX,
        "original-message-id": MESSAGE_ID,
        "disposition": rb"(?i:(?:manual|automatic)-action/MDN-sent-(?:manually|automatically))"
        rb"[ \t]*;[ \t]*(?i:displayed|deleted|dispatched|processed|denied|failed)"
        rb"(?i:/(?:error|warning|superseded|expired|mailbox-terminated))?",
        "failure": text_of(200),
        "error": text_of(200),
        "warning": text_of(200),
    },
    required="final-recipient disposition",
    free="reporting-ua original-message-id failure error warning",
)
"""RFC 8098 §3.2."""
_DOMAIN = rb"[A-Za-z0-9._-]{1,255}"
_ADDRESS = rb"<?[^\x00-\x20<>\x7f]{1,320}@[^\x00-\x20<>\x7f]{1,255}>?"
_FEEDBACK = grammar(
    {
        "feedback-type": rb"(?i:abuse|auth-failure|fraud|miscategorized|not-spam|opt-out|other|virus)",
        "user-agent": text_of(200),
        "version": rb"\d{1,3}(?:\.\d{1,3})?",
        "original-envelope-id": TOKEN,
        "original-mail-from": rb"<>|" + _ADDRESS,
        "arrival-date": DATE,
        "received-date": DATE,
        "reporting-mta": HOST,
        "source-ip": rb"[0-9A-Fa-f.:]{2,45}",
        "source-port": rb"\d{1,5}",
        "incidents": rb"\d{1,9}",
        "authentication-results": text_of(500),
        "original-rcpt-to": _ADDRESS,
        "reported-domain": _DOMAIN,
        "reported-uri": rb"[!-~]{1,500}",
        "auth-failure": rb"(?i:adsp|bodyhash|revoked|signature|spf|dmarc)",
        "delivery-result": rb"(?i:delivered|spam|policy|reject|other)",
        "dkim-domain": _DOMAIN,
        "dkim-selector": _DOMAIN,
        "identity-alignment": rb"(?i:(?:dkim|spf|none)(?:[ \t]*,[ \t]*(?:dkim|spf))?)",
    },
    required="feedback-type user-agent version",
    free="user-agent original-envelope-id authentication-results reported-uri reported-domain"
    " original-rcpt-to",
    repeated="authentication-results original-rcpt-to reported-domain reported-uri",
)
"""RFC 5965 §3 and RFC 6591 §3. DKIM-Canonicalized-Body is left out: it holds the message."""


def _fit_delivery_status(found: list[tuple[Field, ...]]) -> int | None:
    """One group of the message, then one of each recipient (RFC 3464 §2.1)."""
    return groups.fit(found, [_MESSAGE, *[_RECIPIENT] * (len(found) - 1)]) if len(found) > 1 else None


def _fit_receipt(found: list[tuple[Field, ...]]) -> int | None:
    return groups.fit(found, [_RECEIPT]) if len(found) == 1 else None


def _fit_feedback(found: list[tuple[Field, ...]]) -> int | None:
    return groups.fit(found, [_FEEDBACK]) if len(found) == 1 else None


_SHAPES = {
    "delivery-status": _Shape(
        Exemption.DSN,
        frozenset({2, 3}),
        frozenset({"message/delivery-status", "message/global-delivery-status"}),
        _fit_delivery_status,
    ),
    "disposition-notification": _Shape(
        Exemption.MDN,
        frozenset({2, 3}),
        frozenset({"message/disposition-notification", "message/global-disposition-notification"}),
        _fit_receipt,
    ),
    "feedback-report": _Shape(
        Exemption.FEEDBACK, frozenset({3}), frozenset({"message/feedback-report"}), _fit_feedback
    ),
}
