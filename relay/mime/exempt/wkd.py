"""Says whether a message is the one of the Web Key Directory update protocol that is sent in clear.

Submission, confirmation response and the last notice are PGP/MIME-encrypted, and the relay knows them as that
(draft-koch-openpgp-webkey-service-22 §4.2, §4.4). The confirmation request (§4.3) is not: a signed message of
a text and an encrypted attachment, whose type programs look for. Its text may be in any language.
"""

from __future__ import annotations

import re

from relay.mime import armor, packets
from relay.mime.detect import already_encrypted
from relay.mime.exempt.entity import is_identity, media_type, multipart, text
from relay.mime.headers import Message
from relay.mime.packets import Malformed
from relay.mime.structure import Part

MAX_TEXT_BYTES = 2048
"""That of gpg-wks-server has 500."""
MAX_SIGNATURE_BYTES = 2048
"""In binary. One of RSA-4096 has 600; notations could hold text."""
MAX_REQUEST_BYTES = 16_384
"""Armoured. It holds five lines of text."""

_VERSION = re.compile(rb"\d{1,3}")
_REQUEST = frozenset({"application/vnd.gnupg.wkd", "application/vnd.gnupg.wks"})
"""The second for clients of versions before 5."""


def is_confirmation_request(message: Message) -> bool:
    """Whether the message is a confirmation request as §4.3 describes it, and nothing else stands in it."""
    kind = media_type(message, frozenset({"boundary", "protocol", "micalg"}))
    if kind is None or kind.value != "multipart/signed" or not _has_header(message):
        return False
    if kind.parameters.get("protocol", "").lower() != "application/pgp-signature":
        return False
    parts = multipart(message, kind)
    return parts is not None and len(parts) == 2 and _is_signed(parts[0]) and _is_signature(parts[1])


def _has_header(message: Message) -> bool:
    """Whether the fields that only gpg-wks-server and gpg-wks-client write contradict nothing."""
    versions = [field.value for field in message.get("wks-draft-version")]
    phases = [field.value.lower() for field in message.get("wks-phase")]
    return len(versions) <= 1 and all(map(_VERSION.fullmatch, versions)) and phases in ([], [b"confirm"])


def _is_signed(part: Part) -> bool:
    """The text and the encrypted request."""
    kind = media_type(part, frozenset({"boundary"}))
    parts = multipart(part, kind) if kind and kind.value == "multipart/mixed" else None
    if not parts or len(parts) != 2 or text(parts[0], "plain", MAX_TEXT_BYTES) is None:
        return False
    request = media_type(parts[1], frozenset())
    if request is None or request.value not in _REQUEST or not is_identity(parts[1]):
        return False
    # Without fields it is judged as the one armoured block that it has to be.
    return parts[1].size <= MAX_REQUEST_BYTES and already_encrypted(Message((), parts[1].body)) is not None


def _is_signature(part: Part) -> bool:
    """One armoured signature and not a word around it."""
    kind = media_type(part, frozenset({"name"}))
    if kind is None or kind.value != "application/pgp-signature" or not is_identity(part):
        return False
    if part.size > 2 * MAX_SIGNATURE_BYTES:
        return False
    body = part.body.strip(b"\r\n")
    try:
        [block] = armor.blocks(body)
        found = [packet.tag for packet in packets.walk(block.data)]
    except (Malformed, ValueError):
        return False
    is_whole = (block.label, block.start, block.end) == ("SIGNATURE", 0, len(body))
    return is_whole and not block.headers and found == [packets.SIGNATURE]
