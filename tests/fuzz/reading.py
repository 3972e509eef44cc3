"""Fuzz targets for what reads and encodes the content of a message: words, texts, parts."""

from __future__ import annotations

import re

from relay.errors import MessageRefused
from relay.mime import contenttype, headers, inline, recoding, structure, wishes, words
from relay.mime.headers import Message
from relay.mime.wishes import Wish, Wishes
from tests.fuzz import mails

# --------------------------------------------------------------------------- encoded words

_MAX_LINE_CHARS = 78
_LONG_OCTETS = 1 << 14


def decode_any_words(data: bytes) -> None:
    """Any value has a text, quickly however often it is repeated; written, it is one field and that text."""
    shown = words.decoded(data)
    shown.encode("utf-8")
    with mails.bounded():
        words.decoded(data * (_LONG_OCTETS // (len(data) + 1)))
    written = words.encoded("Subject", shown)
    [field] = headers.parse(written).fields
    assert written.isascii() and max(map(len, written.split(b"\r\n"))) <= _MAX_LINE_CHARS
    assert words.decoded(field.value) == shown
    value = data.replace(b"\r\n", b"")
    if not _IN_DOUBT.search(_WORD.sub(b"", value)):
        assert mails.text(value).split() == shown.split()


_WORD = re.compile(
    rb"(?<![^ ])=\?(?i:utf-8|iso-8859-1|us-ascii)\?"
    rb"(?:[qQ]\?(?:[!-<>@-~]|=[0-9A-Fa-f]{2})*|[bB]\?(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)"
    rb"\?=(?![^ ])"
)
_IN_DOUBT = re.compile(rb"[^ -~]|=\?|\?=")
"""What readers take for different things, beside whole words."""


def values() -> list[bytes]:
    return [
        b"Lunch  at \t 12",
        b"=?utf-8?q?Gr=C3=BC=c3=9Fe_=5F?= =?UTF-8?B?R3LDvMOfZQ==?= a",
        b"=?utf-8?q?=C3?=\r\n =?utf-8?B?vA==?= =?us-ascii*en?Q?Hi?=",
        b"=?ISO-2022-JP?B?GyRCJDMbKEI=?= =?utf-7?q?+2AA-?= =?utf-16?b?AGEA?= =?x-none?q?a?=",
        b"=?windows-1251?B?/w==?= =?koi8-r?Q?=D1?= =?gb18030?b?xOM=?= =?rot13?q?a?=",
        "Gr\u00fc\u00dfe \u2709".encode() + b"\xfc",
        *(field.value for message in mails.ordinary() for field in _subjects(message)),
    ]


def _subjects(content: bytes) -> list[headers.Field]:
    message = mails.parsed(content)
    return message.get("subject") if message else []


# --------------------------------------------------------------------------- wishes

_CONFIGURED = (
    Wishes("X-Encrypt", "[encrypt]", "[clear]"),
    Wishes(None, "secret", "\u00f6ffentlich"),
    Wishes("X-Encrypt", "#a", "a#a"),
)
_TAGGED = frozenset({"subject", "thread-topic"})


def wish_anything(data: bytes) -> None:
    """What a wish takes out is the wish and nothing else; twice is once; what has none is the same object."""
    message = mails.parsed(data)
    if message is None:
        return
    for configured in _CONFIGURED:
        _check_wish(message, configured)


def _check_wish(message: Message, configured: Wishes) -> None:
    try:
        wish = wishes.wish_of(message, configured)
    except MessageRefused:
        return
    without = wishes.without_wishes(message, configured)
    assert without is wishes.without_wishes(without, configured)
    assert headers.parse(without.content) == without
    assert wishes.wish_of(without, configured) is None
    assert (without is message) == (without == message)
    kept = [field for field in message.fields if field.name != (configured.header or "").lower()]
    assert [field.name for field in kept] == [field.name for field in without.fields]
    assert without.body is message.body and len(kept) <= len(message.fields)
    for before, after in zip(kept, without.fields, strict=True):
        _check_field(before, after, configured)
    if wish is Wish.LOWER:
        assert configured.never and (len(kept) < len(message.fields) or without is not message)


def _check_field(before: headers.Field, after: headers.Field, configured: Wishes) -> None:
    """Only blanks and tags are gone, and no tag is left."""
    if before.name not in _TAGGED:
        assert before == after
        return
    found, left = words.decoded(before.value), words.decoded(after.value)
    tags = [re.compile(_token(tag), re.IGNORECASE) for tag in configured.tags]
    assert not any(tag.search(left) for tag in tags)
    if not any(tag.search(found) for tag in tags):
        assert before == after
    both = "|".join(_token(tag) for tag in sorted(configured.tags, key=len, reverse=True))
    assert "".join(re.sub(both, "", found, flags=re.IGNORECASE).split()) == "".join(left.split())
    assert after.raw.count(b"\r\n") <= max(before.raw.count(b"\r\n"), 2 + len(left.encode()) // 10)


def _token(tag: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", tag[0]) else ""
    behind = r"(?!\w)" if re.match(r"\w", tag[-1]) else ""
    return f"{before}{re.escape(tag)}{behind}"


def wished() -> list[bytes]:
    head = b"From: a@b.example\r\n"
    subjects = [
        b" [encrypt] Lunch",
        b" Re: a [ENCRYPT] [clear][encrypt] b",
        b"[clear]Lunch\r\n at [clear]\r\n 12",
        b" =?utf-8?q?=5Bencrypt=5D_Gr=C3=BC=C3=9Fe?= =?utf-8?b?W2NsZWFyXSBh?=",
        b" [enc[encrypt]rypt] secret",
        " \u00f6ffentlich: secret, secrets #a a#a#a".encode(),
        b" =?utf-8?q?=5Benc?=\r\n =?utf-8?q?rypt=5D?= a=?utf-8?q?b?=[clear]",
    ]
    whole = [head + b"Subject:" + one + b"\r\nThread-Topic:" + one + b"\r\n\r\n[encrypt]" for one in subjects]
    return [*whole, *(head + b"X-Encrypt: " + wish + b"\r\n\r\n" for wish in (b"always", b"Never", b"x"))]


# --------------------------------------------------------------------------- inline


def take_any_text(data: bytes) -> None:
    """A text that is written inline is what Python reads from the message."""
    message = mails.parsed(data)
    if message is None:
        return
    with mails.bounded():
        text = inline.text_of(message)
    if text is None:
        return
    other = mails.read(message.content)
    assert not other.is_multipart()
    assert re.sub(r"\s", "", other.get_content_type()) == "text/plain"  # blanks around the slash are legal
    assert other.get_filename() is None
    assert text == mails.content(other)


# --------------------------------------------------------------------------- seven bits

_UNFIT = re.compile(rb"[^\x01-\x7f]|[ \t](?:\r\n|\Z)|(?:\A|\n)From |[^\r\n]{999}")
"""What RFC 3156 §3 forbids in what is signed."""
_UNTOUCHED = re.compile(rb"multipart/(?:signed|encrypted|digest)|message/", re.IGNORECASE)
"""Where something may be left as it stands."""


_QUOTED_PAIR = re.compile(rb"boundary[^\r\n]*\\", re.IGNORECASE)
"""Python does not know every one, and then finds other parts."""


def recode_anything(data: bytes) -> None:
    """Refused, or fit to be signed and of the same parts that say the same; twice is once."""
    message = mails.parsed(data)
    if message is None:
        return
    try:
        with mails.bounded():
            fit = recoding.seven_bit(message)
    except MessageRefused as exc:
        assert "cannot be signed, because" in exc.reply().text
        return
    assert headers.parse(fit.content) == fit
    assert recoding.seven_bit(fit) is fit
    others = [field for field in message.fields if not field.is_structural]
    assert others == [field for field in fit.fields if not field.is_structural]
    content = headers.serialise(field for field in fit.fields if field.is_structural) + b"\r\n" + fit.body
    assert not _UNFIT.search(content) or _UNTOUCHED.search(content)
    if fit is not message and not _QUOTED_PAIR.search(message.content):
        before, after = mails.leaves(message.content), mails.leaves(fit.content)
        implied = (
            []
            if message.get("content-type")
            else [field for field in after[0][1] if field not in before[0][1]]
        )
        assert all(name == "content-type" for name, _ in implied)
        before[0][1].extend(implied)
        assert before == after


# --------------------------------------------------------------------------- parts


def divide_anything(data: bytes) -> None:
    """Whatever is divided joins to the same octets, with nothing but delimiter lines between the parts."""
    message = mails.parsed(data)
    kinds = message.get("content-type") if message else []
    kind = contenttype.parse(kinds[0].value) if kinds else None
    if message is None or kind is None:
        return
    with mails.bounded():
        found = structure.parts(kind, message.body)
    if found is None:
        return
    boundary = b"--" + re.escape(kind.parameters["boundary"].encode())
    line = re.compile(boundary + rb"[ \t]*\r\n")
    close = re.compile(boundary + rb"--[ \t]*(?:\r\n|\Z)")
    at, between = len(found.preamble), rb""
    for part in found.parts:
        assert part.whole is message.body and part.start <= part.body_start <= part.end
        assert part.header + part.body == message.body[part.start : part.end]
        assert len(part.body) == part.size
        assert line.fullmatch(message.body[at : part.start].removeprefix(between))
        at, between = part.end, b"\r\n"
    if found.complete:
        end = len(message.body) - len(found.epilogue)
        assert message.body.endswith(found.epilogue) and close.fullmatch(
            message.body[at:end].removeprefix(b"\r\n")
        )
    else:
        assert (at, found.epilogue) == (len(message.body), b"")
    assert found.preamble == message.body[: len(found.preamble)]
    # Python knows neither every quoted pair nor comments, nor blanks around the slash.
    if len(kinds) == 1 and re.match(rb"[A-Za-z]+/[A-Za-z][^\\(]*\Z", kinds[0].value):
        _check_divided(message, found)


def _check_divided(message: Message, found: structure.Multipart) -> None:
    """Python divides it in the same way."""
    parts = mails.parts(mails.read(message.content))
    assert [[name.lower() for name, _ in part.items()] for part in parts] == [
        [field.name for field in part.fields] for part in found.parts
    ]
