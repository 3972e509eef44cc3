"""Reads and writes the text of unstructured header fields (RFC 2047).

Reading is liberal, because what one mail program shows must not escape a rule: words count inside of other
words, with blanks in them and without padding, and ASCII is ASCII in whatever charset. It never fails; what
is no encoded word stays as it stands.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from encodings.aliases import aliases

WORD = re.compile(
    r"=\?(?P<charset>[^?=*\s]{1,60})(?:\*[^?=\s]{0,40})?\?(?P<encoding>[BbQq])"
    r"\?(?P<text>(?:[^?=]++|=(?!\?(?!=))|\?(?!=))*+)\?="
)
"""An encoded word, perhaps with a language (RFC 2231 §5). Its text ends where the next one begins, so that
many unfinished words cost no more than one."""

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]+")
_ESCAPED = re.compile(r"=([0-9A-Fa-f]{2})")
_STRANGE_OCTETS = re.compile("[\udc80-\udcff]+")
_SURROGATES = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(r"[ \t]*[^ \t]+")
_PLAIN = re.compile(r"(?:[!-~](?:[ \t!-~]*[!-~])?)?")
_MAX_LINE_CHARS = 78
"""RFC 5322 §2.1.1."""
_MAX_WORD_LINE_CHARS = 76
"""RFC 2047 §2, for a line with an encoded word."""
_MAX_WORD_OCTETS = 45
"""60 characters of base64; with what stands around them below the 75 that a word may have."""
_AROUND_WORD_CHARS = len("=?utf-8?b??=")

_ALIASES = {
    **aliases,
    "windows_874": "cp874",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "koi8_u": "koi8_u",
}
_CODECS = frozenset(_ALIASES.values()) - frozenset(
    {
        *("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"),
        *("idna", "punycode", "unicode_escape", "raw_unicode_escape", "mbcs", "oem", "undefined"),
    }
)
"""What decodes octets in linear time. Only these are asked for: Python remembers every name that it does not
know for ever, and the names come from strangers."""


def decoded(value: bytes) -> str:
    """The text that a mail program shows for the value of an unstructured field.

    Raw UTF-8 is taken as such, every other octet beyond ASCII as Latin-1. Blanks between encoded words
    vanish (RFC 2047 §6.2); octets of neighbours with the same charset are joined before they are decoded,
    because some programs divide a character between two words.
    """
    text = _characters(value.replace(b"\r\n", b""))
    return _SURROGATES.sub("\ufffd", "".join(_decoded_pieces(text)))


def encoded(name: str, text: str) -> bytes:
    """A whole raw field: plain ASCII as it is, anything else in UTF-8 words, folded, ended by CRLF.

    Args:
        name: as it shall be spelled.
        text: any text; control characters are encoded, so that no line of it becomes a field of its own.
    """
    lines = _plain_lines(name, text) or _word_lines(name, text)
    return "\r\n".join([*lines, ""]).encode("ascii")


# --------------------------------------------------------------------------- reading


def _characters(octets: bytes) -> str:
    return _STRANGE_OCTETS.sub(
        lambda found: found[0].encode("ascii", "surrogateescape").decode("latin-1"),
        octets.decode("utf-8", "surrogateescape"),
    )


def _decoded_pieces(text: str) -> Iterator[str]:
    end, charset, run = 0, "", list[bytes]()
    for word in WORD.finditer(text):
        octets = _octets(word)
        if octets is None:
            continue
        codec = _codec(word["charset"]) or ("ascii" if octets.isascii() else None)
        if codec is None:
            continue
        between = text[end : word.start()]
        if charset and (codec != charset or between.strip(" \t")):
            yield b"".join(run).decode(charset, "replace")
            run = []
        if not charset or between.strip(" \t"):
            yield between
        run.append(octets)
        end, charset = word.end(), codec
    if charset:
        yield b"".join(run).decode(charset, "replace")
    yield text[end:]


def _codec(charset: str) -> str | None:
    """Python's name of a charset; None for one that it does not know."""
    name = charset.lower().replace("-", "_")
    codec = _ALIASES.get(name, name)
    return codec if codec in _CODECS else None


def _octets(word: re.Match[str]) -> bytes | None:
    """What an encoded word stands for; None if it is broken."""
    if not word["text"].isascii():
        return None
    if word["encoding"] in "Qq":
        text = word["text"].replace("_", " ")
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1")
    # Padding ends it, and other characters are passed over, as RFC 2045 §6.8 has it and most readers do.
    text = _NOT_BASE64.sub("", word["text"].partition("=")[0])
    try:
        return binascii.a2b_base64(text + "==")
    except binascii.Error:
        return None


# --------------------------------------------------------------------------- writing


def _plain_lines(name: str, text: str) -> list[str]:
    """The lines of a field that needs no encoded word; none if it needs one."""
    if not _PLAIN.fullmatch(text) or "=?" in text:
        return []
    tokens = _TOKEN.findall(text)
    lines = [f"{name}: {tokens[0]}" if tokens else f"{name}:"]
    for token in tokens[1:]:
        if len(lines[-1]) + len(token) <= _MAX_LINE_CHARS:
            lines[-1] += token
        else:
            lines.append(token)
    return lines if all(len(line) <= _MAX_LINE_CHARS for line in lines) else []


def _word_lines(name: str, text: str) -> list[str]:
    octets = text.encode("utf-8", "replace")
    room = _MAX_WORD_LINE_CHARS - len(f"{name}: ") - _AROUND_WORD_CHARS
    first = min(max(room, 0) // 4 * 3, _MAX_WORD_OCTETS)
    end = _character_end(octets, first)
    words = [_word(octets[:end])] if end else []
    lines = [f"{name}: {words[0]}" if words else f"{name}:"]
    while end < len(octets):
        start, end = end, _character_end(octets, end + _MAX_WORD_OCTETS)
        lines.append(f" {_word(octets[start:end])}")
    return lines


def _character_end(octets: bytes, end: int) -> int:
    """The last end of a character at or before `end` (RFC 2047 §5: a word holds whole characters)."""
    end = min(end, len(octets))
    while end < len(octets) and octets[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _word(octets: bytes) -> str:
    return f"=?utf-8?b?{binascii.b2a_base64(octets, newline=False).decode('ascii')}?="
