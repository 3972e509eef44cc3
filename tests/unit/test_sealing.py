"""Tests of `relay/sealing.py`: what an encrypted copy looks like under every setting that shapes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pysequoia
import pytest

from relay.errors import AuthorNotSigned, EncryptionFailed, MessageRefused, RelayError, SigningUnavailable
from relay.merging import Entry
from relay.message import Address, Sealed, Verdict
from relay.openpgp.sequoia import SequoiaEngine
from relay.policy import Policy, parse_pattern
from relay.rule import Encrypt, Format, Headers, Signing
from tests import keys
from tests.line import ALICE, BOB, MARKER, Line, decrypted
from tests.mail import crlf

KEY = "AB" * 20


def _policy(senders: Sequence[tuple[str, Signing]] = (), **fields: object) -> Policy:
    entry = Entry(name="policy.default", encrypt=Encrypt.ALWAYS, keys=("folder",), **fields)  # type: ignore[arg-type]
    entries = [(parse_pattern(name), Entry(name=name, signing=signing)) for name, signing in senders]
    return Policy.build(entry, [], entries)


def _content(more: str = "", body: str = MARKER.decode()) -> bytes:
    return crlf(f"From: sender@example.com\nTo: {ALICE}\nSubject: Merger\n{more}\n{body}\n")


@dataclass
class SequoiaSigner:
    """A signer (`relay.seams.Signer`) with a key in memory."""

    key: pysequoia.Tsk = field(
        default_factory=lambda: pysequoia.Tsk.generate(
            "<sender@example.com>", profile=pysequoia.Profile.RFC4880
        )
    )
    error: Exception | None = None
    has_certificate: bool = True

    async def sign_and_encrypt(
        self, plaintext: bytes, keys: tuple[Verdict, ...], fingerprint: str, *, rule: str
    ) -> bytes:
        if self.error:
            raise self.error
        certificates = [pysequoia.Cert.from_bytes(verdict.reduced) for verdict in keys]
        return bytes(pysequoia.encrypt(plaintext, certificates, signer=self.key.signer()))

    async def certificate(self, fingerprint: str, address: Address) -> bytes | None:
        return bytes(self.key.extract_certificate()) if self.has_certificate else None


@pytest.fixture
async def engine() -> AsyncIterator[SequoiaEngine]:
    engine = SequoiaEngine(workers=1)
    yield engine
    await engine.close()


async def _sent(line: Line, content: bytes) -> Sealed:
    await line.send(content, ALICE)
    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    return copy


async def test_seal_protects_the_header_by_default(engine: SequoiaEngine) -> None:
    """The Subject is inside and nowhere outside; the body is the only part of the payload (H-01)."""
    copy = await _sent(Line(engine, policy=_policy()), _content())
    inside = decrypted(copy, "curve25519")

    assert b"\r\nSubject: [...]\r\n" in copy.header
    assert b"Merger" not in copy.header + copy.body
    assert b"\r\nSubject: Merger\r\n" in inside
    assert b"\r\nHP-Outer: Subject: [...]\r\n" in inside
    assert b"\r\n\r\n" + MARKER + b"\r\n\r\n--=_" in inside


async def test_seal_message_id_is_the_same_inside_and_outside(engine: SequoiaEngine) -> None:
    """What the relay adds is added before the header is copied (M-15, H-18)."""
    copy = await _sent(Line(engine, policy=_policy()), _content())
    [outside] = [line for line in copy.header.split(b"\r\n") if line.startswith(b"Message-ID:")]
    inside = decrypted(copy, "curve25519")

    assert b"\r\n" + outside + b"\r\n" in inside
    assert b"\r\nHP-Outer: " + outside + b"\r\n" in inside


async def test_seal_keeps_the_header_where_the_rule_says_so(engine: SequoiaEngine) -> None:
    """`headers: keep` encrypts the body alone, and the Subject stays readable."""
    copy = await _sent(Line(engine, policy=_policy(headers=Headers.KEEP)), _content())

    assert b"\r\nSubject: Merger\r\n" in copy.header
    assert decrypted(copy, "curve25519").startswith(b"Content-Type: text/plain")


async def test_seal_protects_a_reply_although_the_rule_keeps(engine: SequoiaEngine) -> None:
    """`Re: secret` may repeat what the other side had hidden (H-21)."""
    line = Line(engine, policy=_policy(headers=Headers.KEEP))
    copy = await _sent(line, _content("In-Reply-To: <1@a.example>\n"))

    assert b"\r\nSubject: [...]\r\n" in copy.header


SIGNED = crlf(
    f"""\
    From: sender@example.com
    To: {ALICE}
    Subject: Merger
    Content-Type: multipart/signed; micalg=pgp-sha256; protocol="application/pgp-signature"; boundary=s

    --s
    Content-Type: text/plain; hp="clear"
    Subject: Merger

    {MARKER.decode()}
    --s
    Content-Type: application/pgp-signature

    -----BEGIN PGP SIGNATURE-----
    --s--
    """
)


async def test_seal_signed_message_that_protects_itself_is_the_payload(engine: SequoiaEngine) -> None:
    """Its Subject is hidden outside and read from the signed part (H-14)."""
    copy = await _sent(Line(engine, policy=_policy()), SIGNED)

    assert b"\r\nSubject: [...]\r\n" in copy.header
    assert decrypted(copy, "curve25519").startswith(b"Content-Type: multipart/signed;")


async def test_seal_signed_message_without_its_subject_is_wrapped_whole(engine: SequoiaEngine) -> None:
    """The signed bytes are untouched, and the Subject is not lost (H-14, M-08)."""
    content = SIGNED.replace(b'; hp="clear"\r\nSubject: Merger', b"")
    copy = await _sent(Line(engine, policy=_policy()), content)
    inside = decrypted(copy, "curve25519")

    assert inside.startswith(b"Content-Type: multipart/mixed;")
    assert b"\r\nSubject: Merger\r\n" in inside
    assert content[content.index(b"Content-Type: multipart/signed") :] in inside


INLINE = {"format": Format.INLINE, "headers": Headers.KEEP}


async def test_seal_inline_is_for_plain_text_alone(engine: SequoiaEngine) -> None:
    """The text itself is the ciphertext's content; the header stays, as the rule says."""
    copy = await _sent(Line(engine, policy=_policy(**INLINE)), _content())

    assert copy.body.startswith(b"-----BEGIN PGP MESSAGE-----\r\n")
    assert b"\r\nSubject: Merger\r\n" in copy.header
    assert MARKER + b"\r\n" == decrypted(copy, "curve25519")


