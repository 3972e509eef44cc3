"""Takes the text of the original out of a report: its header section comes back alone (RFC 6522 §4).

A report leaves in clear, and the message it speaks of may have reached us encrypted or be a secret. One that
is itself encrypted stays byte for byte, as RFC 8098 §3 (d) demands of read receipts.
"""

from __future__ import annotations

from dataclasses import replace

from relay.mime import contenttype
from relay.mime.exempt.reports import original_header, report
from relay.mime.headers import Field, Message
from relay.mime.structure import Part


def reduced(message: Message) -> Message:
    """A delivery report, read receipt or abuse report with no more of the original than its header section.

    Every other octet stays. A message that is no such report in every part, or has no text of the original,
    comes back as it is.
    """
    found = report(message)
    if found is None or found.original is None or found.keeps_original:
        return message
    part = found.original
    header = original_header(part)
    if header is None:  # `report` has read it already
        return message
    # The CRLF in front of the delimiter is not the part's; that of its last field is.
    body = message.body[: part.start] + _retyped(part) + header + message.body[part.end :]
    return replace(message, body=body)


def _retyped(part: Part) -> bytes:
    """The fields of the part with the type of a header section, and the empty line."""
    return b"".join(_retyped_field(field) for field in part.fields) + b"\r\n"


def _retyped_field(field: Field) -> bytes:
    if field.name != "content-type":
        return field.raw
    # RFC 6533 §6.3: a header section in UTF-8 has a type of its own.
    found = contenttype.parse(field.value)
    is_global = found is not None and found.value == "message/global"
    kind = b"message/global-headers" if is_global else b"text/rfc822-headers"
    return field.raw[: len(field.name)] + b": " + kind + b"\r\n"
