"""Tests of `relay.mime.pgpmime`."""

from __future__ import annotations

import email
import email.policy

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MessageRefused
from relay.mime.headers import Field, Message, parse
from relay.mime.pgpmime import entity, new_boundary, plan, release, wrap
from relay.rule import Headers
from tests.mail import BOUNDARY, RECEIVED, armor, crlf, encrypted

_MESSAGE = crlf(
    """\
    From: Alice <alice@a.example>
    X-Odd:  two  spaces\t
    MIME-Version: 1.0
    To: bob@b.example,
    \tcarol@c.example
    Content-Type: application/vnd.ms-excel;
     name="payroll.xlsx"
    Subject: Lunch
    Content-Disposition: attachment; filename="payroll.xlsx"
    content-transfer-encoding: base64

    cGF5cm9sbA==
    """
)
_OUTER = (
    RECEIVED
    + crlf(
        """\
        From: Alice <alice@a.example>
        X-Odd:  two  spaces\t
        To: bob@b.example,
        \tcarol@c.example
        Subject: Lunch
        MIME-Version: 1.0
        """
    )
    + b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n'
    + f'\tboundary="{BOUNDARY}"\r\n'.encode()
)
_INNER = crlf(
    """\
    Content-Type: application/vnd.ms-excel;
     name="payroll.xlsx"
    Content-Disposition: attachment; filename="payroll.xlsx"
    content-transfer-encoding: base64

    cGF5cm9sbA==
    """
)


@pytest.fixture(scope="module")
def key() -> pysequoia.Tsk:
    """A recipient's key pair."""
    return pysequoia.Tsk.generate("<bob@b.example>")


def _encrypt(octets: bytes, key: pysequoia.Tsk) -> bytes:
    return pysequoia.encrypt(octets, recipients=[key.extract_certificate()])


def _decrypt(header: bytes, body: bytes, key: pysequoia.Tsk) -> bytes:
    """What a mail client decrypts, found by another MIME parser than ours."""
    parsed = email.message_from_bytes(header + b"\r\n" + body, policy=email.policy.compat32)
    _, part = parsed.get_payload()  # type: ignore[misc]  # two parts, or the test fails here
    plain = pysequoia.decrypt(part.get_payload(decode=True), key.decryptor()).bytes
    assert plain is not None
    return plain


def _protected(message: Message, key: pysequoia.Tsk) -> bytes:
    header, body = wrap(
        _outside(message), _encrypt(payload(message), key), boundary=BOUNDARY, received=RECEIVED
    )
    return _decrypt(header, body, key)


def payload(message: Message) -> bytes:
    return b"".join(entity(message))


def _outside(message: Message) -> tuple[Field, ...]:
    return plan(message, Headers.KEEP).outside


def test_entity_is_content_fields_and_body_verbatim() -> None:
    """Every Content-* field and the body go inside as they are; nothing else does (P-05)."""
    assert _INNER == payload(parse(_MESSAGE))


def test_wrap_header_has_trace_copied_fields_and_template() -> None:
    """Received comes first, other fields stay raw and in order, none of the content's stays (P-01, T-01)."""
    header, _ = wrap(_outside(parse(_MESSAGE)), armor(encrypted()), boundary=BOUNDARY, received=RECEIVED)

    assert _OUTER == header


def test_wrap_body_is_two_fixed_parts() -> None:
    """Control part, armoured part, empty preamble and epilogue, fixed names, CRLF (P-02 to P-04, P-11)."""
    armored = armor(encrypted(), eol="\r\n")
    expected = (
        crlf(
            f"""\
            --{BOUNDARY}
            Content-Type: application/pgp-encrypted
            Content-Description: PGP/MIME version identification

            Version: 1

            --{BOUNDARY}
            Content-Type: application/octet-stream; name="encrypted.asc"
            Content-Description: OpenPGP encrypted message
            Content-Disposition: inline; filename="encrypted.asc"

            """
        )
        + armored
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )

    for given_armor in (armored, armor(encrypted())):
        _, body = wrap(_outside(parse(_MESSAGE)), given_armor, boundary=BOUNDARY, received=RECEIVED)
        assert expected == body


