"""Fuzz targets for what key sources outside of this machine answer, and for the `Autocrypt` field.

Everything is asked about the owner of `hostile.py`, whose genuine keys are known: nothing else may be chosen.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import dns.exception
import dns.flags
import dns.message
import dns.rrset
import yarl
from aiohttp.helpers import is_ip_address

from relay.address import user_id_key
from relay.errors import KeySourceUnavailable, MessageRefused
from relay.keys import answers, entries, ldap_answers, web
from relay.keys.answers import MAX_CERTIFICATES
from relay.keys.dane import owner_name, read_answer, read_record
from relay.keys.ldap_answers import DONE, ENTRY, Refused
from relay.keys.trimming import only_user_id
from relay.message import Certificate
from relay.mime import armor, autocrypt, headers, packets
from relay.mime.packets import Malformed
from relay.openpgp.signatures import encode
from tests import keys
from tests.dnssec import answering
from tests.fuzz.chosen import check_verdict
from tests.fuzz.hostile import NAME, ORDINARY, OWNER, OWNER6, STRANGER, small
from tests.mail import armor as armored
from tests.opinions import MAILBOX, NOW, judge
from tests.slapd import entry, message, result

_KEY = MAILBOX.key
_SOURCE = "fuzz"
_OTHER = STRANGER.start() + STRANGER.bind()
_MORE_NAMES = (
    OWNER.start() + encode(packets.USER_ID, b"other@example.org") + OWNER.sign(0x13, b"other") + OWNER.bind()
)
_REVOKED = (
    OWNER.start()
    + OWNER.sign(0x30, NAME)
    + OWNER.sign(0x20)
    + OWNER.bind()
    + OWNER.sign(0x28, OWNER.subkey())
)
_SECRET = OWNER.secret(ORDINARY, "mail")
_MISPLACED = (
    OWNER.start()
    + encode(packets.USER_ID, b"other@example.org")
    + OWNER.sign(0x20)
    + OWNER.sign(0x28, OWNER.subkey())
    + OWNER.bind()
)
"""Revocations behind a User ID that is to go."""
_BESIDE = ORDINARY + encode(60, b"private")
_MAX_SEED_OCTETS = 2000
"""What takes long to judge is altered by the target `judge`."""
_PEM = "PUBLIC KEY BLOCK"
_REVOCATIONS = frozenset({0x20, 0x28})
"""Of keys: signature types that no trimming may lose."""


# --------------------------------------------------------------------------- what any of them gives


def _check_found(found: list[Certificate], data: bytes) -> None:
    """What came out can be kept and read again, and the judge chooses only what its owner bound."""
    for certificate in found:
        assert [certificate] == packets.certificates(certificate.data, _SOURCE)
        tags = {packet.tag for packet in packets.walk(certificate.data)}
        assert tags.isdisjoint({packets.SECRET_KEY, packets.SECRET_SUBKEY})
        check_verdict(judge(certificate.data), certificate.data)
    assert sum(len(certificate.data) for certificate in found) <= max(len(data), 100 * len(found))
    _check_kept(tuple(found))


def _check_kept(found: tuple[Certificate, ...]) -> None:
    """The way through the cache: what is written is what is read."""
    given = tuple(replace(certificate, fetched=NOW) for certificate in found)
    kept = entries.with_revocations(given, given)
    assert kept == given
    question = entries.Question(_SOURCE, _KEY, MAILBOX)
    assert given == entries.parse(entries.answered(question, kept, NOW, (1, 1), None))


def _names(certificate: Certificate) -> set[str | None]:
    return {user_id_key(user_id) for user_id in certificate.user_ids}


def bodies() -> list[bytes]:
    page = b"<!DOCTYPE html><html><title>Welcome</title></html>"
    wholes = [
        _MISPLACED,
        ORDINARY,
        OWNER6.certificate(),
        _MORE_NAMES,
        _REVOKED,
        _OTHER + ORDINARY,
        ORDINARY * 2,
        _OTHER,
        _SECRET,
    ]
    dressed = [armored(whole, label=_PEM, headers="Version: x\nComment: y") for whole in wholes[:4]]
    dressed += [
        b"\xef\xbb\xbf" + dressed[0],
        dressed[0] + b"text\n" + dressed[1],
        page + dressed[0],
        page,
        b"",
    ]
    return [
        *wholes,
        *dressed,
        armored(ORDINARY, eol="\r\n"),
        *(data for data in small() if len(data) <= _MAX_SEED_OCTETS),
    ]


# --------------------------------------------------------------------------- wkd, vks, hkps

_Read = Callable[[bytes, str, str], list[Certificate]]


def _read(read: _Read, body: bytes, about: str) -> list[Certificate] | None:
    """What was read; None where the source would be unavailable. Every other exception is a finding."""
    try:
        found = read(body, _SOURCE, about)
    except KeySourceUnavailable as exc:
        assert str(exc).isascii()
        return None
    _check_found(found, body)
    return found


def _check_exact(read: _Read, body: bytes) -> list[Certificate] | None:
    """Never "none"; everything is about the address alone, or nothing is about it at all."""
    found = _read(read, body, _KEY)
    if found is not None:
        assert 0 < len(found) <= MAX_CERTIFICATES
        assert all(_names(one) == {_KEY} for one in found) or all(_KEY not in _names(one) for one in found)
    return found


def answer_any_directory(data: bytes) -> None:
    """WKD: there is always an answer but for what is too much, and garbage is never taken over."""
    found = _check_exact(answers.from_directory, data)
    assert found is not None or len(data) > MAX_CERTIFICATES


def answer_any_vks(data: bytes) -> None:
    """VKS: what is refused here is an unusable stand-in for WKD, and all else is the same."""
    found = _check_exact(answers.from_exact, data)
    stood_in = _read(answers.from_directory, data, _KEY)
    assert found == stood_in or (found is None and (stood_in is None or not judge(stood_in[0].data).usable))


def answer_any_hkps(data: bytes) -> None:
    """HKPS: only certificates for the address; a fingerprint finds only its own."""
    found = _read(answers.from_search, data, _KEY)
    assert found is None or all(_names(one) == {_KEY} for one in found)
    for fingerprint in (OWNER.fingerprint, OWNER6.fingerprint, ""):
        named = _read(answers.with_fingerprint, data, fingerprint) or []
        assert all(fingerprint and one.fingerprint == fingerprint for one in named)
        assert all(packets.fingerprint(next(packets.walk(one.data))) == fingerprint for one in named)


# --------------------------------------------------------------------------- trimming


def trim_any_bytes(data: bytes) -> None:
    """Only packets of the input, in order; one mailbox; no revocation of a key is lost; twice is once."""
    try:
        cut = only_user_id(data, _KEY)
    except Malformed:
        return
    if cut is None:
        return
    before = [data[packet.start : packet.end] for packet in packets.walk(data)]
    after = [cut[packet.start : packet.end] for packet in packets.walk(cut)]
    rest = iter(before)
    assert all(packet in rest for packet in after)
    assert before[0] == after[0]
    [certificate] = packets.certificates(cut, _SOURCE)
    assert _names(certificate) == {_KEY}
    assert cut == only_user_id(cut, _KEY)
    lost = [packet for packet in packets.walk(data) if data[packet.start : packet.end] not in after]
    assert not any(
        packet.tag == packets.SIGNATURE and packet.head[1:2] in _KEY_REVOCATIONS for packet in lost
    )
    whole, less = judge(data), judge(cut)
    assert not (less.usable and whole.sentence.startswith("revoked"))
    check_verdict(less, cut)


_KEY_REVOCATIONS = frozenset(bytes([kind]) for kind in _REVOCATIONS)


# --------------------------------------------------------------------------- armour


def take_off_any_armour(data: bytes) -> None:
    """Blocks or Malformed; each stands where it says, and the text between two blocks has none."""
    end = 0
    with contextlib.suppress(Malformed):
        for block in armor.blocks(data):
            assert end <= block.start < block.end <= len(data)
            assert len(block.data) * 4 <= (block.end - block.start) * 3
            [again] = armor.blocks(data[block.start : block.end])
            assert again.data == block.data
            end = block.end


# --------------------------------------------------------------------------- dane


def read_any_record(data: bytes) -> None:
    """One certificate, the record itself or one that no judge accepts."""
    found = read_record(data, _SOURCE)
    _check_found([found], data)
    pieces = [found.data[packet.start : packet.end] for packet in packets.walk(found.data)]
    assert all(piece in data for piece in pieces) or not judge(found.data).usable


_QUERY = dns.message.make_query(str(owner_name(MAILBOX)), "OPENPGPKEY", id=7)


def _record(data: bytes, name: object = None) -> dns.rrset.RRset:
    encoded = base64.b64encode(data).decode()
    return dns.rrset.from_text(str(name or owner_name(MAILBOX)), 60, "IN", "OPENPGPKEY", encoded)


def wires() -> list[bytes]:
    alias = dns.rrset.from_text(str(owner_name(MAILBOX)), 9, "IN", "CNAME", "a.example.org.")
    soa = dns.rrset.from_text("example.com.", 60, "IN", "SOA", ". . 1 2 3 4 5")
    made = [
        answering(secure=True, answer=[_record(ORDINARY)]),
        answering(secure=False, answer=[_record(ORDINARY)]),
        answering(secure=True, answer=[alias, _record(OWNER6.certificate(), "a.example.org.")]),
        answering("NXDOMAIN", secure=True, authority=[soa]),
        answering(secure=True, authority=[soa]),
    ]
    return [wire for answer in made if (wire := answer(_QUERY))]


def read_any_dns_answer(data: bytes) -> None:
    """An answer or an exception that `discover` translates; without AD there is never a certificate."""
    try:
        response = dns.message.from_wire(data)
        if not _QUERY.is_response(response) or not isinstance(response, dns.message.QueryMessage):
            return
        if not response.question:
            return
        found = read_answer(response, MAILBOX, _SOURCE)
    except dns.exception.DNSException:
        return
    assert found.max_age_seconds is not None and 0 <= found.max_age_seconds < 1 << 31
    assert response.flags & dns.flags.AD or not found.certificates
    _check_found(list(found.certificates), data)


# --------------------------------------------------------------------------- ldap


def read_any_ldap_answer(data: bytes) -> None:
    """A value, or Refused; what is read is in the message, and only success is success."""
    with contextlib.suppress(Refused):
        kind, body = ldap_answers.read_message(data, 3)
        with contextlib.suppress(Refused):
            ldap_answers.need_success((kind, body), DONE)
            assert kind == DONE and body[:1] == b"\x0a" and not any(body[2 : 2 + body[1]])
        if kind != ENTRY:
            return
        for value in ldap_answers.entry_values(body, "pgpKey"):
            assert value in data
            _check_found(ldap_answers.read_value(value, _SOURCE), value)


def receive_any_ldap_answer(data: bytes) -> None:
    """No more is asked for than one message has, and no announced length is believed beyond the limit."""
    asked: list[int] = []

    async def read(count: int) -> bytes:
        start = sum(asked)
        asked.append(count)
        if start + count > len(data):
            raise EOFError
        return data[start : start + count]

    receiving = ldap_answers.receive(read, 1000)
    try:
        receiving.send(None)  # type: ignore[attr-defined]
    except StopIteration as stopped:
        assert stopped.value == data[: sum(asked)]
    except (Refused, EOFError):
        pass
    assert sum(asked) <= 1000 + 2 + 127


def ldap_messages() -> list[bytes]:
    found = [
        message(3, entry(b"pgpKey;binary", ORDINARY, b"x")),
        message(3, entry(b"PGPKEY", armored(_OTHER, label=_PEM))),
    ]
    return [*found, message(3, result(DONE, 0)), message(3, result(DONE, 4)), message(0, result(0x78, 0))]


# --------------------------------------------------------------------------- autocrypt


def find_any_autocrypt(data: bytes) -> None:
    """Any field: nothing, or one certificate of its author that can be kept."""
    field = headers.Field("autocrypt", b"Autocrypt:" + data + b"\r\n")
    _check_header(autocrypt.find(replace(_FROM, fields=(*_FROM.fields, field)), MAILBOX), data)


def find_any_message(data: bytes) -> None:
    """Any message: refused, or it teaches about its only author or not at all."""
    try:
        parsed = headers.parse(data)
    except MessageRefused:
        return
    assert parsed.content == data
    found = autocrypt.find(parsed, MAILBOX)
    assert found is None or len(parsed.get("from")) == 1
    _check_header(found, data)
    autocrypt.sent_at(parsed)


def _check_header(found: autocrypt.Header | None, data: bytes) -> None:
    if found is None:
        return
    assert found.addr.key == MAILBOX.key
    [certificate] = packets.certificates(found.certificate, _SOURCE)
    tags = {packet.tag for packet in packets.walk(found.certificate)}
    assert tags <= _CERTIFICATE_TAGS and len(found.certificate) <= len(data)
    assert certificate.data == found.certificate and certificate.fingerprint == found.fingerprint != ""
    _check_found([certificate], data)


_CERTIFICATE_TAGS = frozenset({2, 6, 13, 14, 17})
"""RFC 9580 §10.1."""
_FROM = headers.parse(b"From: Owner <owner@example.com>\r\n\r\n")


def fields() -> list[bytes]:
    start = b" addr=owner@example.com; prefer-encrypt=mutual; _x=y; keydata="
    made = [
        ORDINARY,
        OWNER6.certificate(),
        _MORE_NAMES,
        keys.certificate("curve25519").data,
        _SECRET,
        _BESIDE,
    ]
    return [start + base64.encodebytes(data).replace(b"\n", b"\r\n ").rstrip() for data in made]


def messages() -> list[bytes]:
    date = b"Date: Mon, 1 Jun 2026 12:00:00 +0200\r\nFrom: Owner <owner@example.com>\r\n"
    return [date + b"Autocrypt:" + field + b"\r\n\r\ntext\r\n" for field in fields()]


# --------------------------------------------------------------------------- heads of web answers


def follow_any_redirect(data: bytes) -> None:
    """A target or a text of ours; aiohttp reads the same host, and takes it for an address as we do."""
    location = data.decode("utf-8", "surrogateescape")
    try:
        target = web._target(web._join("https://example.com/a/b?c", location), 443)
    except ValueError as exc:
        assert str(exc).isascii() and (not location or len(location) < 9 or location not in str(exc))
        return
    except KeySourceUnavailable:
        return
    assert target.url.isascii() and target.url.isprintable() and " " not in target.url
    assert target == web._target(target.url, 443)
    url = yarl.URL(target.url)
    assert (url.scheme, url.port, url.user) == ("https", target.port, None)
    assert url.raw_host == target.host
    assert is_ip_address(target.host) == (target.address is not None)
    if target.address is not None:
        assert str(ipaddress.ip_address(target.host)) == target.host


def wait_any_time(data: bytes) -> None:
    """Seconds of a day at most, or nothing."""
    for now in (NOW, NOW + timedelta(days=30_000)):
        seconds = web._retry_after_seconds(data.decode("utf-8", "surrogateescape"), now)
        assert seconds is None or 0 <= seconds <= 86_400


LOCATIONS = [
    *(
        b"https://example.org/x?y=z",
        b"/relative",
        b"//example.org:443/a",
        b"https://[2606:4700::1111]/",
        b"?a=b",
    ),
    *(b"https://127.0.0.1/", b"https://127.1/", b"https://a:b@example.org:8443/#f", b"http://example.org/"),
    *(b"https://[::ffff:7f00:1]:443/", b"https://0x7f.0.0.1./", b"https://xn--bcher-kva.example/%2e%2e/"),
]
DATES = [b"120", b"Mon, 01 Jun 2026 12:01:00 GMT", b"Mon, 01 Jun 2026 14:01:00 +0200", b"1 Jan 99 1:2:3 EST"]
