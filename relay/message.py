"""The values that travel through the relay: addresses, envelopes, rules, keys, replies, outgoing content.

Frozen dataclasses without behaviour beyond what follows from their own fields. Nothing here does I/O, reads
a clock, or knows a library. Parsing an address is in `relay/address.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from relay.remembered import Pin, Trust
from relay.rule import Rule

# --------------------------------------------------------------------------- addresses and the envelope


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox, parsed once at the edge; the null sender is `None`, never an Address.

    Two addresses name the same mailbox for policy, key lookup and Bcc detection if their `key` is equal.
    """

    text: str
    """As it was given, without angle brackets: what the next hop and replies get."""
    local: str
    """Local part, unquoted, letter case kept (RFC 5321 §2.3.11: only the destination may interpret it)."""
    domain: str
    """Domain as A-labels in lower case, without a trailing dot; `[192.0.2.1]` for an address literal."""

    @property
    def key(self) -> str:
        """The form for comparison: ASCII letters of the local part folded, domain as A-labels."""
        return f"{self.local.translate(_ASCII_FOLD)}@{self.domain}"

    @property
    def is_ascii(self) -> bool:
        """Whether it can be sent without SMTPUTF8 (RFC 6531)."""
        return self.text.isascii()

    def __str__(self) -> str:
        return self.text


_ASCII_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class MailOptions:
    """Parameters of the client's MAIL command (RFC 1870, 6152, 6531, 4954)."""

    size_bytes: int | None = None
    body: str | None = None
    """`7BIT`, `8BITMIME` or None where the client gave no BODY."""
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """Who the client proved to be."""

    name: str
    senders: tuple[str, ...] | None = None
    """Patterns (`a@b`, `*@b`) this login may use as sender and author; None: any (RFC 6409 §6.1)."""


@dataclass(frozen=True, slots=True)
class Client:
    """The client side of one connection, as `Received` and the log need it."""

    id: str
    """Log id of the connection."""
    ip: str
    """Empty for a unix socket."""
    helo: str = ""
    login: Login | None = None
    tls: str = ""
    """`TLSv1.3 TLS_AES_256_GCM_SHA384`; empty without TLS."""
    extended: bool = True
    """It greeted with EHLO, not with HELO."""


# --------------------------------------------------------------------------- certificates and lookups


@dataclass(frozen=True, slots=True)
class Certificate:
    """An OpenPGP certificate as a source gave it: unjudged bytes with what is needed to find and name it."""

    data: bytes
    """Binary packets of this one certificate (never armoured)."""
    fingerprint: str
    """Of the primary key, upper-case hex; empty where the packet version is unknown."""
    user_ids: tuple[str, ...]
    """The text of each User ID packet, unverified: for finding and display, never for a decision."""
    source: str
    """Name of the key source in the configuration."""
    fetched: datetime | None = field(default=None, compare=False)
    """When a discovered source gave it (UTC); None for local files."""


@dataclass(frozen=True, slots=True)
class Subkey:
    """An encryption (sub)key that the judge chose."""

    fingerprint: str
    key_id: str
    """As it stands in a PKESK: 16 upper-case hex digits for v4; the fingerprint for v6 (RFC 9580 §5.1.2)."""
    algorithm: str
    """For people: `RSA 3072`, `Curve25519`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one certificate for one address at one moment."""

    certificate: Certificate
    usable: bool
    sentence: str
    """For people, without a full stop: `expired on 2024-03-01`; reaches replies and `relay explain`."""
    subkeys: tuple[Subkey, ...] = ()
    """Every subkey to encrypt to; empty unless usable."""
    reduced: bytes = b""
    """The certificate cut down to what was verified: what an engine gets. Empty unless usable."""
    created: datetime | None = None
    """Creation time of the primary key (UTC), for choosing the newest."""
    warnings: tuple[str, ...] = ()
    """Sentences that do not change the verdict: `RSA 2048 is below 3072 bits`."""
    expires: datetime | None = None
    """When a usable verdict ends (UTC): the first moment at which no chosen subkey is live; None: never."""
    overlooked: bool = False
    """It was not judged, because too many others came before it: nobody knows what it is good for."""
    allows_v2: bool = False
    """Its owner says that he can read version 2 of encrypted data (RFC 9580 §13.7)."""
    needs_v2: bool = False
    """It allows it and is of version 6 or post-quantum: to share version 1 with others would weaken it."""
    lists_aes_256: bool = False
    """Its owner lists it among his ciphers; AES-128 is what everybody reads (RFC 9580 §9.3, §12.2)."""
    needs_sequoia: bool = False
    """GnuPG cannot encrypt to it, or would write what RFC 9580 does not know."""


class LookupResult(StrEnum):
    """The four results of a key lookup; none and unavailable must never be mistaken for each other."""

    USABLE = "usable"
    NONE = "none"
    UNUSABLE = "unusable"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source said in a lookup, for the log and `relay explain`."""

    source: str
    found: int = 0
    failure: str = ""
    """Log text of why the source was unavailable; never shown to an SMTP client."""
    seconds: float = 0.0
    """How long it took."""
    asked: bool = True
    """False: a source before it had a usable key, so only what was known of this one already counted."""
    asked_at: datetime | None = None
    """When a discovered source was last asked about this address (UTC); None for local files."""
    waived: str = ""
    """The failure that `unreachable_means: none` turned into "none"."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a source outside of this machine answered about one address."""

    certificates: tuple[Certificate, ...] = ()
    """Unjudged; empty means that there is none."""
    max_age_seconds: int | None = None
    """How long the answer may be kept at most (the TTL of a DNS record); None: as configured."""


