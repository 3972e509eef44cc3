"""Refusals of the line and its parts: reply code, enhanced status and the text that the client reads.

A `RelayError` is something the client hears. Its public text is a fixed template with typed slots; what
libraries, paths or other hosts said goes into `detail`, which only the log sees. Everything that is not a
`RelayError` is a bug: the edge answers it with `Unexpected` and logs it. Refusals that only the dialogue with
a client needs (syntax, sequence, TLS, AUTH, limits) are in `relay/server/refusals.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from relay.message import Address, Reply

_MAX_SLOT_CHARS = 200
_MAX_ADDRESSES = 5


class RelayError(Exception):
    """A refusal with a reply; subclasses fix the code, the status and the template.

    Args:
        detail: text for the log only; may hold library words and paths, never content or credentials.
        slots: values for the template: addresses, rule names, verdict sentences.
    """

    code: ClassVar[int] = 451
    status: ClassVar[str] = "3.0"
    template: ClassVar[str] = "Something unexpected happened; nothing was sent, try again later"
    closes: ClassVar[bool] = False
    """Whether the connection ends after the reply."""

    def __init__(self, detail: str = "", **slots: str | int | Address | Iterable[Address]) -> None:
        super().__init__(detail or type(self).__name__)
        self.detail = detail
        self._slots = slots

    def reply(self, id: str = "", *, utf8: bool = False) -> Reply:
        """The reply for the client.

        Args:
            id: log id of the transaction, appended so that the admin finds the log lines.
            utf8: whether the client speaks SMTPUTF8, so that addresses may stand in the text unescaped.
        """
        values = {name: _clean(value, utf8=utf8) for name, value in self._slots.items()}
        text = self.template.format(**values)
        return Reply(self.code, self.status, f"{text} ({id})" if id else text)

    @property
    def is_temporary(self) -> bool:
        """Whether the client should try again (4xx)."""
        return self.reply().code < 500


def _clean(value: str | int | Address | Iterable[Address], *, utf8: bool) -> str:
    """One slot as reply text: no control characters, bounded, ASCII unless the client speaks SMTPUTF8."""
    if isinstance(value, str | int | Address):
        return _clean_text(str(value), utf8=utf8)
    addresses = [_clean_text(str(address), utf8=utf8) for address in value]
    more = len(addresses) - _MAX_ADDRESSES
    shown = ", ".join(addresses[:_MAX_ADDRESSES])
    return f"{shown} and {more} more" if more > 0 else shown


def _clean_text(text: str, *, utf8: bool) -> str:
    kept = "".join(char if char.isprintable() else "?" for char in text[:_MAX_SLOT_CHARS])
    return kept if utf8 else kept.encode("ascii", "backslashreplace").decode("ascii")


class Unexpected(RelayError):
    """A bug or an unforeseen failure: nothing was sent, the id finds it in the log."""


# --------------------------------------------------------------------------- policy and keys


class KeyMissing(RelayError):
    """The rule demands encryption and every source answered that there is no key."""

    code, status = 550, "7.1"
    template = (
        "No encryption key is known for <{recipient}> and {rule} demands one; ask the recipient for a key"
    )


class KeyUnusable(RelayError):
    """Certificates were found, none may be used."""

    code, status = 550, "7.1"
    template = (
        "The encryption key of <{recipient}> cannot be used: {verdict}; {rule} does not allow clear text"
    )


class ReaderKeyMissing(RelayError):
    """Somebody of `also_encrypt_to` has no key that can be used."""

    code, status = 550, "7.1"
    template = (
        "{rule} wants every encrypted copy readable for {recipient} as well, whose key cannot be used:"
        " {verdict}; the administrator must provide it or change also_encrypt_to"
    )


class CalendarRefused(RelayError):
    """A calendar message, which the rule refuses: encrypted it would serve nobody, in clear it may not go."""

    code, status = 550, "7.1"
    template = "Calendar messages to <{recipient}> are refused by {rule}; send it as ordinary mail"


class AuthorNotSigned(RelayError):
    """Messages of this sender are signed, but the author of this one is somebody else."""

    code, status = 550, "7.1"
    template = (
        "Messages of this sender are signed, but the key does not belong to the author <{author}>;"
        " send it under the author's own address"
    )


class KeyLookupFailed(RelayError):
    """A source could not be asked: temporary, whatever the rule says."""

    code, status = 451, "7.5"
    template = (
        "The encryption key of <{recipient}> cannot be looked up now (source {source}); try again later"
    )


class KeyLookupGaveUp(RelayError):
    """A source could not be asked for longer than the rule's patience, or the rule does not defer."""

    code, status = 550, "7.5"
    template = (
        "The encryption key of <{recipient}> could not be looked up: source {source} does not answer;"
        " the administrator can repair it or change lookup_failure or lookup_patience of {rule}"
    )


