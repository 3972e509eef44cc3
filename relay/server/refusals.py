"""Every refusal that the dialogue with a client itself needs: syntax, sequence, TLS, AUTH, limits.

Refusals that concern a message, a key or the next hop are in `relay/errors.py`; replies that are no refusals
in `relay/server/replies.py`.
"""

from __future__ import annotations

from relay.errors import RelayError


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
