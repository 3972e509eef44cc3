"""Addresses: one spelling for what is one mailbox, and never one for what is two."""

from __future__ import annotations

import idna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.address import has_routing, parse_domain, parse_mailbox, parse_path, user_id_key
from relay.errors import AddressSyntax, BadAddress, DomainNotQualified, RelayError
from relay.message import Address

KELVIN, LONG_S, DOTLESS_I, DOTTED_I = "\u212a", "\u017f", "\u0131", "\u0130"

ATEXT = "abzABZ019!#$%&'*+-/=?^_`{|}~éßЖ漢"
DOT_STRINGS = st.lists(st.text(ATEXT, min_size=1, max_size=8), min_size=1, max_size=4).map(".".join)
QUOTED_CONTENT = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
LDH_DOMAINS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\.[a-z]{2,6}", fullmatch=True)
U_LABELS = st.sampled_from(
    ["bücher", "straße", "παράδειγμα", "пример", "例え", "\u0131x", "faß", "নাম", "مصر"]
)


@pytest.mark.parametrize(
    "text",
    [
        "bob@X.example",
        "bob@x.example.",
        "BOB@x.example",
        '"bob"@x.example',
        r'"b\ob"@x.example',
        r'"\b\o\b"@x.example',
        "bob@x\uff0eexample",
        "bob@x\u3002example",
        "bob@x\uff61example\uff0e",
        "bob@\uff58.example",
    ],
)
def test_parse_path_other_spelling_has_the_same_key(text: str) -> None:
    """Letter case, quoting, a trailing dot and full-width forms of the domain do not make another mailbox."""
    address = parse_path(text)

    assert "bob@x.example" == address.key
    assert text == address.text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "XN--BCHER-KVA.Example"),
        ("bu\u0308cher.example", "bücher.example"),
        ("faß.example", "xn--fa-hia.example"),
    ],
)
def test_parse_domain_u_label_and_a_label_are_one(one: str, other: str) -> None:
    """U-label, A-label and unnormalised form of a domain are one domain."""
    assert parse_domain(one) == parse_domain(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"{KELVIN}im@x.example", "kim@x.example"),
        (f"{LONG_S}am@x.example", "sam@x.example"),
        (f"{DOTLESS_I}an@x.example", "ian@x.example"),
        (f"{DOTTED_I}an@x.example", "ian@x.example"),
        ("straße@x.example", "strasse@x.example"),
        ("É@x.example", "é@x.example"),
        ("e\u0301@x.example", "é@x.example"),
        ("\uff42ob@x.example", "bob@x.example"),
        ("bob@faß.example", "bob@fass.example"),
        ("bob@x\u0131.example", "bob@xi.example"),
        ("b.ob@x.example", "bob@x.example"),
        ("bob+a@x.example", "bob@x.example"),
        ('" bob"@x.example', "bob@x.example"),
    ],
)
def test_parse_path_only_ascii_is_folded(one: str, other: str) -> None:
    """Local parts are folded in ASCII only, and nothing else of them is interpreted."""
    assert parse_path(one).key != parse_path(other).key


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("bob@[192.0.2.1]", "[192.0.2.1]"),
        ("bob@[IPv6:2001:DB8:0:0::1]", "[ipv6:2001:db8::1]"),
        ("bob@[ipv6:::ffff:192.0.2.1]", "[ipv6:::ffff:c000:201]"),
        ("bob@ab--cd.example", "ab--cd.example"),
        ("bob@a.b.c.d.example", "a.b.c.d.example"),
        ("bob@9.9.example", "9.9.example"),
    ],
)
def test_parse_path_literals_and_odd_domains_are_taken(text: str, domain: str) -> None:
    """Address literals have one spelling; labels that are no IDNA but legal host names are taken."""
    assert domain == parse_path(text).domain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bob",
        "bob@",
        "@x.example",
        "@",
        "bob@.example",
        "bob@x..example",
        "bob@x.example..",
        "bob@-x.example",
        "bob@x-.example",
        "bob@a_b.example",
        "bob@x.example:25",
        "bob@192.0.2.1",
        "bob@[192.0.2.256]",
        "bob@[2001:db8::1]",
        "bob@[IPv6:fe80::1%eth0]",
        "bob@[192.0.2.1",
        "bob@[192.0.2.1].example",
        ".bob@x.example",
        "b..ob@x.example",
        "bob.@x.example",
        "bo b@x.example",
        "bob @x.example",
        " bob@x.example",
        "bob@x.example ",
        "bob@x.exa mple",
        "b(c)ob@x.example",
        "<bob@x.example>",
        "bob@x.example>",
        "a,b@x.example",
        'b"ob@x.example',
        '"bob@x.example',
        '"bob\\"@x.example',
        '""@x.example',
        '"a"b"@x.example',
        '"a".b@x.example',
        "bob\r\n@x.example",
        '"bob\r\n"@x.example',
        '"bob\n"@x.example',
        '"bob\0"@x.example',
        "bob\0@x.example",
        "bob\x7f@x.example",
        "bob\x85@x.example",
        "bob\u2028@x.example",
        "bob\u00a0@x.example",
        "bob\u202e@x.example",
        "bob\ufeff@x.example",
        "bob@x\u00ad.example",
        "bob@x\u200b.example",
        "bob@x.example\n",
        "bob@x.example\u2028",
        "\ud800@x.example",
        "bob@\ud800.example",
        "bob@xn--\u00fc.example",
        "bob@\U0001f4a9.example",
        "bob@x\uff20y.example",
        "bob@x\uff0fy.example",
        "bob@xn--.example\u00fc.",
        "b" * 129 + "@x.example",
        "é" * 65 + "@x.example",
        "bob@" + "x" * 64 + ".example",
        "bob@" + "x." * 125 + "example",
        "bob@" + "ü" * 60 + ".example",
        "b" * 1000,
        "bob@" + "x." * 100_000 + "example",
    ],
)
def test_parse_path_malformed_is_refused_with_501(text: str) -> None:
    """What is no mailbox is 501 5.1.3, in a text that is safe to send."""
    with pytest.raises(AddressSyntax) as caught:
        parse_path(text)

    reply = caught.value.reply()
    assert (501, "5.1.3") == (reply.code, reply.enhanced)
    assert reply.text.isascii()
    assert reply.text.isprintable()


