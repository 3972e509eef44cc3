"""A rule, as the policy makes it for one sender and one recipient, and the words that stand in it.

Values without behaviour beyond what follows from their own fields. How entries of the configuration become a
rule is in `relay/policy.py` and `relay/merging.py`; what a rule then does to a message is in
`relay/decision.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from relay.remembered import Trust


class Encrypt(StrEnum):
    """What a rule demands. Words, because YAML turns `off` and `no` into false."""

    ALWAYS = "always"
    WHEN_POSSIBLE = "when-possible"
    NEVER = "never"


class Mixed(StrEnum):
    """What happens to clear copies of a message that also has a recipient under `always`."""

    REFUSE = "refuse"
    SPLIT = "split"


class KeyChange(StrEnum):
    """What happens when the key of an address that was pinned is replaced without the old key's consent."""

    ACCEPT = "accept"
    HOLD = "hold"
    REFUSE = "refuse"


class Headers(StrEnum):
    """What happens to the header fields of a message that the relay encrypts."""

    PROTECT = "protect"
    """They go into the ciphertext; the Subject and what repeats it stays there alone (RFC 9788)."""
    KEEP = "keep"
    """They stay outside, except in replies: what these answer may have had a hidden Subject (RFC 9788 §6.1).
    """
    KEEP_REPLIES = "keep-replies"
    """They stay outside in replies, too."""


class Format(StrEnum):
    """The shape of an encrypted message."""

    PGP_MIME = "pgp-mime"
    INLINE = "inline"
    """An armoured block as the only text, for recipients whose programs know nothing else."""


class Exemption(StrEnum):
    """Messages of machines that a rule may name to leave as they are, so that machines can read them."""

    DSN = "dsn"
    MDN = "mdn"
    FEEDBACK = "feedback"
    TLS_REPORT = "tls-report"
    CALENDAR = "calendar"
    WKD = "wkd"
    NULL_SENDER = "null-sender"
    LIST = "list"


class Calendar(StrEnum):
    """What happens to a message that calendars of servers would read (RFC 6047)."""

    ENCRYPT = "encrypt"
    CLEAR = "clear"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Signing:
    """With which key the messages of a sender are signed."""

    key: str
    """Fingerprint of the certificate, upper-case hex."""
    autocrypt: bool = False
    """Whether an Autocrypt field for that key is added where the message has none."""
    entry: str = field(default="", compare=False)
    """The sender entry that says so, as an admin finds it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The settings in force for one sender and one recipient, after all entries were merged."""

    name: str
    """The entry that decided `encrypt`, as an admin finds it: `policy.domains.partner.example`."""
    because: str = ""
    """One sentence: why this entry matched and what was inherited from where."""
    encrypt: Encrypt = Encrypt.ALWAYS
    keys: tuple[str, ...] = ()
    """Names of the key sources, in the order of trust."""
    certificates: tuple[str, ...] = ()
    """Fingerprints chosen by hand; they replace the User ID match only."""
    mixed: Mixed = Mixed.REFUSE
    release_unusable: bool = False
    """`unusable_key: release`: an unusable certificate counts as none under `when-possible`."""
    refuse_on_failure: bool = False
    """`lookup_failure: refuse`: an unavailable source is 550 at once instead of 451."""
    lookup_patience_seconds: int = 86_400
    """How long an unavailable source defers one address before the 451 becomes a 550."""
    deferral: str = "policy.default"
    """The entry that decided the two settings above, for a reply that says what to change."""
    allow_routing: bool = False
    """`address_routing: allow`: accept `%`, `!` or a second `@` in the local part of the recipient."""
    accept_encrypted: bool = False
    """Wait for DATA and pass what the client itself encrypted, even without a key."""
    key_change: KeyChange = KeyChange.HOLD
    use_missing_pin: bool = False
    """`pinned_key_missing: use-pin`: a pinned key that its source no longer gives is used all the same."""
    min_trust: Trust = Trust.LEARNED
    """Certificates of sources below it are not used."""
    headers: Headers = Headers.PROTECT
    format: Format = Format.PGP_MIME
    exempt: frozenset[Exemption] = frozenset()
    """Kinds of message that leave in clear although `encrypt` says otherwise, without the calendar."""
    calendar: Calendar = Calendar.ENCRYPT
    also_encrypt_to: tuple[str, ...] = ()
    """Who else can read each encrypted copy: `sender`, or fingerprints."""
    signing: Signing | None = None
    """None: messages are not signed by the relay."""
    allow_lower: bool = False
    """`wish_to_lower: allow`: a message may ask to leave in clear."""

    @property
    def exemptions(self) -> frozenset[Exemption]:
        """Every kind of message that it exempts."""
        return self.exempt | {Exemption.CALENDAR} if self.calendar is Calendar.CLEAR else self.exempt

    @property
    def looks_at_kind(self) -> bool:
        """Whether it matters of what kind a message is."""
        return bool(self.exemptions) or self.calendar is Calendar.REFUSE
