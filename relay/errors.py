"""Every refusal of the relay: its reply code, its enhanced status and the text that the client reads.

A `RelayError` is something the client hears. Its public text is a fixed template with typed slots; what
libraries, paths or other hosts said goes into `detail`, which only the log sees. Everything that is not a
`RelayError` is a bug: the edge answers it with `Unexpected` and logs it.
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
    """Too many Received fields, or our own mark (RFC 5321 §6.3)."""

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


# --------------------------------------------------------------------------- the dialogue with the client


class ProtocolError(RelayError):
    """The client broke the protocol: answered by the edge alone, counted against the connection."""

    code, status = 500, "5.2"
    template = "Syntax error"


class CommandUnknown(ProtocolError):
    """Not a command that we know (RFC 5321 §4.2.4)."""

    template = "Command not recognised"


class CommandNotOffered(ProtocolError):
    """A command that we know and do not offer on this connection (RFC 5321 §4.2.4)."""

    code, status = 502, "5.1"
    template = "Command not available here"


class BadLine(ProtocolError):
    """A command line with a bare CR, a NUL, or octets that are not UTF-8 (RFC 5321 §2.3.8)."""

    template = "A command line must end with CR LF and hold neither CR, LF nor NUL"


class BareLineFeed(BadLine):
    """A bare LF where a command line should end: nobody can say where the next command begins."""

    closes = True


class LineTooLong(ProtocolError):
    """A command line longer than we take (RFC 5321 §4.5.3.1.4 asks for 512 octets at least)."""

    template = "Line too long"


class AuthLineTooLong(LineTooLong):
    """A line of an AUTH exchange longer than 12288 octets (RFC 4954 §4)."""

    status = "5.6"
    template = "Authentication exchange line is too long"


class BadArguments(ProtocolError):
    """The command is known, its arguments are not what it takes; `usage` is a fixed text of ours."""

    code, status = 501, "5.4"
    template = "Syntax: {usage}"


class ParameterUnknown(ProtocolError):
    """A MAIL or RCPT parameter that EHLO does not offer (RFC 5321 §4.1.1.11)."""

    code, status = 555, "5.4"
    template = "Parameter {parameter} is not supported"


class BadSequence(ProtocolError):
    """A command at the wrong time (RFC 5321 §4.1.4)."""

    code, status = 503, "5.1"
    template = "Bad sequence of commands"


class GreetingNeeded(BadSequence):
    """Something came before EHLO."""

    template = "Send EHLO first"


class MailNeeded(BadSequence):
    """RCPT or DATA came without MAIL."""

    template = "Send MAIL first"


class RcptNeeded(BadSequence):
    """DATA came without an accepted recipient."""

    template = "No recipient was accepted"


class TransactionOpen(BadSequence):
    """MAIL, AUTH or STARTTLS came in the middle of a transaction (RFC 4954 §4)."""

    template = "Not allowed during a mail transaction"


class AlreadyDone(BadSequence):
    """A second AUTH after a successful one, or a second STARTTLS (RFC 4954 §4, RFC 3207 §4)."""

    template = "Already done on this connection"


class EncryptionNeeded(ProtocolError):
    """Anything but EHLO, NOOP, QUIT and STARTTLS before TLS (RFC 3207 §4)."""

    code, status = 530, "7.0"
    template = "Must issue a STARTTLS command first"


class LoginNeeded(ProtocolError):
    """MAIL before AUTH (RFC 4954 §6)."""

    code, status = 530, "7.0"
    template = "Authentication required"


class MechanismUnknown(ProtocolError):
    """An AUTH mechanism that EHLO does not offer (RFC 4954 §4)."""

    code, status = 504, "5.4"
    template = "Authentication mechanism not supported"


class BadCredentials(ProtocolError):
    """What came in an AUTH exchange is not base64 or not in the mechanism's form (RFC 4954 §4)."""

    code, status = 501, "5.2"
    template = "Cannot decode the authentication data"


class AuthCancelled(ProtocolError):
    """The client gave up with `*` (RFC 4954 §4)."""

    code, status = 501, "7.0"
    template = "Authentication cancelled"


class TooManyLogins(RelayError):
    """Too many failed logins of this client or this user: nobody is asked for a while (RFC 4954 §6)."""

    code, status = 454, "7.0"
    template = "Too many failed logins; try again in some minutes"


class NeedsUtf8(RelayError):
    """A non-ASCII address in a transaction without SMTPUTF8 (RFC 6531 §3.5)."""

    code, status = 553, "6.7"
    template = "A non-ASCII address needs the SMTPUTF8 parameter of MAIL"


class TooManyRecipients(RelayError):
    """More recipients than `limits.recipients`; the client sends the others later (RFC 5321 §4.5.3.1.10)."""

    code, status = 452, "5.3"
    template = "Too many recipients; send the message to the others separately"


class TooManyErrors(RelayError):
    """The client broke the protocol too often on this connection."""

    code, status = 421, "7.0"
    template = "Too many errors on this connection"
    closes = True


class TooManyConnections(RelayError):
    """One client has more connections than `limits.connections_per_client`."""

    code, status = 421, "7.0"
    template = "Too many connections from your address"
    closes = True


class ServerBusy(RelayError):
    """All clients together have more connections than `limits.connections`."""

    code, status = 421, "3.2"
    template = "Too many connections; try again later"
    closes = True


class ShuttingDown(RelayError):
    """The relay stops (RFC 5321 §3.8)."""

    code, status = 421, "3.2"
    template = "The relay is shutting down; try again later"
    closes = True


class ClientTooSlow(RelayError):
    """Nothing came, or nothing was read, for longer than RFC 5321 §4.5.3.2 asks us to wait."""

    code, status = 421, "4.2"
    template = "Waited too long"
    closes = True


# --------------------------------------------------------------------------- key sources


class KeySourceUnavailable(Exception):
    """A key source could not be asked. Not a RelayError: the lookup turns it into a result."""
