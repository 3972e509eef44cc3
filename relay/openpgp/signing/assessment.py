"""The rules for a certificate whose secret key is here: with which (sub)key to sign, and until when.

The counterpart of `openpgp.assessment`, which is about encrypting. pysequoia goes on signing with a key that
expired after it was opened, so the dates are read here. What is read is only believed once `prove` has seen
a signature by that key verify against a certificate of nothing but the signatures that were read: a binding
that somebody forged makes the key unusable, never usable for longer. Rules that were hard:

- Any revocation that claims to be the owner's counts, as everywhere: of the certificate or of the subkey.
- Key Flags must be present: whether a key may sign is not guessed from its algorithm.
- A rule that names a primary key means its newest signing subkey, as GnuPG would choose; one that names a
  subkey means that one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

from relay.mime import packets
from relay.openpgp.algorithms import Key
from relay.openpgp.assessment import moment, primary_ends
from relay.openpgp.parts import Component, Parts, Unusable, merge
from relay.openpgp.signatures import WEAK_HASHES, Signature, encode, parse_signature
from relay.openpgp.signing import library

PROBE = b"The relay signs this to see that the key works.\r\n"
"""What is signed when a key is opened; nobody ever gets it."""

_FOR_SIGNING = 0x02
"""Key Flags: may sign data (RFC 9580 §5.2.3.29)."""


class KeyUnfit(Exception):
    """The key cannot sign; the text is the sentence for people, without a subject: `expired on 2024-03-01`.

    Without one of the two it is the state of a key that was found: expired, revoked, not for signing.

    Args:
        is_temporary: it may become fit without anything being changed: a card is put in, for example.
        is_mistake: the configuration is wrong: it names a key that is nowhere, or not its password.
    """

    def __init__(self, sentence: str, *, is_temporary: bool = False, is_mistake: bool = False) -> None:
        super().__init__(sentence)
        self.is_temporary = is_temporary
        self.is_mistake = is_mistake


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that signs, a primary or a subkey."""

    fingerprint: str
    """Of itself, upper-case hex."""
    version: int
    algorithm: int
    whole: bytes = field(repr=False)
    """The public certificate as it was found, with every User ID and subkey."""
    certificate: bytes = field(repr=False)
    """What a reader needs to verify its signatures: the primary with its User IDs, and this key."""
    ends: int | None
    """The first moment (Unix time) at which it must not sign any more; None: never."""

    @property
    def primary(self) -> str:
        """The fingerprint of its certificate."""
        return packets.certificates(self.certificate, "")[0].fingerprint

    def check_live(self, now: int) -> None:
        """Raises KeyUnfit where its time is over."""
        if self.ends is not None and self.ends <= now:
            raise KeyUnfit(f"expired on {moment(self.ends).date().isoformat()}")


def choose(public: bytes, wanted: str, secrets: frozenset[str], now: int) -> SigningKey:
    """The key to sign with, not proven yet.

    Args:
        public: the certificate, binary.
        wanted: fingerprint of the primary key or of the signing subkey, as a rule names it.
        secrets: fingerprints of the keys whose secret is at hand.
        now: Unix time.

    Raises:
        KeyUnfit: there is none.
    """
    try:
        parts = merge([public])
        ends = primary_ends(parts, now)
        key, binding = _chosen(parts, wanted, secrets, now)
    except Unusable as exc:
        raise KeyUnfit(str(exc)) from exc
    said = binding.key_ends(key.created) if key is not parts.key else None
    dates = [date for date in (ends, said, binding.lapses, _lapse(parts, now)) if date is not None]
    chosen = SigningKey(
        fingerprint=key.fingerprint,
        version=key.version,
        algorithm=key.body[5],
        whole=public,
        certificate=_certificate(parts, key, binding, now),
        ends=min(dates, default=None),
    )
    chosen.check_live(now)
    return chosen


def may_sign(public: bytes) -> frozenset[str]:
    """The fingerprints of all keys of which some self-signature, of any date, says that they may sign."""
    try:
        parts = merge([public])
    except Unusable:
        return frozenset()
    subkeys = [(part.key, tuple(part.signatures.values())) for part in parts.subkeys.values()]
    on_primary = [part.signatures.values() for part in (parts.primary, *parts.user_ids.values())]
    every = [(parts.key, tuple(chain(*on_primary))), *subkeys]
    return frozenset(key.fingerprint for key, said in every if key and any(map(_may_sign, said)))


