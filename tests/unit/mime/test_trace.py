"""Tests of `relay.mime.trace`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.message import Address
from relay.mime.headers import parse
from relay.mime.trace import protocol_name, received

_DATE = "Mon, 23 Nov 2026 12:00:00 +0000"
_PLAIN: dict[str, Any] = {
    "client_helo": "laptop.example",
    "client_ip": "192.0.2.1",
    "hostname": "relay.example",
    "protocol": "ESMTPSA",
    "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
    "id": "k3j2",
    "date": _DATE,
    "recipient": None,
}


def test_received_has_every_clause_in_the_order_of_the_rfc() -> None:
    """From, by, with, id, for, tls and date stand as RFC 5321 §4.4 and RFC 8314 §4.3 say (T-01 to T-05)."""
    expected = (
        b"Received: from laptop.example ([192.0.2.1])\r\n"
        b"\tby relay.example with ESMTPSA id k3j2\r\n"
        b"\tfor <b@c.example>\r\n"
        b"\ttls TLS_AES_256_GCM_SHA384 (TLSv1.3);\r\n"
        b"\tMon, 23 Nov 2026 12:00:00 +0000\r\n"
    )

    assert expected == received(**{**_PLAIN, "recipient": parse_mailbox("b@c.example")})


def test_received_without_recipient_has_no_for_clause() -> None:
    """No recipient stands in the field unless the caller names the only one (T-05)."""
    assert b"for" not in received(**_PLAIN)


@pytest.mark.parametrize(
    ("helo", "ip", "expected"),
    [
        ("x.example", "2001:db8::1", b"from x.example ([IPv6:2001:db8::1])"),
        ("x.example", "::ffff:192.0.2.7", b"from x.example ([192.0.2.7])"),
        ("x.example", "fe80::1%eth0", b"from x.example ([IPv6:fe80::1])"),
        ("[192.0.2.9]", "192.0.2.1", b"from [192.0.2.9] ([192.0.2.1])"),
        ("[IPv6:2001:db8::2]", "192.0.2.1", b"from [IPv6:2001:db8::2] ([192.0.2.1])"),
        ("", "192.0.2.1", b"from [192.0.2.1] ([192.0.2.1])"),
        ("a b", "192.0.2.1", b"from [192.0.2.1] ([192.0.2.1])"),
        ("a\r\nBcc: x", "192.0.2.1", b"from [192.0.2.1] ([192.0.2.1])"),
        ("x (by evil)", "192.0.2.1", b"from [192.0.2.1] ([192.0.2.1])"),
        ("x" * 5000, "192.0.2.1", b"from [192.0.2.1] ([192.0.2.1])"),
        ("bücher.example", "192.0.2.1", b"from [192.0.2.1] ([192.0.2.1])"),
        ("x.example", "", b"from x.example (unix socket)"),
        ("", "", b"from localhost (unix socket)"),
        ("", "nonsense", b"from unknown (unknown address)"),
    ],
)
def test_received_client_is_named_or_left_out(helo: str, ip: str, expected: bytes) -> None:
    """The client's own name stands there only if it is a domain or an address literal (T-04)."""
    first = received(**{**_PLAIN, "client_helo": helo, "client_ip": ip}).split(b"\r\n")[0]

    assert b"Received: " + expected == first


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384", b"tls TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 (TLSv1.2)"),
        (
            "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305",
            b"tls TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 (TLSv1.2)",
        ),
        ("TLSv1.2 DHE-RSA-AES128-SHA", b"(TLSv1.2 DHE-RSA-AES128-SHA)"),
    ],
)
def test_received_tls_names_the_registered_cipher(tls: str, expected: bytes) -> None:
    """OpenSSL's names become those of the registry; unknown ones a comment (T-03)."""
    assert b"\t" + expected + b";" in received(**{**_PLAIN, "tls": tls}).split(b"\r\n")


def test_received_without_tls_has_no_tls_clause() -> None:
    """A connection without TLS claims none."""
    assert b"tls" not in received(**{**_PLAIN, "tls": ""}).lower().replace(b"esmtpsa", b"")


def test_received_utf8_recipient_only_in_a_utf8_protocol() -> None:
    """An address beyond ASCII does not get into a field that has to be ASCII."""
    recipient = parse_mailbox("ä@c.example")

    assert received(**{**_PLAIN, "recipient": recipient}).isascii()
    assert "for <ä@c.example>".encode() in received(
        **{**_PLAIN, "recipient": recipient, "protocol": "UTF8SMTPSA"}
    )


def test_received_unprintable_recipient_is_left_out() -> None:
    """An address with a line end in it, should one ever get here, adds no field."""
    recipient = Address("a@x.example>\r\nBcc: y", "a", "x.example")

    assert b"Bcc" not in received(**{**_PLAIN, "recipient": recipient})


@settings(deadline=None, max_examples=100)
@given(helo=st.text(max_size=50), ip=st.text(max_size=50), id=st.text(max_size=20), tls=st.text(max_size=40))
def test_received_any_client_text_stays_one_short_field(helo: str, ip: str, id: str, tls: str) -> None:
    """Whatever a client sends, the result is one ASCII field with short lines."""
    field = received(**{**_PLAIN, "client_helo": helo, "client_ip": ip, "id": id, "tls": tls})

    assert ["received"] == [one.name for one in parse(field).fields]
    assert field.isascii()
    assert max(map(len, field.split(b"\r\n"))) < 400


@pytest.mark.parametrize(
    ("tls", "login", "smtputf8", "expected"),
    [
        (True, True, False, "ESMTPSA"),
        (True, False, False, "ESMTPS"),
        (False, True, False, "ESMTPA"),
        (False, False, False, "ESMTP"),
        (True, True, True, "UTF8SMTPSA"),
        (False, False, True, "UTF8SMTP"),
    ],
)
def test_protocol_name_as_registered(tls: bool, login: bool, smtputf8: bool, expected: str) -> None:
    """The transmission types of RFC 3848 and RFC 6531 (T-02)."""
    assert expected == protocol_name(extended=True, tls=tls, login=login, smtputf8=smtputf8)


def test_protocol_name_after_helo_is_smtp() -> None:
    """HELO knows no extensions (RFC 5321 §4.1.1.1)."""
    assert "SMTP" == protocol_name(extended=False, tls=False, login=False, smtputf8=False)
