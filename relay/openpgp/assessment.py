"""The rules for one certificate: may it be used for an address at a moment, and with which subkeys.

The engines do not say it: pysequoia encrypts to expired subkeys and to revoked certificates. Here dates and
flags are believed only where they stand in the hashed area of a signature that `probe` found genuine; the
newest genuine one counts (RFC 9580 §5.2.3.10). Rules that were hard:

- Any revocation that claims to be the owner's counts, hard or soft, verified or not. Garbage can therefore
  make a certificate unusable, never usable: whoever can add packets can refuse service, and no more.
- No signature with SHA-1, MD5 or RIPEMD-160 counts, whatever date it bears: whoever can forge it chooses
  the date as well. pysequoia agrees (its limit of 2023-02-01 is compared with today).
- There is no tolerance for clocks: pysequoia has none, so a key from the future could not be used anyway.
- A v4 primary expires as GnuPG sees it: the newest direct-key signature decides where it states an expiry,
  else the newest self-signature of any unrevoked User ID that states one. For v6 only the former.
- Key Flags must be present: without them nothing is guessed from the algorithm. Subkeys for storage only are
  not used, nor is anything added for the reserved flags (ADSK).
- Encryption goes to every usable subkey, so that each device of the recipient can read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from relay.address import user_id_key
from relay.message import Address, Certificate, Subkey, Verdict
from relay.mime import packets
from relay.openpgp import preferences
from relay.openpgp.algorithms import Key
from relay.openpgp.parts import Component, Parts, Unusable
from relay.openpgp.probe import Probe
from relay.openpgp.signatures import FOR_MAIL, FOR_STORAGE, WEAK_HASHES, Signature, encode

MAX_CHOSEN = 10
"""Subkeys for mail of one certificate, on as many devices; each makes a message larger."""
_FEW = 8
"""Signatures that nobody has checked, in one question to pysequoia."""


def assess(parts: Parts, certificate: Certificate, address: Address | None, now: int) -> Verdict:
    """The verdict on merged `parts`, in the name of `certificate`.

    Args:
        address: must be bound by a valid User ID; None skips that test.
        now: Unix time.

    Raises:
        Unusable: it may not be used; its text is the sentence for people.
    """
    return _Case(parts, now).decide(certificate, address)


def primary_ends(parts: Parts, now: int) -> int | None:
    """When the primary key expires or has expired (Unix time); None: never.

    Raises:
        Unusable: it is revoked, too weak, from the future, or without a valid self-signature.
    """
    return _Case(parts, now).primary_ends()


@dataclass(frozen=True, slots=True)
class _Bound:
    """A component with the newest genuine signature on it."""

    component: Component
    signature: Signature

    @property
    def key_ends(self) -> int | None:
        """When the subkey expires; None: never."""
        return self.signature.key_ends(self.component.key.created) if self.component.key else None


@dataclass(frozen=True, slots=True)
class _Rejected:
    """Why a subkey is not used; the lowest rank is what people should hear first."""

    rank: int
    sentence: str


@dataclass(slots=True)
class _Case:
    """One certificate at one moment."""

    parts: Parts
    now: int
    probe: Probe = field(default_factory=Probe)
    direct: Signature | None = None
    bound: dict[bytes, _Bound | None] = field(default_factory=dict)
    """User IDs that were looked at."""

    @property
    def key(self) -> Key:
        """The primary key."""
        return self.parts.key

    def decide(self, certificate: Certificate, address: Address | None) -> Verdict:
        """The verdict; raises Unusable."""
        self._check_primary()
        user_ids = self._user_ids(address)
        decisive, ends = self._expiry()
        if ends is not None and ends <= self.now:
            raise Unusable(f"expired on {_date(ends)}")
        if decisive is not None and decisive not in user_ids:
            user_ids.append(decisive)  # so that whoever reads the reduced certificate sees the same expiry
        subkeys = self._subkeys(user_ids)
        reduced = self._reduced(user_ids, subkeys)
        chosen = [_chosen(bound.component.key) for bound in subkeys if bound.component.key]
        if self._mail_primary(user_ids):
            chosen.insert(0, _chosen(self.key))
        self._check_reduced(reduced, chosen)
        keys, said = self._keys(subkeys), self._said(user_ids)
        allows_v2 = preferences.allows_v2(self.key, said)
        return Verdict(
            certificate,
            usable=True,
            sentence="usable",
            subkeys=tuple(chosen),
            reduced=reduced,
            created=moment(self.key.created),
            warnings=self._warnings(keys, said, allows_v2=allows_v2),
            expires=self._expires(ends, user_ids, subkeys),
            allows_v2=allows_v2,
            needs_v2=allows_v2 and preferences.is_strong(self.key, keys),
            lists_aes_256=preferences.lists_aes_256(said),
            needs_sequoia=preferences.needs_sequoia(self.key, keys, said),
        )

    def primary_ends(self) -> int | None:
        """When the primary key expires; raises Unusable where it may not be believed at any time."""
        self._check_primary()
        self._user_ids(None)
        return self._expiry()[1]

    def _expires(
        self, primary_ends: int | None, user_ids: list[_Bound], subkeys: list[_Bound]
    ) -> datetime | None:
        """The first moment at which no chosen subkey is live, or a signature that all rest on has lapsed.

        An older signature may take over from one that lapses; that is not looked into, as nothing but a
        refresh and a warning come from this date.
        """
        live: list[int | None] = [None] if self._mail_primary(user_ids) else []
        live += [_earliest(bound.key_ends, bound.signature.lapses) for bound in subkeys]
        latest = None if None in live else max(filter(None, live))
        said = [*(bound.signature for bound in user_ids), *([self.direct] if self.direct else [])]
        ends = _earliest(primary_ends, latest, *(signature.lapses for signature in said))
        return None if ends is None else moment(ends)

    def _keys(self, subkeys: list[_Bound]) -> list[Key]:
        """The primary key and those of these subkeys."""
        return [self.key, *(bound.component.key for bound in subkeys if bound.component.key)]

    def _said(self, user_ids: list[_Bound]) -> list[Signature]:
        """Where preferences stand, the narrowest first: by which User ID it was found, and the key as such.

        Another User ID may be there for its expiry alone; what its owner prefers under that name is of no
        interest (RFC 9580 §5.2.3.10).
        """
        narrow = [bound.signature for bound in user_ids[:1]]
        return narrow + ([self.direct] if self.direct else [])

    def _warnings(self, keys: list[Key], said: list[Signature], *, allows_v2: bool) -> tuple[str, ...]:
        warnings = [key.warning for key in keys if key.warning]
        if preferences.leaves_out_aes_256(said, v2=allows_v2):
            warnings.append("does not list AES-256, with which engine: sequoia encrypts all the same")
        return tuple(dict.fromkeys(warnings))

    # ----------------------------------------------------------------- the primary key

    def _check_primary(self) -> None:
        revoked_at = self.parts.primary.revoked_at
        if revoked_at is not None:
            raise Unusable(f"revoked on {_date(revoked_at)}")
        if self.key.problem:
            raise Unusable(self.key.problem)
        if self.key.created > self.now:
            raise Unusable(f"was created on {_date(self.key.created)}, which is in the future")
        self.direct = self._newest(self.parts.primary, self._is_direct_key)
        if self.key.version == 6 and self.direct is None:  # RFC 9580 §5.2.3.10
            raise Unusable("has no valid direct-key signature")

    def _expiry(self) -> tuple[_Bound | None, int | None]:
        """The User ID whose signature decides when the primary expires, if one does, and that moment."""
        stated = [] if self._is_direct_decisive() else self._stating_expiry()
        decisive = max(stated, key=lambda bound: bound.signature.created, default=None)
        signature = decisive.signature if decisive else self.direct
        return decisive, signature.key_ends(self.key.created) if signature else None

    def _is_direct_decisive(self) -> bool:
        return self.direct is not None and (self.key.version == 6 or self.direct.key_lasts_seconds > 0)

    def _stating_expiry(self) -> list[_Bound]:
        """User IDs whose newest genuine self-signature says when the primary key expires."""
        candidates = [
            component
            for component in self.parts.user_ids.values()
            if any(signature.key_lasts_seconds for signature in component.signatures.values())
        ]
        bounds = [bound for component in candidates if (bound := self._bind_user_id(component))]
        return [
            bound for bound in bounds if bound.signature.key_lasts_seconds and not self._is_withdrawn(bound)
        ]

    def _is_withdrawn(self, bound: _Bound) -> bool:
        """Whether its revocation is genuine: only then may what the User ID says of expiry be forgotten."""
        verifiable = [found for found in bound.component.revocations.values() if found.version != 3]
        anchor = self._anchor([bound])
        groups = (anchor + b"".join(map(self._packet, some)) for some in _few(verifiable))
        return any(not self.probe.has_user_id(octets) for octets in groups)

    # ----------------------------------------------------------------- User IDs

    def _user_ids(self, address: Address | None) -> list[_Bound]:
        """The User ID to use; raises Unusable where none may be."""
        components = list(self.parts.user_ids.values())
        if address is None:  # then the main one speaks (RFC 9580 §5.2.3.10, §5.2.3.27)
            components.sort(key=self._claims_primary_since, reverse=True)
        else:
            components = [
                found
                for found in components
                if user_id_key(found.body.decode("utf-8", "replace")) == address.key
            ]
        for component in components:
            bound = None if component.revocations else self._bind_user_id(component)
            if bound is not None:
                return [bound]
        if address is None and self.direct is not None:
            return []
        raise Unusable(self._why_no_user_id(components, address))

    def _claims_primary_since(self, component: Component) -> int:
        """When a User ID was last named the main one; 0: never. A forged claim only picks another one."""
        live = self._live(component)
        return live[0].created if live and live[0].is_primary else 0

    def _why_no_user_id(self, components: list[Component], address: Address | None) -> str:
        if address is None:
            return _why_unbound("the certificate", self.parts.primary, *components)
        if not components:
            return f"has no User ID <{address}>"
        revoked_at = [moment for found in components if (moment := found.revoked_at) is not None]
        if len(revoked_at) == len(components):
            return f"its User ID <{address}> was revoked on {_date(min(revoked_at))}"
        return _why_unbound(f"its User ID <{address}>", *components)

    def _bind_user_id(self, component: Component) -> _Bound | None:
        if component.body not in self.bound:
            signature = self._newest(component, lambda found: self._is_certified(component, found))
            self.bound[component.body] = _Bound(component, signature) if signature else None
        return self.bound[component.body]

    # ----------------------------------------------------------------- subkeys

    def _subkeys(self, user_ids: list[_Bound]) -> list[_Bound]:
        """Every subkey for mail; raises Unusable where there is none and the primary is not for mail."""
        anchor = self._anchor(user_ids[:1])
        judged = [self._judge_subkey(anchor, component) for component in self.parts.subkeys.values()]
        usable = [found for found in judged if isinstance(found, _Bound)]
        if len(usable) > MAX_CHOSEN:
            raise Unusable(f"has more than {MAX_CHOSEN} subkeys for mail")
        if not usable and not self._mail_primary(user_ids):
            rejected = [found for found in judged if isinstance(found, _Rejected)]
            first = min(rejected, key=lambda found: found.rank, default=None)
            raise Unusable(first.sentence if first else "has no subkey for encrypting mail")
        return usable

    def _judge_subkey(self, anchor: bytes, component: Component) -> _Bound | _Rejected | None:
        """What becomes of a subkey; None where nothing says that it is for encryption."""
        key = component.key
        assert key is not None
        if not key.can_encrypt or not any(_encrypts(found) for found in component.signatures.values()):
            return None
        if component.revoked_at is not None:
            return _Rejected(1, f"the encryption subkey was revoked on {_date(component.revoked_at)}")
        if key.problem:
            return _Rejected(2, key.problem)
        if key.created > self.now:
            return _Rejected(3, f"the encryption subkey is dated {_date(key.created)}, in the future")
        signature = self._binding(anchor, component)
        if signature is None:
            return _Rejected(5, _why_unbound("the encryption subkey", component))
        if not _encrypts(signature):
            return None
        if not _is_for_mail(signature):
            return _Rejected(4, "the encryption subkey is for storage, not for mail")
        bound = _Bound(component, signature)
        ends = bound.key_ends
        if ends is not None and ends <= self.now:
            return _Rejected(0, f"the encryption subkey expired on {_date(ends)}")
        return bound

    def _binding(self, anchor: bytes, component: Component) -> Signature | None:
        """The newest genuine binding of a subkey.

        Whether one without a flag for encryption is genuine cannot be asked alone, as no encryption follows
        from it. It matters only beside an older one for encryption: if both together do not encrypt, the
        newer one was believed.
        """
        silent: list[Signature] = []
        for signature in self._live(component):
            if not _encrypts(signature):
                silent.append(signature)
            elif self._reaches(anchor, component, [signature]):
                return self._overruling(anchor, component, signature, silent) or signature
        return None

    def _overruling(
        self, anchor: bytes, component: Component, signature: Signature, silent: list[Signature]
    ) -> Signature | None:
        """A newer genuine binding without a flag for encryption, where there is one."""
        some = (few for few in _few(silent) if not self._reaches(anchor, component, [signature, *few]))
        return next(some, [None])[0]

    def _reaches(self, anchor: bytes, component: Component, found: list[Signature]) -> bool:
        """Whether an encryption to the certificate with these bindings alone reaches the subkey."""
        assert component.key is not None
        octets = self._with_signatures(packets.PUBLIC_SUBKEY, component, *found)
        return not {component.key.key_id, component.key.fingerprint}.isdisjoint(
            self.probe.recipients(anchor + octets)
        )

    # ----------------------------------------------------------------- signatures

    def _live(self, component: Component) -> list[Signature]:
        """Signatures that may count now, the newest first; of equally old ones the stricter first."""
        kept = [
            found
            for found in component.signatures.values()
            if found.version == self.key.version and found.is_live(self.now) and found.hash not in WEAK_HASHES
        ]
        return sorted(
            kept,
            key=lambda found: (-found.created, _is_for_mail(found), found.key_lasts_seconds or math.inf),
        )

    def _newest(self, component: Component, is_genuine: _Test) -> Signature | None:
        return next(filter(is_genuine, self._live(component)), None)

    def _is_direct_key(self, signature: Signature) -> bool:
        octets = encode(packets.PUBLIC_KEY, self.key.body) + self._packet(signature)
        return self.probe.has_self_signature(octets)

    def _is_certified(self, component: Component, signature: Signature) -> bool:
        return self.probe.has_user_id(self._anchor([_Bound(component, signature)]))

    # ----------------------------------------------------------------- the reduced certificate

    def _mail_primary(self, user_ids: list[_Bound]) -> bool:
        """Whether the primary key itself is flagged for mail and able to encrypt."""
        signature = self.direct
        if signature is None or signature.flags is None:
            signature = user_ids[0].signature if user_ids else None
        return self.key.can_encrypt and signature is not None and _is_for_mail(signature)

    def _reduced(self, user_ids: list[_Bound], subkeys: list[_Bound]) -> bytes:
        bound = [
            self._with_signatures(packets.PUBLIC_SUBKEY, subkey.component, subkey.signature)
            for subkey in subkeys
        ]
        return self._anchor(user_ids) + b"".join(bound)

    def _check_reduced(self, reduced: bytes, chosen: list[Subkey]) -> None:
        """The engine must reach the chosen keys alone; it would reach a primary flagged for storage too."""
        reached = self.probe.recipients(reduced)
        expected = [{subkey.key_id, subkey.fingerprint[:16]} for subkey in chosen]
        if len(reached) != len(expected) or any(names.isdisjoint(reached) for names in expected):
            raise Unusable("cannot be cut down to its keys for mail")

    def _anchor(self, user_ids: list[_Bound]) -> bytes:
        """The primary key with its direct-key signature and these User IDs."""
        octets = encode(packets.PUBLIC_KEY, self.key.body)
        if self.direct is not None:
            octets += self._packet(self.direct)
        for bound in user_ids:
            octets += self._with_signatures(packets.USER_ID, bound.component, bound.signature)
        return octets

    def _with_signatures(self, tag: int, component: Component, *found: Signature) -> bytes:
        return encode(tag, component.body) + b"".join(self._packet(signature) for signature in found)

    def _packet(self, signature: Signature) -> bytes:
        return signature.packet(self.key.fingerprint)


_Test = Callable[[Signature], bool]


def _encrypts(signature: Signature) -> bool:
    return bool((signature.flags or 0) & (FOR_MAIL | FOR_STORAGE))


def _is_for_mail(signature: Signature) -> bool:
    return bool((signature.flags or 0) & FOR_MAIL)


def _earliest(*ends: int | None) -> int | None:
    return min((end for end in ends if end is not None), default=None)


def _few(signatures: list[Signature]) -> Iterator[list[Signature]]:
    """The signatures in groups that pysequoia checks in one short call: it holds the interpreter lock."""
    for start in range(0, len(signatures), _FEW):
        yield signatures[start : start + _FEW]


def _chosen(key: Key) -> Subkey:
    return Subkey(key.fingerprint, packets.pkesk_id(key.fingerprint), key.name)


def _why_unbound(subject: str, *components: Component) -> str:
    """Why no signature on these components counted."""
    found = [signature for component in components for signature in component.signatures.values()]
    weak = [WEAK_HASHES[signature.hash] for signature in found if signature.hash in WEAK_HASHES]
    if weak:
        return f"{subject} is bound with {weak[0]}, which is not secure"
    return f"{subject} has no valid self-signature"


def moment(seconds: int) -> datetime:
    """Unix time as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _date(seconds: int) -> str:
    return moment(seconds).date().isoformat()
