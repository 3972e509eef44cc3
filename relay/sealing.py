"""Makes the encrypted copy of a message for one group of recipients, and has it checked.

What stands inside and outside is decided in `relay/mime/`; whoever encrypts, or signs and encrypts, is behind
a Protocol; and nothing leaves that `mime.selfcheck` did not turn into `Sealed`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from relay.errors import AuthorNotSigned, SigningUnavailable
from relay.message import Address, Admission, Sealed, Verdict
from relay.mime import authors, autocrypt, complete, inline, pgpmime, protection, recoding, selfcheck
from relay.mime.headers import Field, Message
from relay.rule import Format, Rule, Signing
from relay.threads import aside

if TYPE_CHECKING:
    from relay.parts import Parts


_HEADER_WORK = 16
"""Decoding fields takes about that many times as long, octet for octet, as slicing the message."""


@dataclass(frozen=True, slots=True)
class Copy:
    """An encrypted copy that is to be made; its recipients agree in everything that shapes it."""

    admissions: tuple[Admission, ...]
    received: bytes
    """The relay's own trace field."""
    smtputf8: bool
    """Whether the client asked for SMTPUTF8."""

    @property
    def rule(self) -> Rule:
        """What shapes the copy."""
        return self.admissions[0].rule

    @property
    def recipients(self) -> tuple[Address, ...]:
        """Who gets it."""
        return tuple(admission.recipient for admission in self.admissions)

    @property
    def keys(self) -> tuple[Verdict, ...]:
        """Every certificate that can open it, each once, in the order of the recipients.

        One that was found under two User IDs has the wishes of both (RFC 9580 §5.2.3.10).
        """
        found: dict[str, Verdict] = {}
        for verdict in (each for entry in self.admissions for each in (*entry.chosen, *entry.also)):
            known = found.setdefault(verdict.certificate.fingerprint, verdict)
            if known is not verdict:
                found[verdict.certificate.fingerprint] = replace(
                    known,
                    allows_v2=known.allows_v2 and verdict.allows_v2,
                    lists_aes_256=known.lists_aes_256 and verdict.lists_aes_256,
                )
        return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Inside:
    """What is encrypted, and the shape of what stands around it."""

    payload: bytes
    outside: tuple[Field, ...]
    """Nothing for an inline message, which keeps all of them."""
    format: Format


async def seal(parts: Parts, message: Message, copy: Copy) -> Sealed:
    """The copy, encrypted, signed where the rule says so, and checked whoever made it.

    Raises:
        EncryptionFailed: it could not be made, or is not what was ordered.
        SigningUnavailable, SigningImpossible, AuthorNotSigned: it should be signed and cannot be.
        MessageRefused: it cannot be brought into the form that a signature needs.
    """
    size, header_octets = _octets(message), sum(len(field.raw) for field in message.fields)
    message = complete.strip(message, sealed=True)
    signing = copy.rule.signing
    if signing:
        message = await _to_be_signed(parts, message, signing)
    inside = await aside(
        size + _HEADER_WORK * header_octets, _inside, message, copy.rule, is_signed=signing is not None
    )
    keys = copy.keys
    armored = await _encrypted(parts, inside.payload, keys, copy.rule)
    header, body = await aside(size, _wrapped, message, inside, armored, copy.received)
    return await aside(
        size,
        selfcheck.seal,
        header,
        body,
        message=message,
        expected_ids=tuple(subkey.key_id for verdict in keys for subkey in verdict.subkeys),
        recipients=copy.recipients,
        received=copy.received,
        smtputf8=copy.smtputf8,
        header_rule=copy.rule.headers,
        format=copy.rule.format,
        allows_v2=all(verdict.allows_v2 for verdict in keys),
    )


def _inside(message: Message, rule: Rule, *, is_signed: bool) -> _Inside:
    """Inline only what is nothing but text, and only where the Subject may be seen."""
    if rule.format is Format.INLINE and not protection.is_hidden(rule.headers, message):
        text = inline.text_of(message)
        if text is not None:
            return _Inside(text, (), format=Format.INLINE)
    if is_signed:
        message = recoding.seven_bit(message)
    plan = pgpmime.plan(message, rule.headers)
    return _Inside(plan.payload, plan.outside, Format.PGP_MIME)


def _wrapped(message: Message, inside: _Inside, armored: bytes, received: bytes) -> tuple[bytes, bytes]:
    if inside.format is Format.INLINE:
        return inline.wrap(message, armored, received=received)
    return pgpmime.wrap(inside.outside, armored, boundary=pgpmime.new_boundary(), received=received)


async def _encrypted(parts: Parts, payload: bytes, keys: tuple[Verdict, ...], rule: Rule) -> bytes:
    if rule.signing is None:
        return await parts.engine.encrypt(payload, keys)
    if parts.signer is None:  # `relay check` refuses that; it must never end in an unsigned copy
        raise SigningUnavailable("no secret keys are configured", rule=rule.signing.entry)
    return await parts.signer.sign_and_encrypt(payload, keys, rule.signing.key, rule=rule.signing.entry)


async def _to_be_signed(parts: Parts, message: Message, signing: Signing) -> Message:
    """The message with the key of its author, where that is asked for.

    Raises:
        AuthorNotSigned: the signature would speak for somebody to whom the key does not belong.
    """
    header_octets = sum(len(field.raw) for field in message.fields)
    names = await aside(_HEADER_WORK * header_octets, authors.author, message)
    for author in names:
        own = parts.policy.signing_for(author)
        if own is None or own.key != signing.key:
            raise AuthorNotSigned(author=author)
    if not signing.autocrypt or message.get("autocrypt") or parts.signer is None:
        return message
    certificate = await parts.signer.certificate(signing.key, names[0])
    if certificate is None:
        return message
    added = Field("autocrypt", autocrypt.header(str(names[0]), certificate))
    return replace(message, fields=(*message.fields, added))


def _octets(message: Message) -> int:
    return len(message.body) + sum(len(field.raw) for field in message.fields)