def test_wrap_other_parser_sees_two_parts_with_their_types() -> None:
    """A parser that is not ours reads the structure of RFC 3156 §4, 7-bit, without odd lines (P-10, M-20)."""
    header, body = wrap(_outside(parse(_MESSAGE)), armor(encrypted()), boundary=BOUNDARY, received=RECEIVED)
    parsed = email.message_from_bytes(header + b"\r\n" + body, policy=email.policy.default)

    assert ("multipart/encrypted", "application/pgp-encrypted") == (
        parsed.get_content_type(),
        parsed.get_param("protocol"),
    )
    assert ["application/pgp-encrypted", "application/octet-stream"] == [
        part.get_content_type() for part in parsed.iter_parts()  # type: ignore[union-attr]  # default policy
    ]  # fmt: skip
    assert ("", "") == (parsed.preamble or "", (parsed.epilogue or "").strip())
    assert not parsed.defects
    assert (header + body).isascii()
    assert max(map(len, body.split(b"\r\n"))) <= 76


def test_wrap_large_armor_keeps_all_lines() -> None:
    """Line ends are converted the same way in armour that is longer than one piece."""
    armored = b"a" * 63 + b"\n" * 3 + (b"b" * 64 + b"\n") * 40_000
    _, body = wrap(_outside(parse(_MESSAGE)), armored, boundary=BOUNDARY, received=RECEIVED)

    assert armored.replace(b"\n", b"\r\n") in body


@pytest.mark.parametrize(
    "content",
    {
        "no trailing newline": b"Content-Type: text/plain\r\n\r\nend",
        "dot lines": b"Content-Type: text/plain\r\n\r\n.\r\n..\r\n...x\r\n.\r\n",
        "empty body": b"Content-Type: text/plain\r\n\r\n",
        "header only": b"Content-Type: text/plain\r\n",
        "trailing spaces": b"Content-Type: text/plain\r\n\r\nx  \t \r\n  \r\n\r\n\r\n",
        "from line": b"Content-Type: text/plain\r\n\r\nFrom me\r\n>From you\r\n",
        "binary": b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        + bytes(range(1, 256)).translate(None, b"\r\n"),
        "armour inside": b"Content-Type: text/plain\r\n\r\n" + armor(encrypted(), eol="\r\n"),
        "our boundary inside": b"Content-Type: text/plain\r\n\r\n--" + BOUNDARY.encode() + b"--\r\n",
        "long lines": b"Content-Type: text/plain\r\n\r\n" + b"x" * 100_000 + b"\r\n",
    }.values(),
)
def test_wrap_decrypted_is_what_was_sent(content: bytes, key: pysequoia.Tsk) -> None:
    """The recipient gets the Content-* fields and the body byte for byte (M-06, P-06)."""
    expected = content if b"\r\n\r\n" in content else content + b"\r\n"

    assert expected == _protected(parse(b"From: a@b.example\r\n" + content), key)


@settings(deadline=None, max_examples=60)
@given(
    body=st.binary(max_size=400).map(lambda octets: octets.translate(None, b"\r\n\0")),
    ending=st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]),
)
def test_wrap_any_body_survives(body: bytes, ending: bytes, key: pysequoia.Tsk) -> None:
    """Decrypting what was protected gives back any body."""
    content = b"Content-Type: a/b\r\n\r\n" + body + ending + body

    assert content == _protected(parse(b"From: a@b.example\r\n" + content), key)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"A: b\r\n\r\nplain\r\n", b"Content-Type: text/plain; charset=us-ascii\r\n\r\nplain\r\n"),
        (
            "A: b\r\n\r\nümlaut\r\n".encode(),
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            + "ümlaut\r\n".encode(),
        ),
        (
            b"A: b\r\n\r\n\xfcmlaut\r\n",
            b"Content-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            + b"\xfcmlaut\r\n",
        ),
        (
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=20\r\n",
            b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=20\r\n",
        ),
        (b"\r\nx", b"Content-Type: text/plain; charset=us-ascii\r\n\r\nx"),
    ],
)  # fmt: skip
def test_entity_without_content_type_says_what_it_implies(content: bytes, expected: bytes) -> None:
    """A message without Content-Type is shown as text, and its octets survive whatever their charset."""
    assert expected == payload(parse(content))