class PinnedKeyMissing(RelayError):
    """A key was used for this address before, and its source no longer has it."""

    code, status = 550, "7.1"
    template = (
        "The encryption key that was used for <{recipient}> before ({fingerprint}) is gone from its source"
        " {source}; ask the recipient, or the administrator to import or forget it"
    )


class KeyChangeHeld(RelayError):
    """The key of this address was replaced by another one, and nobody has approved that yet."""

    code, status = 451, "7.1"
    template = (
        "The encryption key of <{recipient}> has changed and waits for the administrator's approval"
        " ({fingerprint}); try again later"
    )


class KeyChangeRefused(RelayError):
    """The key of this address was replaced by another one, which the rule or the administrator refuses."""

    code, status = 550, "7.1"
    template = (
        "The encryption key of <{recipient}> has changed ({fingerprint}) and {rule} refuses another key than"
        " the one used before"
    )


class MixedRefused(RelayError):
    """A clear copy would have left beside a recipient whose rule is `always`."""

    code, status = 550, "7.1"
    template = (
        "This message has recipients that demand encryption ({strict}), so it may not go to {clear} in clear;"
        " send it to them separately"
    )


class SenderNotAllowed(RelayError):
    """The login may not use this envelope sender or author (RFC 6409 §6.1)."""

    code, status = 550, "7.1"
    template = "Your login may not send as <{sender}>"


# --------------------------------------------------------------------------- addresses


class AddressSyntax(RelayError):
    """What was given is no mailbox (RFC 5321 §4.1.2); `reason` is a fixed text of ours."""

    code, status = 501, "1.3"
    template = "The address <{address}> is not valid: {reason}"


class DomainNotQualified(AddressSyntax):
    """The domain has one label only, so it means something else on every host (RFC 6409 §4.2)."""

    code, status = 554, "1.2"
    template = "The address <{address}> is not valid: its domain is not fully qualified"


class BadAddress(RelayError):
    """The address asks for a route, so its mail would reach another place than the rule that was matched."""

    code, status = 553, "1.3"
    template = "The address <{address}> asks for a route (source route, %, ! or a second @); not allowed here"


# --------------------------------------------------------------------------- the message itself


class MessageRefused(RelayError):
    """The content cannot be relayed whatever the policy says; `reason` is a fixed text of ours."""

    code, status = 554, "6.0"
    template = "The message was refused: {reason}"


class LoopDetected(RelayError):
    """Too many Received fields (RFC 5321 §6.3)."""

    code, status = 554, "4.6"
    template = "Too many hops: the message seems to loop"


class NotEncryptedForRecipient(RelayError):
    """The client encrypted the message itself, but to none of this recipient's keys."""

    code, status = 550, "7.1"
    template = "The message is already encrypted, but not to the key of <{recipient}>"


class NeedsEightBit(RelayError):
    """A clear copy holds 8-bit content and the next hop does not take it (RFC 6152 §3)."""

    code, status = 554, "6.3"
    template = "The message needs 8BITMIME, which the next mail server does not offer"


class NeedsSmtpUtf8(RelayError):
    """An address or the outer header is not ASCII and the next hop cannot take that (RFC 6531 §3.5)."""

    code, status = 553, "6.7"
    template = "The message or an address needs SMTPUTF8, which the next mail server does not offer"


class MessageTooLarge(RelayError):
    """Larger than the relay or the next hop accepts, encryption included (RFC 1870 §6)."""

    code, status = 552, "3.4"
    template = "The message is too large: at most {max_bytes} bytes"


class OverMemory(RelayError):
    """The memory budget is in use; the message was not read or not encrypted."""

    code, status = 452, "3.1"
    template = "Too much mail is in progress; try again later"


