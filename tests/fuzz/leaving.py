"""Fuzz targets for what leaves in clear: exempt messages, and what stands outside of protected ones.

Each asks a second reader what somebody on the way could see.
"""

from __future__ import annotations

import re
from collections import Counter
from email.message import Message as Read

from relay.mime import authors, complete, contenttype, exempt, headers, pgpmime, protection, words
from relay.mime.headers import Field, Message
from relay.rule import Exemption
from tests.fuzz import mails
from tests.mail import BOUNDARY
from tests.unit.mime.exempt import samples

# --------------------------------------------------------------------------- exempt

_SENDERS = (None, samples.ALICE, samples.LIST_SENDER)
_REPORTS = frozenset({Exemption.DSN, Exemption.MDN, Exemption.FEEDBACK})
_FOR_PROGRAMS = {
    Exemption.DSN: "delivery-status",
    Exemption.MDN: "disposition-notification",
    Exemption.FEEDBACK: "feedback-report",
    Exemption.TLS_REPORT: "tlsrpt+",
}
_HEADERS_ALONE = frozenset({"text/rfc822-headers", "message/global-headers"})


def exempt_anything(data: bytes) -> None:
    """Exempt is only what another reader takes for that, and no text of an original leaves with it."""
    message = mails.submitted(data)
    if message is None:
        return
    named = authors.recipients_named(message)
    with mails.bounded():
        reduced = exempt.reduced(message)
        granted = {sender: exempt.exemptions(message, sender, named) for sender in _SENDERS}
    assert headers.parse(reduced.content) == reduced and reduced.fields == message.fields
    assert exempt.reduced(reduced) is reduced
    for sender, kinds in granted.items():
        after = exempt.exemptions(reduced, sender, named)
        assert after <= kinds or not kinds  # what was too large may become small enough
        for kind in kinds - {Exemption.LIST}:
            _check_exempt(reduced, kind)
    if reduced is not message:
        _check_reduced(message, reduced)


def _check_exempt(reduced: Message, kind: Exemption) -> None:
    """What leaves, as Python reads it."""
    other = mails.read(reduced.content)
    parts = mails.parts(other)
    assert not str(other.epilogue or "").strip() and len(str(other.preamble or "").strip()) < 60
    types = [part.get_content_type() for part in parts]
    if kind in _FOR_PROGRAMS:
        assert other.get_content_type() == "multipart/report" and len(parts) in {2, 3}
        assert types[0] in {"text/plain", "multipart/alternative"} and _FOR_PROGRAMS[kind] in types[1]
    if kind in _REPORTS and len(parts) == 3:
        _check_original(parts[2])
    if kind is Exemption.WKD:
        assert (other.get_content_type(), types[1:]) == ("multipart/signed", ["application/pgp-signature"])
    if kind is Exemption.NULL_SENDER:
        assert {part.get_content_type() for part in other.walk()} <= _TEXTS
    if kind is Exemption.CALENDAR:
        assert {part.get_content_type() for part in other.walk()} <= _TEXTS | _CALENDARS


_TEXTS = frozenset({"text/plain", "text/html", "multipart/alternative"})
_CALENDARS = frozenset({"text/calendar", "application/ics", "multipart/mixed"})


def _check_original(part: Read) -> None:
    """Only a header section came back, or something encrypted."""
    if part.get_content_type() == "text/rfc822-headers":
        text = str(part.get_payload())
        assert not text.partition("\r\n\r\n")[2].strip()
    elif part.get_content_type() in _HEADERS_ALONE:
        [inner] = mails.parts(part)
        assert not inner.is_multipart() and not str(inner.get_payload()).strip()
    else:
        [inner] = mails.parts(part)
        payloads = [str(leaf.get_payload()) for leaf in inner.walk() if not leaf.is_multipart()]
        assert "-----BEGIN PGP MESSAGE-----" in payloads[-1]


def _check_reduced(message: Message, reduced: Message) -> None:
    """Each line of the original's body, as Python finds it, has gone once for each time it stands there."""
    before, after = (Counter(one.content.split(b"\r\n")) for one in (message, reduced))
    *_, original = mails.parts(mails.read(message.content))
    gone = Counter(line for octets in map(mails.raw, original.walk()) for line in octets.split(b"\r\n"))
    assert not [line for line, count in gone.items() if line and after[line] > before[line] - count]


# --------------------------------------------------------------------------- protected headers

