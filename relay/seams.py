"""The seams: what the line needs from its parts, as Protocols.

They stand apart from `relay/pipeline.py`, which uses them, so that the line itself reads on one page. A part
never imports another one: it meets these shapes; `relay/build.py` makes the parts and
`relay/app.py` puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from relay.message import Address, Certificate, Client, Discovered, Login, Offers, Outgoing, Verdict
from relay.remembered import CacheEntry, LearnedKey, PendingKey, PendingState, Pin
from relay.rule import KeyChange

if TYPE_CHECKING:
    from relay.mime.autocrypt import Header


class KeySource(Protocol):
    """A place where certificates are kept or found."""

    name: str

    async def find(self, address: Address) -> list[Certificate]:
        """Every certificate that names the address, usable or not; empty means there is none.

        Raises:
            KeySourceUnavailable: it could not be found out.
        """

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        """The certificates with this primary fingerprint (upper-case hex). Raises as `find`."""


class CachedSource(KeySource, Protocol):
    """A source outside of this machine, whose answers are kept: `keys.cached` around a `KeyDiscovery`."""

    async def recall(self, address: Address) -> list[Certificate]:
        """What is known already, however old; asks nobody. Raises KeySourceUnavailable (the store)."""

    async def asked_at(self, address: Address) -> datetime | None:
        """When the source last answered about the address (UTC). Raises KeySourceUnavailable (the store)."""

    async def refresh(self, address: Address) -> list[Certificate]:
        """Asks now, whatever is kept. Raises KeySourceUnavailable."""


class KeyDiscovery(Protocol):
    """Asks one kind of place outside of this machine; remembers nothing (`keys.cached` does)."""

    name: str

    def cache_key(self, address: Address) -> str:
        """Equal for addresses that get the same answer: DNS names differ by letter case, others do not."""

    async def discover(self, address: Address) -> Discovered:
        """Asks about an address. An empty answer means that there is no key.

        Raises:
            KeySourceDistrusted: an answer came and must not be believed; nothing may be sent.
            KeySourceUnavailable: it could not be found out.
        """

    async def discover_fingerprint(self, fingerprint: str) -> Discovered:
        """Asks for a certificate by its primary fingerprint (upper-case hex).

        A place that cannot be asked so answers that there is none. Raises as `discover`.
        """

    async def close(self) -> None:
        """Closes connections; never raises."""


class KeyCache(Protocol):
    """Where answers of discovered sources are kept (`relay/store`). All raise StoreUnavailable."""

    async def get(self, source: str, key: str) -> CacheEntry | None:
        """The entry, however old."""

    async def put(self, entry: CacheEntry) -> None:
        """Keeps the entry in place of the one with the same source and key."""

    async def touch(self, source: str, key: str, used_at: datetime) -> None:
        """Notes that a message needed the entry."""

    async def due(self, source: str, before: datetime, used_after: datetime, limit: int) -> list[CacheEntry]:
        """Entries of a source with certificates, whose freshness ends before a moment and that were used
        after another, the oldest first."""

    async def entries(self, address_key: str) -> list[CacheEntry]:
        """The entries of all sources for the address (`Address.key`)."""

    async def forget(self, address_key: str) -> int:
        """Drops the entries of all sources for the address; how many there were."""


class PinBook(Protocol):
    """Which key was used for an address before (`relay/store`). All raise StoreUnavailable."""

    async def pin_of(self, address_key: str) -> Pin | None:
        """The pin as it is in the database now."""

    async def pin_first(self, pin: Pin) -> Pin:
        """Pins the key unless the address has a pin; the pin that the address has now."""

    async def replace_pin(self, old_fingerprint: str, pin: Pin) -> Pin:
        """Puts `pin` in the place of the pin with the old fingerprint, and drops the pending key that it
        was, in one transaction; the pin that the address has now, which is another one if somebody was
        quicker."""

    async def pending(self, address_key: str = "") -> list[PendingKey]:
        """Keys that would replace a pin, whatever became of them; of all addresses without an argument."""

    async def add_pending(self, key: PendingKey) -> PendingKey:
        """Notes a key that would replace a pin; the entry that was there already, if there was one."""

    async def decide(self, address_key: str, fingerprint: str, state: PendingState) -> bool:
        """What the administrator decided about a pending key; False where there is none."""

    async def forget_pin(self, address_key: str) -> bool:
        """Drops the pin and the pending keys of an address; False where there was no pin."""

    async def was_seen(self, address_key: str) -> bool:
        """Whether any source outside of this machine ever had a certificate for the address."""

    async def mark_seen(self, address_key: str) -> None:
        """Remembers for good that one had."""


class LearnedKeys(Protocol):
    """Keys from messages that passed (`relay/store`), one for an address. All raise StoreUnavailable."""

    async def get(self, address_key: str) -> LearnedKey | None:
        """The key that was learned for the address (`Address.key`)."""

    async def put(self, key: LearnedKey) -> None:
        """Keeps the key in place of the one of the same address; whether it may is decided before."""

    async def forget(self, address_key: str) -> bool:
        """Drops what was learned for the address; False where nothing was."""

    async def all(self, limit: int) -> list[LearnedKey]:
        """The keys of all addresses, sorted by these."""


class KeyLearner(Protocol):
    """Learns keys from messages that were sent (Autocrypt)."""

    async def hear(
        self, header: Header, sent_at: datetime | None, key_change: KeyChange, *, id: str = ""
    ) -> None:
        """Keeps what a message taught, within a few seconds. Raises nothing: the message was sent.

        Args:
            header: about the author, who was proven to be the login.
            sent_at: the date of the message, if it has one.
            key_change: of the rule for mail to the author.
            id: of the transaction, for the log.
        """


class KeyJudge(Protocol):
    """Says which certificates may be used, and with which subkeys."""

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        """One verdict per distinct certificate, in the order given; copies of one certificate are merged.

        Args:
            address: must be bound by a valid User ID; None skips that test (`certificates:` of a rule).

        It may be called in a thread.
        """

    def remembers(self, certificates: list[Certificate], address: Address | None, now: datetime) -> bool:
        """Whether `judge` would answer from memory, in microseconds."""

    def certifies(
        self, old: bytes, new: bytes, address: Address, now: datetime, copies: Sequence[bytes] = ()
    ) -> bool:
        """Whether the certificate `old` vouches for the User ID of `new` with this address (RFC 7929 §5.2).

        Takes milliseconds; it may be called in a thread.

        Args:
            copies: further ones of `old`; a revocation in any of them counts.
        """

    def revocations(self, copies: Sequence[bytes]) -> bytes:
        """What the owner revoked in these copies of one certificate: a further copy that takes it back
        wherever it is judged with others; empty where nothing was revoked. May be called in a thread.
        """


class Engine(Protocol):
    """Encrypts bytes to certificates."""

    async def encrypt(self, plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
        """An ASCII-armoured OpenPGP message, encrypted to every subkey of every verdict.

        Raises:
            EncryptionFailed: whatever went wrong; there is no partial result.
        """


class Signer(Protocol):
    """Signs and encrypts bytes, in the place of an `Engine`, with secret keys that rules name."""

    async def sign_and_encrypt(
        self, plaintext: bytes, keys: tuple[Verdict, ...], fingerprint: str, *, rule: str
    ) -> bytes:
        """An ASCII-armoured OpenPGP message, signed, then encrypted to every subkey of every verdict.

        Args:
            fingerprint: of the primary key or the signing subkey, upper-case hex.
            rule: which demands the signature, for the reply.

        Raises:
            SigningUnavailable: the key cannot sign now.
            SigningImpossible: whoever has the key cannot encrypt to these recipients.
            EncryptionFailed: whatever else went wrong; there is no partial result.
        """

    async def certificate(self, fingerprint: str, address: Address) -> bytes | None:
        """The minimal public certificate for an Autocrypt field about the address; None where it is none of
        the key's own, or the field could not hold it."""