class PinConflict(StrEnum):
    """Why a pin stands against what the sources answered now."""

    MISSING = "missing"
    """The pinned key is gone and nothing took its place."""
    HELD = "held"
    """Another key appeared; it waits for the administrator."""
    REFUSED = "refused"
    """Another key appeared, and the rule or the administrator refuses it."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """The result of asking every source of a rule for one address."""

    result: LookupResult
    chosen: tuple[Verdict, ...] = ()
    """What to encrypt to; not empty exactly when the result is usable. More than one only where the rule
    names several `certificates:` by hand."""
    verdicts: tuple[Verdict, ...] = ()
    """Of every certificate that was found, in the order of the sources."""
    answers: tuple[Answer, ...] = ()
    failing_seconds: float = 0.0
    """How long this address has been unavailable without a break; 0 unless the result is unavailable."""
    pin: Pin | None = None
    """The key that was used for this address before, where one is remembered."""
    conflict: PinConflict | None = None
    """Why the pin forbids what the sources answered; nothing is chosen then, and nothing released."""
    contender: str = ""
    """Fingerprint of the key that would take the place of the pinned one."""
    trusts: Mapping[str, Trust] = field(default_factory=dict)
    """Fingerprint → the trust of the best source that gave this certificate."""

    def __post_init__(self) -> None:
        # Whoever has nothing chosen may be served in clear: `usable` without a key must not exist.
        if bool(self.chosen) != (self.result is LookupResult.USABLE):
            raise ValueError("a lookup has chosen certificates exactly when its result is usable")
        if self.conflict and (self.result is not LookupResult.UNUSABLE or self.pin is None):
            raise ValueError("a pin that stands against the answer makes the lookup unusable")

    @property
    def sentence(self) -> str:
        """The verdicts in one sentence, for a reply about an unusable certificate."""
        return "; ".join(verdict.sentence for verdict in self.verdicts if not verdict.usable)

    @property
    def failed_source(self) -> str:
        """The name of the source that could not be asked, or an empty string."""
        return next((answer.source for answer in self.answers if answer.failure), "")


@dataclass(frozen=True, slots=True)
class Admission:
    """A recipient that was accepted at RCPT, with everything that was decided about it then."""

    recipient: Address
    rule: Rule
    lookup: Lookup | None = None
    """None where the rule asked for no key (`encrypt: never`)."""
    also: tuple[Verdict, ...] = ()
    """The certificates of `also_encrypt_to`: readers of the copy beside its recipient."""

    @property
    def chosen(self) -> tuple[Verdict, ...]:
        """The certificates to encrypt to; empty if there is none."""
        return self.lookup.chosen if self.lookup else ()


# --------------------------------------------------------------------------- content


@dataclass(frozen=True, slots=True)
class Sealed:
    """Content that only its recipients can read. Made by `mime.selfcheck.seal` or `mime.detect` alone."""

    header: bytes
    """Outer header section, each line ended by CRLF, without the empty line."""
    body: bytes
    recipients: tuple[Address, ...]
    key_ids: tuple[str, ...]
    """Key IDs of the PKESK packets, for the log."""
    passed_through: bool = False
    """The client itself had encrypted it."""
    smtputf8: bool = False
    """The outer header needs SMTPUTF8 (RFC 6531)."""


@dataclass(frozen=True, slots=True)
class Released:
    """Plaintext that a rule released, with the name of that rule in it."""

    header: bytes
    body: bytes
    recipients: tuple[Address, ...]
    rule: str
    """The rule that released it; never empty."""
    smtputf8: bool = False

    def __post_init__(self) -> None:
        if not self.rule:
            raise ValueError("plaintext needs the name of the rule that released it")


Outgoing = Sealed | Released
"""The only things that a next hop takes."""


# --------------------------------------------------------------------------- next hop


@dataclass(frozen=True, slots=True)
class Offers:
    """What the next hop said in its last EHLO reply."""

    size_bytes: int | None = None
    """Its limit; None where it named none (RFC 1870)."""
    eightbitmime: bool = False
    smtputf8: bool = False
    auth: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply of the relay."""

    code: int
    status: str
    """Enhanced status without its first digit (`7.1`), so that it cannot disagree with the code, or empty."""
    text: str
    lines: tuple[str, ...] = field(default=())
    """Further text lines of a multi-line reply, before `text`."""

    @property
    def enhanced(self) -> str:
        """The enhanced status code, `5.7.1`, or an empty string (RFC 2034)."""
        return f"{self.code // 100}.{self.status}" if self.status else ""

    def encode(self) -> bytes:
        """The reply as it goes on the wire, every line with code and enhanced status (RFC 2034 §4)."""
        prefix = f"{self.enhanced} " if self.status else ""
        first = "".join(f"{self.code}-{prefix}{line}\r\n" for line in self.lines)
        return f"{first}{self.code} {prefix}{self.text}\r\n".encode()