def test_parse_path_limits_are_inclusive() -> None:
    """A local part of 128 octets and a label of 63 are still taken."""
    assert "b" * 128 == parse_path("b" * 128 + "@x.example").local
    assert "x" * 63 + ".example" == parse_path("bob@" + "x" * 63 + ".example").domain


@pytest.mark.parametrize("text", ["bob@localhost", "bob@localhost.", "bob@xn--bcher-kva", "bob@bücher"])
def test_parse_path_single_label_is_refused_with_554(text: str) -> None:
    """A domain without a dot is refused and the reply says why (RFC 6409 §4.2)."""
    with pytest.raises(DomainNotQualified) as caught:
        parse_path(text)

    reply = caught.value.reply()
    assert 554 == reply.code
    assert "not fully qualified" in reply.text


@pytest.mark.parametrize(
    "text", ["@a.example,@b.example:bob@x.example", "@a.example:bob@x.example", "bob@evil.example@x.example"]
)
def test_parse_path_route_is_refused_with_553(text: str) -> None:
    """Source routes and an unquoted second @ are 553 5.1.3, naming the address."""
    with pytest.raises(BadAddress) as caught:
        parse_path(text)

    reply = caught.value.reply()
    assert (553, "5.1.3") == (reply.code, reply.enhanced)
    assert f"<{text}>" in reply.text


@pytest.mark.parametrize(
    ("text", "routes"),
    [
        ("bob%y.example@x.example", True),
        ('"bob%y.example"@x.example', True),
        ("y.example!bob@x.example", True),
        ('"bob@y.example"@x.example', True),
        (r'"bob\@y.example"@x.example', True),
        ("bob\uff05y@x.example", True),
        ("bob\uff20y@x.example", True),
        ("bob\ufe6by@x.example", True),
        ("bob+y=x.example@x.example", False),
        ("bob@x.example", False),
    ],
)
def test_has_routing_sees_through_quotes_and_full_width(text: str, routes: bool) -> None:
    """%, ! and @ are found in the unquoted local part, in their compatibility forms too."""
    assert routes == has_routing(parse_path(text))