class TooManyCopies(RelayError):
    """Each Bcc recipient needs a ciphertext of its own, and together they never fit into the budget."""

    code, status = 552, "3.4"
    template = "The message is too large for {copies} separate copies; send it to fewer Bcc recipients"


# --------------------------------------------------------------------------- encryption


class EncryptionFailed(RelayError):
    """The engine failed or its result did not pass the self-check: nothing was sent."""

    code, status = 451, "7.5"
    template = "The message could not be encrypted; nothing was sent, try again later"


class SigningUnavailable(RelayError):
    """The key that the sender's rule signs with cannot sign now; never "unsigned this time"."""

    code, status = 451, "7.5"
    template = "The message cannot be signed now as {rule} demands; nothing was sent, try again later"


class SigningImpossible(RelayError):
    """What holds the signing key cannot encrypt to this recipient, today or tomorrow."""

    code, status = 550, "7.5"
    template = (
        "The message cannot be signed as {rule} demands: GnuPG, which has the signing key, cannot encrypt to"
        " the key {fingerprint}; the administrator can move the signing key into a file (secret_keys)"
    )


# --------------------------------------------------------------------------- the next hop


class NextHopUnavailable(RelayError):
    """The next hop could not be reached, spoken to, or logged in to: not a judgement of this message."""

    code, status = 451, "4.1"
    template = "The next mail server cannot take mail just now; nothing was sent, try again later"


class OutcomeUnknown(RelayError):
    """The connection ended after the final dot, before the reply: it may be delivered (RFC 1047)."""

    code, status = 451, "4.2"
    template = "The next mail server did not confirm the message; try again later"


class NextHopRefused(RelayError):
    """The next hop refused this message's MAIL, RCPT or DATA; its code and enhanced status are kept.

    Args:
        code: the reply code of the next hop, 400 to 599.
        enhanced: its enhanced status (`5.1.1`) or an empty string; only its last two numbers are used.
        what: `the sender`, `the recipient` or `the message`.
    """

    template = "The next mail server refused {what}"

    def __init__(self, code: int, enhanced: str, what: str, detail: str = "") -> None:
        super().__init__(detail, what=what)
        self._code = code
        self._status = enhanced.partition(".")[2] or "0.0"

    def reply(self, id: str = "", *, utf8: bool = False) -> Reply:
        """The reply with the class and status of the next hop and a text of ours."""
        text = super().reply(id, utf8=utf8).text
        return Reply(self._code, self._status, text)


class DeliveryIncomplete(RelayError):
    """Some recipients have the message, the others could not be reached and the sender could not be told.

    The retry of the client reaches the rest only: what was delivered is remembered.

    Args:
        delivered: the recipients who have it.
    """

    code, status = 451, "4.1"
    template = "Some recipients could not be reached; try again, nobody will get the message twice"

    def __init__(self, delivered: tuple[Address, ...]) -> None:
        super().__init__(f"{len(delivered)} recipients have it")
        self.delivered = delivered


class LoginRefused(RelayError):
    """The login and password do not fit (RFC 4954 §6); the same words for an unknown user."""

    code, status = 535, "7.8"
    template = "The user name or password is wrong"


class LoginUnavailable(RelayError):
    """The login could not be judged just now (RFC 4954 §6)."""

    code, status = 454, "7.0"
    template = "The login cannot be checked just now; try again later"


# --------------------------------------------------------------------------- key sources


class KeySourceUnavailable(Exception):
    """A key source could not be asked. Not a RelayError: the lookup turns it into a result.

    Args:
        detail: why, for the log and `relay explain`.
        retry_after_seconds: how long the source itself wants to be left alone, where it said so.
    """

    def __init__(self, detail: str = "", *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class KeySourceUnreachable(KeySourceUnavailable):
    """The source's server could not be asked, or only says that it fails. `unreachable_means: none` may take
    that for "none"; never an answer that cannot be used, which strangers can bring about, nor a failure of
    our own."""


class KeySourceDistrusted(KeySourceUnavailable):
    """An answer came that must not be believed (bogus DNSSEC): nothing may be sent, whatever was configured
    for sources that cannot be reached (RFC 7929 §7.1)."""


class StoreUnavailable(KeySourceUnavailable):
    """The database with what is remembered could not be read or written."""
