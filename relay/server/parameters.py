"""Command lines (RFC 5321 §4.1.2): verbs, paths, and parameters whose values keep their letter case.

Parsing an address is in `relay.address`; what the parameters may be stands here, in one place per command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relay.address import parse_mailbox, parse_path
from relay.errors import MessageTooLarge
from relay.message import Address, MailOptions
from relay.server.refusals import BadArguments, BadLine, LineTooLong, NeedsUtf8, ParameterUnknown

_LINE_OCTETS = 2_048
"""Any command but AUTH: 512 (RFC 5321 §4.5.3.1.4) and what the extensions add, with room to spare."""

_MAIL_USAGE = "MAIL FROM:<address> [parameters]"
_RCPT_USAGE = "RCPT TO:<address>"

# A quoted local part may hold `>` and blanks (RFC 5321 §4.1.2). Blanks after the colon are a common mistake
# without a second meaning.
_PATH = re.compile(r'(?P<word>FROM|TO): *<(?P<path>(?:"(?:[^"\\]|\\.)*+"|[^<>"])*+)>(?P<rest>(?: .*)?)', re.I)
# RFC 5321 §4.1.2 esmtp-param; values may hold UTF-8 (RFC 6531 §3.3)
_PARAMETER = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[^\x00-\x20=\x7f]+))?")
# The last thing like an address: behind a source route, a second `@` in a local part, or `TO:`
_MEANT = re.compile(r"(?<![^\s<>@:,])[^\s<>@:,]++@[^\s<>@:,]++(?=[\s>]|\Z)")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_SIZE = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The parameters of MAIL that this connection offers."""

    extended: bool
    """The client said EHLO, not HELO."""
    smtputf8: bool
    max_bytes: int


def parse_command(line: bytes) -> tuple[str, str]:
    """The verb in upper case, empty if it cannot be one, and the argument without blanks around it.

    Raises:
        BadLine: it is not UTF-8.
        LineTooLong: only AUTH may be as long.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as exc:
        raise BadLine from exc
    verb, _, argument = text.partition(" ")
    # Only ASCII is folded: the long s becomes an S, too.
    verb = verb.upper() if verb.isascii() else ""
    if len(line) > _LINE_OCTETS - len(b"\r\n") and verb != "AUTH":
        raise LineTooLong
    return verb, argument.strip(" ")


def refuse_argument(argument: str, usage: str) -> None:
    """Raises BadArguments if a command that takes no argument has one."""
    if argument:
        raise BadArguments(usage=usage)


def parse_mail(argument: str, accepted: Accepted) -> tuple[Address | None, MailOptions]:
    """The sender, None for `<>`, and the options of MAIL.

    Raises:
        RelayError: what is wrong, down to the address.
    """
    path, given = _split(argument, "FROM", _MAIL_USAGE)
    options = _mail_options(given, accepted)
    return (_address(path, options) if path else None), options


def parse_rcpt(argument: str) -> Address:
    """The recipient of RCPT.

    Raises:
        RelayError: what is wrong, down to the address. NOTIFY and ORCPT are not offered.
    """
    path, given = _split(argument, "TO", _RCPT_USAGE)
    if given:
        raise ParameterUnknown(parameter=next(iter(given)))
    # `<Postmaster>` alone (RFC 5321 §4.1.1.3) means our own; a submission server has nobody behind it.
    return parse_path(path)


def meant_by(argument: str) -> Address | None:
    """Whom a RCPT command that was refused may have meant; None where nobody can tell.

    Only for asking what the policy says about that recipient: of a source route the last part counts.
    """
    match = _MEANT.search(argument)
    if match is None:
        return None
    try:
        return parse_mailbox(match[0])
    except ValueError:
        return None


def _split(argument: str, word: str, usage: str) -> tuple[str, dict[str, str | None]]:
    """The path without brackets, and the parameters by upper-case keyword; None where there is no value."""
    match = _PATH.fullmatch(argument)
    if match is None or match["word"].upper() != word:
        raise BadArguments(usage=usage)
    given: dict[str, str | None] = {}
    for text in match["rest"].split():
        parameter = _PARAMETER.fullmatch(text)
        if parameter is None or parameter["name"].upper() in given:
            raise BadArguments(usage=usage)
        given[parameter["name"].upper()] = parameter["value"]
    return match["path"], given


def _address(path: str, options: MailOptions) -> Address:
    address = parse_path(path)
    if not address.is_ascii and not options.smtputf8:
        raise NeedsUtf8
    return address


def _mail_options(given: dict[str, str | None], accepted: Accepted) -> MailOptions:
    for name in given:
        if not accepted.extended or name not in {"SIZE", "BODY", "SMTPUTF8", "AUTH"}:
            raise ParameterUnknown(parameter=name)
    if "AUTH" in given:
        _check_auth(given["AUTH"])
    return MailOptions(
        size_bytes=_size(given["SIZE"], accepted.max_bytes) if "SIZE" in given else None,
        body=_body(given["BODY"]) if "BODY" in given else None,
        smtputf8=_smtputf8(given["SMTPUTF8"], accepted.smtputf8) if "SMTPUTF8" in given else False,
    )


def _size(value: str | None, max_bytes: int) -> int:
    """RFC 1870 §4: a promise to refuse early by; the end of the message is never taken from it."""
    if value is None or not _SIZE.fullmatch(value):
        raise BadArguments(usage="SIZE=<number of octets>")
    if int(value) > max_bytes:
        raise MessageTooLarge(max_bytes=max_bytes)
    return int(value)


def _body(value: str | None) -> str:
    """RFC 6152 §2; BINARYMIME needs BDAT (RFC 3030 §3), which is not offered."""
    if value is None or value.upper() not in {"7BIT", "8BITMIME"}:
        raise BadArguments(usage="BODY=7BIT or BODY=8BITMIME")
    return value.upper()


def _smtputf8(value: str | None, offered: bool) -> bool:
    if not offered:
        raise ParameterUnknown(parameter="SMTPUTF8")
    if value is not None:
        raise BadArguments(usage="SMTPUTF8 takes no value")
    return True


def _check_auth(value: str | None) -> None:
    """RFC 4954 §5: must be taken where AUTH is offered. No client is trusted to speak for others: as `<>`."""
    if value is None or not (value == "<>" or _XTEXT.fullmatch(value)):
        raise BadArguments(usage="AUTH=<> or AUTH=<mailbox as xtext>")