@pytest.mark.parametrize(
    "more",
    [
        "Content-Type: text/html\n",
        "Content-Type: multipart/mixed; boundary=b\n",
        "Content-Disposition: attachment; filename=payroll.txt\n",
        "In-Reply-To: <1@a.example>\n",
    ],
)
async def test_seal_inline_anything_else_stays_pgp_mime(engine: SequoiaEngine, more: str) -> None:
    """Nothing is lost for the sake of a format, and no hidden Subject shown."""
    copy = await _sent(Line(engine, policy=_policy(**INLINE)), _content(more))

    assert b"multipart/encrypted" in copy.header


async def test_seal_inline_under_a_rule_that_protects_stays_pgp_mime(engine: SequoiaEngine) -> None:
    """A stricter sender's rule may turn the header's protection on again: inline has no room for it."""
    copy = await _sent(Line(engine, policy=_policy(format=Format.INLINE)), _content())

    assert b"multipart/encrypted" in copy.header


# --------------------------------------------------------------------------- signing


def _signing(signer: SequoiaSigner | None, engine: SequoiaEngine, **fields: object) -> Line:
    senders = [("sender@example.com", Signing(KEY, autocrypt=True))]
    return Line(engine, policy=_policy(senders, **fields), signer=signer)


def _verified(copy: Sealed, signer: SequoiaSigner) -> tuple[bytes, int]:
    decryptor = pysequoia.Tsk.from_bytes(keys.secret("curve25519")).decryptor()
    start = copy.body.index(b"-----BEGIN PGP MESSAGE")
    text = copy.body[start : copy.body.index(b"-----END PGP MESSAGE-----") + 26]
    store = [signer.key.extract_certificate()]
    found = pysequoia.decrypt(text, decryptor=decryptor, store=lambda ids: store)
    return found.bytes or b"", len(found.valid_sigs)