@pytest.mark.parametrize("text", ["bob", "@a.example:bob@x.example", "bob@localhost", "a\nb@x.example"])
def test_parse_mailbox_malformed_raises_value_error(text: str) -> None:
    """Header and configuration addresses fail with a ValueError and no reply."""
    with pytest.raises(ValueError, match=r"^it|^its|^the part"):
        parse_mailbox(text)


@settings(max_examples=100, deadline=None)
@given(DOT_STRINGS, LDH_DOMAINS)
def test_parse_path_key_is_idempotent(local: str, domain: str) -> None:
    """Parsing the key of an address with an unquoted local part gives the same key."""
    address = parse_path(f"{local}@{domain}")

    assert address.key == parse_path(address.key).key


@settings(max_examples=100, deadline=None)
@given(QUOTED_CONTENT, LDH_DOMAINS)
def test_parse_path_quoting_is_undone(content: str, domain: str) -> None:
    """However a local part is quoted, the content is what counts."""
    escaped = content.replace("\\", "\\\\").replace('"', '\\"')
    everything = "".join(f"\\{char}" for char in content)

    assert content == parse_path(f'"{escaped}"@{domain}').local
    assert content == parse_path(f'"{everything}"@{domain}').local


@settings(max_examples=100, deadline=None)
@given(U_LABELS, LDH_DOMAINS)
def test_parse_path_u_and_a_labels_have_one_key(label: str, domain: str) -> None:
    """The U-label, upper-case U-label and A-label spelling of a domain are one mailbox."""
    a_label = idna.encode(label).decode()

    keys = {parse_path(f"bob@{spelled}.{domain}").key for spelled in (label, a_label, a_label.upper())}
    assert {f"bob@{a_label}.{domain}"} == keys


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.text('ab@.<>"\\ %!:[]\r\n\0éK', max_size=30))
def test_parse_path_any_text_is_an_address_or_a_relay_error(text: str) -> None:
    """Arbitrary text gives an address that is safe on the wire, or a reply; never another exception."""
    try:
        address = parse_path(text)
    except RelayError as exc:
        assert 500 <= exc.reply().code < 600
        return

    assert isinstance(address, Address)
    assert not set(address.text) & set("\r\n\0")
    assert address.domain.isascii()
    assert address.domain == address.domain.lower()


@pytest.mark.parametrize(
    ("user_id", "expected"),
    [
        ("Bob <bob@example.com>", "bob@example.com"),
        ("bob@example.com", "bob@example.com"),
        ("<bob@example.com>", "bob@example.com"),
        ("Bob (work) <BOB@Example.COM>", "bob@example.com"),
        ('Bob <"bob"@example.com>', "bob@example.com"),
        ("Bob <bob@bücher.example>", "bob@xn--bcher-kva.example"),
        ("Bob <bob@xn--bcher-kva.example>", "bob@xn--bcher-kva.example"),
        ("Bob < bob@example.com >", "bob@example.com"),
        ("alice@example.com <bob@example.com>", "bob@example.com"),
        ("<alice@example.com> <bob@example.com>", "bob@example.com"),
        ("Bob <bob@example.com> (work)", "bob@example.com"),
        ("Bob <bob@example.com> <", "bob@example.com"),
        ("Bob", None),
        ("Bob bob@example.com", None),
        ("Bob <bob@example.com", None),
        ("", None),
    ],
)
def test_user_id_key_of_a_user_id_is_its_mailbox(user_id: str, expected: str | None) -> None:
    """The mailbox is what stands in the last angle brackets, or the whole text; never a part of it."""
    assert expected == user_id_key(user_id)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_user_id_key_of_any_text_is_a_value(user_id: str) -> None:
    """Whatever stands in a User ID, reading it raises nothing."""
    found = user_id_key(user_id)

    assert found is None or "@" in found