_MIN_REPEATED_CHARS = 5
_FREE = re.compile(
    r"(?:resent-)?(?:from|sender|reply-to|to|cc|date|message-id)|in-reply-to|references|list-.*|autocrypt"
    r"|openpgp|auto-submitted|precedence|disposition-notification-.*|original-(?:message-id|recipient)"
    r"|return-receipt-to|tls-required|mail-followup-to|mail-reply-to|errors-to"
    r"|received|x-received|delivered-to|x-original-to|authentication-results|received-spf"
)
"""Fields that stay outside whatever stands in them."""
_RE = re.compile(r"(?:\s*(?:re|aw|fwd?|wg|sv|antw|tr|rv)\s*(?:\[\d+\])?\s*:)+")


def protect_anything(data: bytes) -> None:
    """Outside stands what was submitted, in order, without the Subject; inside stands everything."""
    message = mails.submitted(data)
    if message is None:
        return
    message = complete.strip(message, sealed=True)
    with mails.bounded():
        outside = protection.outside(message)
        itself = protection.protects_itself(message)
    entity = b"".join(pgpmime.entity(message))
    root = b"".join(protection.root(message, outside, pgpmime.entity(message), BOUNDARY))
    _check_outside(message, outside)
    if BOUNDARY.encode() not in entity:
        _check_root(message, outside, root, entity)
    if itself and b"\\" not in message.get("content-type")[0].value:  # Python does not know every quoted pair
        _check_signed(message)


def _check_outside(message: Message, outside: tuple[Field, ...]) -> None:
    left = iter([protection.OBSCURED if field.name == "subject" else field for field in message.fields])
    assert all(field in left for field in outside)
    subjects = [_plain(mails.text(field.value)) for field in message.get("subject")]
    assert outside.count(protection.OBSCURED) >= len(subjects)
    assert headers.parse(headers.serialise(outside)).fields == outside
    for field in outside:
        assert not field.is_structural
        if field.name == "subject" or _FREE.fullmatch(field.name):
            continue
        assert field.name not in {"comments", "keywords", "thread-topic", "user-agent", "x-mailer"}
        if any("=?" in words.decoded(one.value) for one in (field, *message.get("subject"))):
            continue  # a broken word, of which each reader makes something else
        shown = _plain(mails.text(field.value))
        assert not any(_repeats(shown, subject) for subject in subjects), (field.raw, subjects)


def _plain(shown: str) -> str:
    """For comparison, as somebody would read it."""
    folded = " ".join(shown.split()).casefold()
    return _RE.sub("", folded, count=1).strip() if _RE.match(folded) else folded


def _repeats(shown: str, subject: str) -> bool:
    if min(len(shown.rstrip(".\u2026 ")), len(subject)) < _MIN_REPEATED_CHARS:
        return False
    return subject in shown or shown.rstrip(".\u2026 ") in subject


def _check_root(message: Message, outside: tuple[Field, ...], root: bytes, entity: bytes) -> None:
    """Its header is that of the message, and Python finds the entity in it and nothing else."""
    line = b"--" + BOUNDARY.encode()
    header, _, body = root.partition(b"\r\n\r\n")
    assert body == line + b"\r\n" + entity + b"\r\n" + line + b"--\r\n"
    kind, *fields = headers.parse(header + b"\r\n").fields
    shown = contenttype.parse(kind.value)
    assert shown and (shown.value, shown.parameters["hp"]) == ("multipart/mixed", "cipher")
    own = [field for field in fields if field.name != "hp-outer"]
    assert own == [field for field in message.fields if not field.is_structural and field.name not in _TRACE]
    outer = [field for field in outside if field.name not in _TRACE]
    copied = [_unfolded(field.raw.partition(b":")[2]) for field in fields[len(own) :]]
    assert copied == [_unfolded(field.raw) for field in outer]
    other = mails.read(root)
    assert len(mails.parts(other)) == 1
    assert not other.preamble and not other.epilogue
    assert not other.defects and mails.leaves(root)[1:] == mails.leaves(entity)


_TRACE = frozenset(
    {
        *("received", "x-received", "delivered-to", "x-original-to", "authentication-results"),
        "received-spf",
    }
)


def _unfolded(raw: bytes) -> bytes:
    """Without blanks and line ends, which may differ where a field was folded anew."""
    return raw.translate(None, b"\r\n\t ")


def _check_signed(message: Message) -> None:
    """The signed part says what is hidden outside, to Python too."""
    other = mails.read(message.content)
    assert other.get_content_type() == "multipart/signed"
    first = mails.parts(other)[0]
    assert first.get_param("hp") or first.get_param("protected-headers")
    for field in message.get("subject"):
        found = [str(value).encode("utf-8", "surrogateescape") for value in first.get_all("subject", [])]
        shown = [mails.text(value.replace(b"\r\n", b"")).split() for value in found]
        assert mails.text(field.value).split() in shown
