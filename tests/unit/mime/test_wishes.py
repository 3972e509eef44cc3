"""Tests of `relay.mime.wishes`."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from email.charset import BASE64, Charset
from email.header import Header, decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MessageRefused
from relay.mime import words
from relay.mime.headers import Message, parse
from relay.mime.wishes import Wish, Wishes, wish_of, without_wishes

_ALL = Wishes("X-Encrypt", "[encrypt]", "[clear]")
_WORDS = Wishes(None, "secret", "öffentlich")


def _message(subject: bytes, *fields: bytes) -> Message:
    lines = [
        b"From: a@b.example",
        b"Subject:" + subject,
        *fields,
        b"To: c@d.example",
        b"",
        b"[encrypt] stays",
    ]
    return parse(b"\r\n".join(lines))


def _subject(message: Message) -> bytes:
    [field] = message.get("subject")
    return field.raw.removeprefix(b"Subject:").removesuffix(b"\r\n")


def _b(text: str, charset: str = "utf-8") -> bytes:
    return b"=?%s?B?%s?=" % (charset.encode(), b64encode(text.encode(charset)))


_SUBJECTS = {
    "none": (b" Lunch", None, b" Lunch"),
    "raise": (b" [encrypt] Lunch", Wish.RAISE, b" Lunch"),
    "letter case": (b" [EnCrypt] Lunch", Wish.RAISE, b" Lunch"),
    "in the middle": (b"  Lunch  [encrypt] at  12", Wish.RAISE, b"  Lunch  at  12"),
    "at the end": (b" Lunch \t[encrypt]", Wish.RAISE, b" Lunch"),
    "alone": (b" [encrypt]", Wish.RAISE, b""),
    "alone, blank behind": (b" [encrypt] ", Wish.RAISE, b""),
    "without blanks": (b"[encrypt]Lunch", Wish.RAISE, b"Lunch"),
    "between letters": (b" a[encrypt]b", Wish.RAISE, b" a b"),
    "behind a letter": (b" a[encrypt] b", Wish.RAISE, b" a b"),
    "in a reply": (b" Re: [encrypt] Lunch", Wish.RAISE, b" Re: Lunch"),
    "twice": (b" [encrypt] a [encrypt]  b", Wish.RAISE, b" a b"),
    "side by side": (b" a [encrypt][encrypt] [clear] b", Wish.RAISE, b" a b"),
    "one in another": (b" [enc[encrypt]rypt]", Wish.RAISE, b" [enc rypt]"),
    "lower": (b" [clear] Lunch", Wish.LOWER, b" Lunch"),
    "lower, letter case": (b"[CLEAR]Lunch", Wish.LOWER, b"Lunch"),
    "lower in a reply": (b" Re: [clear] Lunch", None, b" Re: Lunch"),
    "lower forwarded": (b" Fwd: [clear] Lunch", None, b" Fwd: Lunch"),
    "lower at the end": (b" Lunch [clear]", None, b" Lunch"),
    "lower behind another tag": (b" [list] [clear] Lunch", None, b" [list] Lunch"),
    "both": (b" [clear] Lunch [encrypt]", Wish.RAISE, b" Lunch"),
    "nearly": (b" [encrypted] [clear ] encrypt", None, b" [encrypted] [clear ] encrypt"),
    "folded before": (b" Lunch\r\n [encrypt] at 12", Wish.RAISE, b" Lunch\r\n at 12"),
    "folded behind": (b" Lunch [encrypt]\r\n\tat 12", Wish.RAISE, b" Lunch\r\n\tat 12"),
    "folded around": (b" Lunch\r\n [encrypt] \r\n\tat 12", Wish.RAISE, b" Lunch\r\n\tat 12"),
    "folded at the end": (b" Lunch\r\n [encrypt]", Wish.RAISE, b" Lunch"),
    "folded at the start": (b"\r\n [clear] Lunch", Wish.LOWER, b"\r\n Lunch"),
    "raw UTF-8": (" [encrypt]  Grüße ✉".encode(), Wish.RAISE, " Grüße ✉".encode()),
    "raw Latin-1": (b" Gr\xfc\xdfe [encrypt]", Wish.RAISE, b" Gr\xfc\xdfe"),
    "raw in pieces": (b" \xfc\xc3\xbc[encrypt]\xff", Wish.RAISE, b" \xfc\xc3\xbc \xff"),
    "beside a word": (
        b" [encrypt] =?iso-8859-1?Q?Gr=FC=DFe?= [clear]",
        Wish.RAISE,
        b" =?iso-8859-1?Q?Gr=FC=DFe?=",
    ),
    "between words": (b" " + _b("ü") + b" [encrypt] " + _b("ä"), Wish.RAISE, b" " + b"=?utf-8?b?w7wgw6Q=?="),
    "in a Q word": (b" =?utf-8?q?=5Bencrypt=5D_Gr=C3=BC=C3=9Fe?=", Wish.RAISE, b" =?utf-8?b?R3LDvMOfZQ==?="),
    "plain in a Q word": (
        b" =?utf-8?q?[encrypt]_Gr=C3=BC=C3=9Fe?=",
        Wish.RAISE,
        b" =?utf-8?b?R3LDvMOfZQ==?=",
    ),
    "in a B word": (b" Re: " + _b("[encrypt] a"), Wish.RAISE, b" Re: a"),
    "over two words": (b" =?utf-8?q?[enc?= =?utf-8?q?rypt]?= a", Wish.RAISE, b" a"),
    "over word and text": (b" =?utf-8?q?[enc?=rypt] a", Wish.RAISE, b" a"),
    "lower in a word": (b" " + _b("[clear] a"), Wish.LOWER, b" a"),
    "lower behind a blank in a word": (b" " + _b("  [clear] a"), Wish.LOWER, b" a"),
    "in UTF-16": (b" " + _b("[encrypt] a", "utf-16-le"), Wish.RAISE, b" a"),
    "in a word of an unknown charset": (b" =?x-none?q?[encrypt]?= a", Wish.RAISE, b" a"),
    "in a word that nobody can read": (
        b" =?x-none?q?[encrypt]=FC?= a",
        Wish.RAISE,
        b" =?utf-8?b?PT94LW5vbmU/cT8gPUZDPz0gYQ==?=",
    ),
    "behind what is no base64": (b" =?utf-8?B?W2VuY3J5cHRd\x7fIGE=?=", Wish.RAISE, b" a"),
    "line end in a word": (b" =?utf-8?q?a=0D=0ABcc:_x_[encrypt]?=", Wish.RAISE, b" =?utf-8?b?YQ0KQmNjOiB4?="),
}
"""A Subject, the wish in it, and the Subject without it."""


@pytest.mark.parametrize(("subject", "expected"), [(s, w) for s, w, _ in _SUBJECTS.values()], ids=_SUBJECTS)
def test_wish_of_subject_raises_anywhere_and_lowers_at_the_start(
    subject: bytes, expected: Wish | None
) -> None:
    """A tag that raises counts in any place and form, one that lowers at the very start only."""
    assert expected == wish_of(_message(subject), _ALL)


@pytest.mark.parametrize(("subject", "expected"), [(s, e) for s, _, e in _SUBJECTS.values()], ids=_SUBJECTS)
def test_without_wishes_subject_has_no_tag_left(subject: bytes, expected: bytes) -> None:
    """Tags in ASCII are cut out of the octets; where one is encoded the field is written anew."""
    stripped = without_wishes(_message(subject), _ALL)

    assert expected == _subject(stripped)
    assert None is wish_of(stripped, _ALL)
    assert stripped is without_wishes(stripped, _ALL)


@pytest.mark.parametrize(
    ("subject", "wish", "expected"),
    [
        (b" Secret lunch", Wish.RAISE, " lunch"),
        (b" a secret, really", Wish.RAISE, " a , really"),
        (b" Secretary secretly", None, " Secretary secretly"),
        (b" (secret)", Wish.RAISE, " ( )"),
        (" Öffentlich: a".encode(), Wish.LOWER, " : a"),
        (" öffentlich a".encode("latin-1"), Wish.LOWER, " a"),
        (" Veröffentlicht".encode(), None, " Veröffentlicht"),
        (b" =?utf-8?q?=C3=B6ffentlich?= a", Wish.LOWER, " a"),
        (" üsecret secretü".encode(), None, " üsecret secretü"),
    ],
)
def test_wishes_word_as_tag_counts_as_a_whole_word(subject: bytes, wish: Wish | None, expected: str) -> None:
    """A tag of letters is no part of a longer word, in any alphabet."""
    message = _message(subject)

    assert wish == wish_of(message, _WORDS)
    assert expected.encode() == _subject(without_wishes(message, _WORDS))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([b"X-Encrypt: always"], Wish.RAISE),
        ([b"x-encrypt:Never "], Wish.LOWER),
        ([b"X-ENCRYPT:\r\n ALWAYS"], Wish.RAISE),
        ([b"X-Encrypt: never", b"X-Encrypt: NEVER"], Wish.LOWER),
        ([b"X-Encrypted: always"], None),
    ],
)
def test_wish_of_field_says_it_in_any_letter_case(fields: list[bytes], expected: Wish | None) -> None:
    """The configured field holds one of two words."""
    assert expected == wish_of(_message(b" a", *fields), _ALL)


@pytest.mark.parametrize("value", [b"", b"yes", b"alway", b"always (please)", b"always never", b"\xffalways"])
def test_wish_of_unknown_value_refused(value: bytes) -> None:
    """A typo is not ignored: the reply says which values there are."""
    with pytest.raises(MessageRefused) as refused:
        wish_of(_message(b" [encrypt] a", b"X-Encrypt: " + value), _ALL)

    assert 'its X-Encrypt field must say "always" or "never"' in refused.value.reply().text


def test_wish_of_contradicting_fields_refused() -> None:
    """Two fields that say different things are a mistake that the sender must hear of."""
    with pytest.raises(MessageRefused, match="contradicting"):
        wish_of(_message(b" a", b"X-Encrypt: always", b"X-Encrypt: never"), _ALL)


@pytest.mark.parametrize(
    ("subject", "field"), [(b" [encrypt] a", b"X-Encrypt: never"), (b" [clear] a", b"X-Encrypt: always")]
)
def test_wish_of_field_and_tag_the_one_that_raises_wins(subject: bytes, field: bytes) -> None:
    """Field and tag are two ways of saying it; protection wins."""
    assert Wish.RAISE == wish_of(_message(subject, field), _ALL)


def test_without_wishes_removes_field_and_cleans_thread_topic() -> None:
    """The field goes wherever it stands; nothing else but Subject and Thread-Topic is touched."""
    message = _message(
        b" Re: [Clear] a",
        b"X-Encrypt: never",
        b"thread-topic: " + _b("[encrypt] ü"),
        b"Comments: [encrypt]",
        b"x-encrypt: nonsense",
    )

    expected = _message(b" Re: a", b"thread-topic: =?utf-8?b?w7w=?=", b"Comments: [encrypt]")
    assert expected == without_wishes(message, _ALL)


def test_without_wishes_long_lines_do_not_grow() -> None:
    """A tag that stands alone between folds leaves no line that is too long, and no empty one."""
    long = b"a" * 980
    message = _message(b" %b\r\n [encrypt] %b\r\n [clear]\r\n %b" % (long, long, long))

    assert b" %b\r\n %b\r\n %b" % (long, long, long) == _subject(without_wishes(message, _ALL))


@pytest.mark.parametrize("wishes", [Wishes(), Wishes("X-Other"), Wishes(always="[a]"), Wishes(never="[b]")])
def test_wishes_not_configured_nothing_happens(wishes: Wishes) -> None:
    """Each way is off unless it is configured; the message stays the same object."""
    message = _message(b" [encrypt] [clear]", b"X-Encrypt: nonsense", b"Thread-Topic: [clear]")

    assert None is wish_of(message, wishes)
    assert message is without_wishes(message, wishes)


def test_wishes_one_tag_configured_the_other_is_text() -> None:
    """Only what is configured is removed."""
    message = _message(b" [clear] [encrypt] a")

    assert b" [encrypt] a" == _subject(without_wishes(message, Wishes(never="[clear]")))
    assert b" [clear] a" == _subject(without_wishes(message, Wishes(always="[encrypt]")))
    assert Wish.LOWER == wish_of(message, Wishes(never="[clear]"))


_BAD_TAGS = ("", "a b", "a\u00a0b", "a=", "?", "a" * 61)


@pytest.mark.parametrize(
    ("header", "tag"),
    [("", None), ("a b", None), ("a:", None), ("ä", None), *((None, tag) for tag in _BAD_TAGS)],
)
def test_wishes_impossible_setting_is_an_error(header: str | None, tag: str | None) -> None:
    """What cannot be found or removed without doubt is no setting."""
    with pytest.raises(ValueError, match=r"wish|tag"):
        Wishes(header, tag, tag)


_PIECES = st.sampled_from(
    ["[encrypt]", "[clear]", "[CLEAR]", "[enc", "rypt]", "[", "]", " ", "\t", "a", "ü", "secret", "\r\n "]
)


def _as_word(text: str) -> bytes:
    return _b(text.replace("\r\n", ""))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            _PIECES.map(lambda piece: piece.encode()),
            st.lists(_PIECES).map("".join).map(_as_word),
            st.sampled_from(
                [b"=?", b"?=", b"=?utf-8?q?", b"=?x?q?[clear]?=", b"=5Bclear]", b"\xfc", b"=?q", b"?b?"]
            ),
        )
    ),
    st.sampled_from(
        [_ALL, Wishes(None, "clear", "#secret"), Wishes(None, "[a", "a]"), Wishes(None, "a", "ü")]
    ),
)
def test_without_wishes_leaves_no_tag_in_any_subject(pieces: list[bytes], wishes: Wishes) -> None:
    """No tag is left in the text, a second time changes nothing, and what had no tag stays byte for byte."""
    value = re.sub(rb"(?:\r\n[ \t]*)+(?=\r\n|\Z)", b"", b"".join(pieces))
    message = _message(value)
    stripped = without_wishes(message, wishes)
    text = words.decoded(stripped.get("subject")[0].value)

    assert stripped is without_wishes(stripped, wishes)
    assert stripped == parse(stripped.content)
    for tag in wishes.tags:
        edges = [r"(?<!\w)" * tag[0].isalnum(), r"(?!\w)" * tag[-1].isalnum()]
        assert not re.search(edges[0] + re.escape(tag) + edges[1], text, re.IGNORECASE)
    if stripped is not message:
        assert words.decoded(message.get("subject")[0].value) != text
    assert (message.fields[0], message.fields[2:], message.body) == (
        stripped.fields[0],
        stripped.fields[2:],
        stripped.body,
    )


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])))
def test_without_wishes_tag_in_words_of_another_writer(text: str) -> None:
    """A tag inside of what another program encodes is found and gone for another reader."""
    kind = Charset("utf-8")
    kind.header_encoding = BASE64
    written = Header(f"{text} [EncrYpt] {text}", kind).encode(linesep="\r\n").encode("ascii")
    message = _message(b" " + written)
    stripped = without_wishes(message, _ALL)

    assert Wish.RAISE == wish_of(message, _ALL)
    shown = str(make_header(decode_header(stripped.get("subject")[0].value.decode("ascii"))))
    assert f"{text} {text}".split() == shown.split()


@pytest.mark.parametrize(
    "piece", [b"[encrypt]", b"[enc", b" ", b"[encrypt] \r\n ", b"a [clear]", b"=?utf-8?q?[clear]?= "]
)
def test_without_wishes_time_is_linear(piece: bytes) -> None:
    """A Subject of a megabyte is cleaned in about a second."""
    message = _message(b" " + piece * (1_000_000 // len(piece)) + b"x")
    start = time.process_time()
    wish_of(without_wishes(message, _ALL), _ALL)

    assert time.process_time() - start < 5