def prove(key: SigningKey, signature: bytes) -> None:
    """Raises KeyUnfit unless this is a sound signature by the key over `PROBE`, with SHA-256 or better."""
    try:
        [packet] = packets.walk(signature)
        made = parse_signature(packet.head) if packet.tag == packets.SIGNATURE else None
    except ValueError as exc:
        raise KeyUnfit("makes signatures that cannot be read") from exc
    if made is None or made.version != key.version or made.hash in WEAK_HASHES:  # RFC 9580 §9.5, §5.2
        raise KeyUnfit("makes signatures of the wrong version, or with a weak hash")
    if library.verified_by(PROBE, signature, key.certificate) != key.fingerprint:
        raise KeyUnfit("makes signatures that nobody can verify: its self-signatures are not valid")


# --------------------------------------------------------------------------- which key


def _chosen(parts: Parts, wanted: str, secrets: frozenset[str], now: int) -> tuple[Key, Signature]:
    """The key that signs and the signature that allows it; raises KeyUnfit."""
    found: list[tuple[Key, Signature]] = []
    problems: list[str] = []
    for component in parts.subkeys.values():
        assert component.key is not None
        if wanted in (parts.key.fingerprint, component.key.fingerprint):
            binding = _newest(parts, component, now)
            if binding is not None and _may_sign(binding):
                problem = _problem(component, binding, secrets, now)
                problems += [problem] if problem else []
                found += [] if problem else [(component.key, binding)]
    if found:
        return max(found, key=lambda candidate: candidate[0].created)
    if wanted == parts.key.fingerprint and parts.key.fingerprint in secrets:
        binding = _of_primary(parts, now)
        if binding is not None and _may_sign(binding):
            return parts.key, binding
    raise KeyUnfit(problems[0] if problems else "is not a key for signing, or its secret part is not there")


def _problem(component: Component, binding: Signature, secrets: frozenset[str], now: int) -> str:
    """Why a signing subkey cannot sign; empty where it can."""
    key = component.key
    assert key is not None
    ends = binding.key_ends(key.created)
    if component.revoked_at is not None:
        date = moment(component.revoked_at).date()
        return f"cannot sign: its signing subkey was revoked on {date.isoformat()}"
    if ends is not None and ends <= now:
        return f"cannot sign: its signing subkey expired on {moment(ends).date().isoformat()}"
    if key.problem:
        return key.problem
    if key.created > now:
        return "cannot sign: its signing subkey is from the future"
    return (
        ""
        if key.fingerprint in secrets
        else "cannot sign: the secret part of its signing subkey is not there"
    )


def _may_sign(signature: Signature) -> bool:
    return bool((signature.flags or 0) & _FOR_SIGNING)


def _live(parts: Parts, component: Component, now: int) -> list[Signature]:
    """Signatures that may count now, the newest first."""
    kept = [
        found
        for found in component.signatures.values()
        if found.version == parts.key.version and found.is_live(now) and found.hash not in WEAK_HASHES
    ]
    return sorted(kept, key=lambda found: -found.created)


def _newest(parts: Parts, component: Component, now: int) -> Signature | None:
    return next(iter(_live(parts, component, now)), None)


def _on_primary(parts: Parts, now: int) -> list[tuple[Component, Signature]]:
    """The newest signature on the primary key, where there is one, and on each unrevoked User ID."""
    named = [component for component in parts.user_ids.values() if not component.revocations]
    newest = [(component, _newest(parts, component, now)) for component in (parts.primary, *named)]
    return [(component, signature) for component, signature in newest if signature is not None]


def _of_primary(parts: Parts, now: int) -> Signature | None:
    """What says what the primary key is for: its direct-key signature, else the newest User ID's."""
    said = [signature for _, signature in _on_primary(parts, now)]
    if said and said[0].flags is not None and said[0] in parts.primary.signatures.values():
        return said[0]
    return max(said, key=lambda signature: signature.created, default=None)


def _lapse(parts: Parts, now: int) -> int | None:
    """When the last self-signature on the primary lapses; None: never."""
    lapses = [signature.lapses for _, signature in _on_primary(parts, now)]
    return None if None in lapses else max(filter(None, lapses), default=None)


# --------------------------------------------------------------------------- the certificate for readers


def _certificate(parts: Parts, key: Key, binding: Signature, now: int) -> bytes:
    """The primary key, its User IDs, and the key that signs, each with the one signature that was read."""
    octets = encode(packets.PUBLIC_KEY, parts.key.body)
    for component, signature in _on_primary(parts, now):
        is_name = component is not parts.primary
        octets += (encode(packets.USER_ID, component.body) if is_name else b"") + _packet(parts, signature)
    if key is parts.key:
        return octets
    return octets + encode(packets.PUBLIC_SUBKEY, key.body) + _packet(parts, binding)


def _packet(parts: Parts, signature: Signature) -> bytes:
    return signature.packet(parts.key.fingerprint)