class NextHop(Protocol):
    """Where mail goes."""

    @property
    def offers(self) -> Offers:
        """What its last EHLO reply said; empty before the first connection."""

    def session(self, client: Client) -> HopSession:
        """The next hop as one client connection uses it; costs nothing until it is used."""


class HopSession(Protocol):
    """Everything the next hop does for one connection of a client."""

    async def login(self, username: str, password: str) -> None:
        """Tries the client's login; later transactions of this session use it.

        Raises:
            LoginRefused: the next hop judged this login and refused it.
            LoginUnavailable: it could not be asked.
        """

    async def start(self, sender: Address | None) -> HopTransaction:
        """Opens a transaction with MAIL.

        What the client declared with its own MAIL is not passed on: it tells nothing about the content that
        will leave, which declares what it needs itself.

        Raises:
            NextHopRefused: it does not take mail from this sender.
            NeedsSmtpUtf8: the sender is not ASCII and the next hop cannot take that.
            NextHopUnavailable: it could not be asked.
        """

    async def close(self) -> None:
        """Ends whatever the session holds; never raises."""


class HopTransaction(Protocol):
    """One mail transaction on the next hop."""

    async def add(self, recipient: Address) -> None:
        """RCPT. Raises NextHopRefused, NextHopUnavailable or NeedsSmtpUtf8."""

    def check(self, content: Outgoing) -> None:
        """Raises NeedsSmtpUtf8, NeedsEightBit or MessageTooLarge for what the next hop does not take.

        No I/O; it says nothing while there is no connection.
        """

    async def send(self, content: Outgoing) -> str:
        """DATA; returns what the next hop said with its 250, as one line for the log.

        The transaction is over afterwards, however it ended.

        A connection that died since the last command is opened again and its recipients accepted again
        before any content is sent.

        Raises:
            NextHopRefused: it said no; nothing was taken.
            NextHopUnavailable: nothing was taken.
            OutcomeUnknown: the content was sent and no reply came.
            NeedsSmtpUtf8, NeedsEightBit, MessageTooLarge: it does not take such content; nothing was sent.
        """

    async def abandon(self) -> None:
        """Drops the transaction (RSET) and gives its connection back; never raises."""


class Clock(Protocol):
    """Time, so that tests can set it."""

    def now(self) -> datetime:
        """The current time in UTC, aware."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Lets that much time pass."""


class Journal(Protocol):
    """Business events: a log today, metrics beside it, a list in tests."""

    def record(self, event: str, *, id: str = "", **fields: str | int | float | bool) -> None:
        """One event. Fields never hold content, subjects, credentials or key material (O-02)."""


class Authenticator(Protocol):
    """Judges logins: a file of users, or the next hop."""

    async def verify(self, session: HopSession, username: str, password: str) -> Login:
        """Who this is.

        Raises:
            LoginRefused: judged and refused.
            LoginUnavailable: could not be judged.
        """