async def test_seal_signs_and_encrypts_in_one_message(engine: SequoiaEngine) -> None:
    """One OpenPGP message holds signature and content, and the content is 7-bit (P-07, P-08)."""
    signer = SequoiaSigner()
    content = _content("Content-Type: text/plain; charset=utf-8\n", "Grüße \nFrom me")
    plaintext, signatures = _verified(await _sent(_signing(signer, engine), content), signer)

    assert 1 == signatures
    assert plaintext.isascii()
    assert b"Gr=C3=BC=C3=9Fe=20" in plaintext


async def test_seal_adds_the_author_s_key_once(engine: SequoiaEngine) -> None:
    """An Autocrypt field is added on request, inside and outside, and never a second one (K-34)."""
    own = "Autocrypt: addr=sender@example.com; keydata=AAAA\n"
    for more, expected in (("", 1), (own, 1)):
        line = _signing(SequoiaSigner(), engine)
        copy = await _sent(line, _content(more))
        assert expected == copy.header.count(b"\r\nAutocrypt: ")
        assert (own.strip().encode() in copy.header) == bool(more)


async def test_seal_without_a_fitting_certificate_adds_no_key(engine: SequoiaEngine) -> None:
    """A key without the author's address is not published under it."""
    copy = await _sent(_signing(SequoiaSigner(has_certificate=False), engine), _content())

    assert b"Autocrypt" not in copy.header


@pytest.mark.parametrize(
    ("signer", "error"),
    [
        (None, SigningUnavailable),
        (SequoiaSigner(error=SigningUnavailable("locked", rule="r")), SigningUnavailable),
        (SequoiaSigner(error=EncryptionFailed("broken")), EncryptionFailed),
    ],
)
async def test_seal_without_its_signature_nothing_leaves(
    engine: SequoiaEngine, signer: SequoiaSigner | None, error: type[RelayError]
) -> None:
    """An unavailable signing key is temporary, never "unsigned this time"."""
    line = _signing(signer, engine)
    with pytest.raises(error) as caught:
        await line.send(_content(), ALICE)

    assert ([], True) == (line.session.taken, caught.value.is_temporary)


@pytest.mark.parametrize("author", ["boss@example.com", "sender@example.com, boss@example.com"])
async def test_seal_signature_never_speaks_for_another_author(engine: SequoiaEngine, author: str) -> None:
    """The envelope sender's key does not sign what somebody else claims to have written."""
    content = _content().replace(b"From: sender@example.com", b"From: " + author.encode())
    line = _signing(SequoiaSigner(), engine)
    with pytest.raises(AuthorNotSigned):
        await line.send(content, ALICE)

    assert [] == line.session.taken


async def test_seal_message_that_no_signature_can_cover_is_refused(engine: SequoiaEngine) -> None:
    """A structure that two readers would divide differently is not guessed at."""
    content = _content("Content-Type: multipart/mixed\n", "Grüße")
    line = _signing(SequoiaSigner(), engine)
    with pytest.raises(MessageRefused):
        await line.send(content, ALICE)

    assert [] == line.session.taken


async def test_seal_each_copy_is_signed(engine: SequoiaEngine) -> None:
    """A Bcc recipient gets a signature, too, over a message of its own."""
    signer = SequoiaSigner()
    line = _signing(signer, engine)
    await line.send(_content(), ALICE, BOB)

    assert 2 == len(line.session.taken)
    assert 1 == _verified(line.session.taken[0], signer)[1]  # type: ignore[arg-type]