def test_entity_utf8_across_a_piece_border_is_recognised() -> None:
    """A character that lies across two pieces does not make the text something else."""
    body = b"x" * ((1 << 20) - 1) + "ä".encode()

    assert b"charset=utf-8" in payload(parse(b"A: b\r\n\r\n" + body))[:60]


def test_release_is_the_message_with_received_on_top() -> None:
    """A clear copy loses only what may never leave; body and other lines stay byte for byte."""
    content = (
        b"DKIM-Signature: v=1\r\nBcc: x@y.example\r\nSubject:  a\r\n\tb\r\nContent-Type: a/b\r\n\r\n.\r\n\xff"
    )

    copy = release(parse(content), received=RECEIVED, recipients=(), rule="policy.default", smtputf8=True)

    assert RECEIVED + b"DKIM-Signature: v=1\r\nSubject:  a\r\n\tb\r\nContent-Type: a/b\r\n" == copy.header
    assert (b".\r\n\xff", "policy.default", False) == (copy.body, copy.rule, copy.smtputf8)


def test_release_long_line_refused() -> None:
    """What RFC 5322 forbids does not leave in clear (M-05)."""
    with pytest.raises(MessageRefused):
        release(
            parse(b"A: b\r\n\r\n" + b"x" * 999), received=RECEIVED, recipients=(), rule="r", smtputf8=False
        )


def test_new_boundary_is_random_and_valid() -> None:
    """Boundaries are unique, short enough and no beginning of a line of armour (P-09)."""
    made = {new_boundary() for _ in range(1000)}

    assert 1000 == len(made)
    assert {(40, "=_")} == {(len(boundary), boundary[:2]) for boundary in made}


def test_plan_headers_protected_puts_a_root_around_the_entity() -> None:
    """The submitted entity is the only part of the payload, byte for byte (H-13)."""
    found = plan(parse(_MESSAGE), Headers.PROTECT)
    head, _, rest = found.payload.partition(b"\r\n\r\n")
    line = rest.split(b"\r\n", 1)[0]

    assert head.startswith(b"Content-Type: multipart/mixed; boundary=")
    assert line + b"\r\n" + _INNER + b"\r\n" + line + b"--\r\n" == rest
    assert found.is_protected


def test_plan_headers_kept_encrypts_the_entity_alone() -> None:
    """Under `headers: keep` every other field stays outside as it was."""
    found = plan(parse(_MESSAGE), Headers.KEEP)

    assert (_INNER, False) == (found.payload, found.is_protected)
    assert b"Subject: Lunch\r\n" in [field.raw for field in found.outside]


def test_plan_forwarded_message_is_never_the_root_of_a_payload() -> None:
    """Old readers would take its header for that of this message (RFC 9788 §4.10, H-10)."""
    content = b"From: a@b.example\r\nContent-Type: message/rfc822\r\n\r\nSubject: other\r\n\r\nx"
    payload = plan(parse(content), Headers.KEEP).payload

    assert payload.startswith(b'Content-Type: multipart/mixed; boundary="')
    assert b"\r\nContent-Type: message/rfc822\r\n\r\nSubject: other\r\n\r\nx\r\n--" in payload
    assert b"hp=" not in payload


def test_plan_two_copies_have_different_boundaries() -> None:
    """Nothing links two copies of a message, and no boundary can be foreseen (P-09)."""
    first, second = (plan(parse(_MESSAGE), Headers.PROTECT).payload for _ in range(2))

    assert first != second
