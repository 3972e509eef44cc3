"""Finds the addresses of web servers in the DNS, and tells "there is none" from "cannot tell" (K-03, K-04).

The operating system's resolver functions are not used: they say the same for a name that does not exist and
for a name server that does not answer, and they take a thread for each question. So `/etc/hosts`, mDNS and
other sources of `nsswitch.conf` are not read, and no search domain is appended.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver

from relay.errors import KeySourceDistrusted, KeySourceUnavailable, KeySourceUnreachable
from relay.keys.networks import IPAddress

_MAX_ADDRESSES = 16
"""Of each kind; more of them are not tried."""
_MAX_UDP_OCTETS = 1232
"""Fits into one packet on every path (RFC 9715 §3)."""
_NOT_VALIDATED = frozenset({1, 2, *range(5, 13)})
"""Extended errors of a failed DNSSEC validation (RFC 8914 §4.2, §4.3, §4.6 to §4.13)."""
_TRY_SECONDS = 2.0
"""For one name server, so that a dead first one leaves time for the second."""


class Names:
    """Asks the DNS for addresses.

    The system's file is read for every question, so that a change of network needs no restart.

    Args:
        resolver: `IP:port` of the name server to ask instead of the system's; `[::1]:53` for IPv6.
        timeout_seconds: for one name, all tries together.
        system_file: names the system's name servers.

    Raises:
        ValueError: `resolver` is not of that form.
    """

    def __init__(
        self,
        resolver: str | None = None,
        *,
        timeout_seconds: float = 5.0,
        system_file: Path = Path("/etc/resolv.conf"),
    ) -> None:
        self._resolver = parse_resolver(resolver) if resolver else None
        self._timeout_seconds = timeout_seconds
        self._system_file = system_file

    async def addresses(self, host: str) -> tuple[IPAddress, ...]:
        """Every address of the host, IPv6 first; empty where the DNS says that there is none.

        One kind of address is enough: some name servers answer only for A.

        Args:
            host: a domain name of A-labels, taken as complete.

        Raises:
            KeySourceDistrusted: the resolver says that the answer failed DNSSEC validation.
            KeySourceUnreachable: it could not be found out: SERVFAIL, no answer, a broken one.
        """
        try:
            name = dns.name.from_text(host, idna_codec=None)
        except (dns.name.NameTooLong, dns.name.LabelTooLong, dns.name.EmptyLabel):
            return ()  # no zone can hold such a name (RFC 1035 §2.3.4)
        except dns.exception.DNSException as exc:
            raise KeySourceUnavailable("a host name is not a domain name") from exc
        return await self._both(await asyncio.to_thread(self._made), name)

    def _made(self) -> dns.asyncresolver.Resolver:
        """Blocks: reads a file where the system's resolver is used."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        if self._resolver:
            resolver.nameservers, resolver.port = [self._resolver[0]], self._resolver[1]
        else:
            _read_system(resolver, self._system_file)
        resolver.lifetime, resolver.timeout = self._timeout_seconds, _TRY_SECONDS
        resolver.use_edns(0, 0, _MAX_UDP_OCTETS)  # without it no resolver says why it failed
        return resolver

    async def _both(self, resolver: dns.asyncresolver.Resolver, name: dns.name.Name) -> tuple[IPAddress, ...]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_ask(resolver, name, kind))
                for kind in (dns.rdatatype.AAAA, dns.rdatatype.A)
            ]
        replies = [task.result() for task in tasks]
        found = tuple(address for reply in replies for address in reply.addresses)
        failure = next((reply.failure for reply in replies if reply.failure), "")
        if failure and not found:
            unknown = f"the address of {name.to_text(True)} is not known: {failure}"
            is_bogus = any(reply.bogus for reply in replies)
            raise (KeySourceDistrusted if is_bogus else KeySourceUnreachable)(unknown)
        return found


def parse_resolver(text: str) -> tuple[str, int]:
    """IP address and port of `127.0.0.1:53` or `[::1]:53`. Raises ValueError."""
    host, _, port = text.rpartition(":")
    address = ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    if (address.version == 6) != host.startswith("[") or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{text} is not IP:port")
    return str(address), int(port)


def _read_system(resolver: dns.asyncresolver.Resolver, file: Path) -> None:
    try:
        resolver.read_resolv_conf(file)
    except (dns.exception.DNSException, OSError, ValueError) as exc:
        raise KeySourceUnavailable(f"{file} names no name server that can be asked") from exc


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the DNS says of one kind of address."""

    addresses: tuple[IPAddress, ...] = ()
    failure: str = ""
    """Why nothing is known; empty where the addresses are all there are."""
    bogus: bool = False
    """A resolver said that the answer did not validate."""


async def _ask(
    resolver: dns.asyncresolver.Resolver, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> _Reply:
    try:
        answer = await resolver.resolve(name, kind)
    except dns.resolver.NXDOMAIN as exc:
        return _none(exc.kwargs["responses"].values())
    except dns.resolver.NoAnswer as exc:
        return _none([exc.kwargs["response"]])
    except dns.resolver.NoNameservers as exc:
        why = _rcodes(exc) or "the name server does not answer properly"
        return _Reply(failure=why, bogus=_is_bogus(exc))
    except dns.exception.Timeout:
        return _Reply(failure="the name server does not answer in time")
    except (dns.exception.DNSException, OSError, ValueError) as exc:
        return _Reply(failure=f"the name server cannot be asked ({type(exc).__name__})")
    return _Reply(tuple(ipaddress.ip_address(record.address) for record in answer)[:_MAX_ADDRESSES])


def _none(responses: Iterable[dns.message.Message]) -> _Reply:
    """None, if the server may say so: it is the zone's own, or one that asks on our behalf.

    Any other one only points elsewhere (a referral, RFC 1034 §4.3.1), which looks the same.
    """
    if all(response.flags & (dns.flags.AA | dns.flags.RA) for response in responses):
        return _Reply()
    return _Reply(failure="the name server does not resolve names")


def _rcodes(exc: dns.resolver.NoNameservers) -> str:
    """`SERVFAIL` or what else the servers said (RFC 1035 §4.1.1); errors of other kinds have no such word."""
    words = [error[3] for error in exc.kwargs.get("errors", ()) if isinstance(error[3], str)]
    return ", ".join(dict.fromkeys(words))[:100]


def _is_bogus(exc: dns.resolver.NoNameservers) -> bool:
    """Whether a server said that the answer did not validate (RFC 8914)."""
    answers = [error[4] for error in exc.kwargs.get("errors", ()) if error[4] is not None]
    return any(int(error.code) in _NOT_VALIDATED for answer in answers for error in answer.extended_errors())
