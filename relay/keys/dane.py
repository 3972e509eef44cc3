"""The key source `dane`: OPENPGPKEY records in the DNS (RFC 7929), as a validating resolver vouches for them.

The relay does not validate DNSSEC itself. It asks one resolver that does, over TCP and on a path that nobody
else can write to (loopback, unless the configuration says otherwise), and believes its AD bit (RFC 4035
§3.2.3). So a resolver that does not validate would make every zone look unsigned, and every address look as
if it had no key. Therefore an answer without AD means "unsigned" only after the resolver, asked at that
moment, has shown AD for a name that is known to be signed; otherwise the source is unavailable.

What the states of RFC 4035 §4.3 become (RFC 7929 §5, §7.1): Secure is an answer; Insecure is "no key"; Bogus
reaches us as SERVFAIL, as does everything that the resolver could not find out, and is never "no key".
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import unicodedata
from collections.abc import Iterable, Iterator

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from relay.address import user_id_key
from relay.errors import KeySourceDistrusted, KeySourceUnavailable
from relay.keys.answers import MAX_CERTIFICATES
from relay.keys.unreadable import stand_in
from relay.message import Address, Certificate, Discovered
from relay.mime import packets

_LABEL_OCTETS = 28
"""Of the hash of the local part (RFC 7929 §3); 56 characters, because a label has at most 63."""

_MAX_NONE_SECONDS = 10_800
"""How long "no key" may be kept, whatever the SOA says: the most that RFC 2308 §5 finds sensible."""

_MIN_NONE_SECONDS = 30
"""How long it is kept at least: not every message may cost a question that others can watch (RFC 7929 §5.1),
whatever the owner of the zone wants. A key is kept for its TTL and no longer (§7.1), even if that is 0."""

_UNREACHABLE = frozenset({dns.edns.EDECode.NO_REACHABLE_AUTHORITY, dns.edns.EDECode.NETWORK_ERROR})
"""Extended errors of a SERVFAIL that was no failed validation (RFC 8914 §4.23, §4.24)."""

_MAX_DETAIL_CHARS = 200


class DaneKeys:
    """Asks the DNS (`relay.seams.KeyDiscovery`). It keeps no connection and no state.

    Args:
        name: as in the configuration.
        resolver_host: IP address (anything else raises ValueError) of a resolver that validates, on a path
            that cannot be tampered with.
        signed_name: a name whose zone is signed, to prove that the resolver validates.
        timeout_seconds: for one address, all questions together.
    """

    def __init__(
        self,
        name: str,
        resolver_host: str,
        resolver_port: int,
        *,
        signed_name: str = ".",
        timeout_seconds: float = 8.0,
    ) -> None:
        self.name = name
        self._host = str(ipaddress.ip_address(resolver_host))
        self._port = resolver_port
        self._signed_name = dns.name.from_text(signed_name)
        self._timeout_seconds = timeout_seconds

    def cache_key(self, address: Address) -> str:
        """The address as it is hashed: letter case kept (RFC 7929 §4), normalised."""
        return f"{_normalised(address)}@{address.domain}"

    async def discover(self, address: Address) -> Discovered:
        """The certificates in the OPENPGPKEY records of the address, unless their zone is not signed.

        Raises:
            KeySourceDistrusted: the resolver failed, which is how it reports records that do not validate.
            KeySourceUnavailable: it could not be asked, answers nonsense, or does not validate.
        """
        owner = owner_name(address)
        if owner is None:
            return Discovered()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._discover(owner, address)
        except TimeoutError as exc:
            raise self._unavailable(f"no answer in {self._timeout_seconds:g} seconds") from exc

    async def discover_fingerprint(self, fingerprint: str) -> Discovered:
        """Nothing: the DNS knows addresses only."""
        return Discovered()

    async def close(self) -> None:
        """Nothing is open between two questions."""

    async def _discover(self, owner: dns.name.Name, address: Address) -> Discovered:
        response = await self._ask(owner, dns.rdatatype.OPENPGPKEY)
        try:
            found = await asyncio.to_thread(read_answer, response, address, self.name)
        except dns.exception.DNSException as exc:
            raise self._unavailable(f"contradictory answer: {exc}") from exc
        if not response.flags & dns.flags.AD:
            await self._require_validation()
        if len(found.certificates) > MAX_CERTIFICATES:
            raise self._unavailable(f"more than {MAX_CERTIFICATES} records for one address")
        return found

    async def _require_validation(self) -> None:
        """Raises KeySourceUnavailable unless the resolver shows AD for the name that is signed."""
        response = await self._ask(self._signed_name, dns.rdatatype.SOA)
        if response.rcode() != dns.rcode.NOERROR or not response.flags & dns.flags.AD:
            raise self._unavailable(
                f"it does not validate DNSSEC: {self._signed_name} is signed, but was answered without AD"
            )

    async def _ask(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.message.QueryMessage:
        """One question over TCP (RFC 7929 §6) and its answer, which exists or does not, for certain."""
        # DO asks for AD in the answer (RFC 6840 §5.8). AD in the question would do so too, but a resolver
        # that copies the flags of the question into its answer would then seem to validate everything.
        query = dns.message.make_query(name, rdtype, want_dnssec=True, flags=dns.flags.RD)
        try:
            response = await dns.asyncquery.tcp(
                query, self._host, timeout=self._timeout_seconds, port=self._port
            )
        except dns.exception.Timeout as exc:
            raise TimeoutError from exc
        except (OSError, EOFError, dns.exception.DNSException) as exc:
            raise self._unavailable(str(exc) or type(exc).__name__) from exc
        self._check(response)
        assert isinstance(response, dns.message.QueryMessage)  # the opcode is that of the question
        return response

    def _check(self, response: dns.message.Message) -> None:
        """Raises what `discover` does for every answer that tells neither records nor their absence."""
        rcode = response.rcode()
        if rcode == dns.rcode.SERVFAIL:
            raise self._failed(response)
        if rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise self._unavailable(f"it answered {dns.rcode.to_text(rcode)}")
        if response.flags & dns.flags.TC or not response.question:
            raise self._unavailable("its answer is not complete")

    def _failed(self, response: dns.message.Message) -> KeySourceUnavailable:
        """What SERVFAIL means: without a word to the contrary, Bogus (RFC 4035 §5.5)."""
        codes = {error.code for error in response.extended_errors()}
        named = f" (extended error {', '.join(map(str, sorted(map(int, codes))))})" if codes else ""
        if codes and codes <= _UNREACHABLE:
            return self._unavailable(f"it cannot reach the zone's servers{named}")
        return KeySourceDistrusted(
            f"resolver {self._host}:{self._port}: SERVFAIL{named}: DNSSEC is bogus or the zone's servers fail"
        )

    def _unavailable(self, why: str) -> KeySourceUnavailable:
        clean = "".join(char if char.isprintable() and char.isascii() else "?" for char in why)
        return KeySourceUnavailable(f"resolver {self._host}:{self._port}: {clean[:_MAX_DETAIL_CHARS]}")


# --------------------------------------------------------------------------- names


def owner_name(address: Address) -> dns.name.Name | None:
    """Where the records of an address stand (RFC 7929 §3); None if no such name can exist."""
    if address.domain.startswith("["):
        return None
    label = hashlib.sha256(_normalised(address).encode()).digest()[:_LABEL_OCTETS].hex()
    try:
        return dns.name.from_text(f"{label}._openpgpkey.{address.domain}.")
    except dns.name.NameTooLong:  # such a domain has no room for records of its addresses
        return None


def _normalised(address: Address) -> str:
    """The local part in NFC (RFC 7929 §3 step 3). Nothing else is done to it: §4 forbids it."""
    return unicodedata.normalize("NFC", address.local)


# --------------------------------------------------------------------------- answers


def read_answer(response: dns.message.QueryMessage, address: Address, source: str) -> Discovered:
    """What an answer says, if it is to be believed: nothing without AD (RFC 7929 §5).

    CNAME and DNAME are followed inside the answer; the judge demands that a certificate names the original
    address (RFC 7929 §5.3).

    Raises:
        DNSException: the parts of the answer contradict each other.
    """
    chain = response.resolve_chaining()
    if chain.answer is None or not response.flags & dns.flags.AD:
        seconds = min(max(chain.minimum_ttl, _MIN_NONE_SECONDS), _MAX_NONE_SECONDS)
        return Discovered(max_age_seconds=seconds)
    found = [read_record(record.key, source) for record in chain.answer]
    return Discovered(tuple(_without_patterns(found, address)), chain.minimum_ttl)


def read_record(data: bytes, source: str) -> Certificate:
    """The certificate in the data of one record, binary and alone (RFC 7929 §2.1, §2.2).

    For anything else stands a certificate that the judge calls damaged: an address with such a record is not
    one without.
    """
    try:
        (certificate,) = packets.certificates(data, source)
    except ValueError:  # Malformed, or more certificates than one
        return stand_in(source)
    return certificate


def _without_patterns(found: Iterable[Certificate], address: Address) -> Iterator[Certificate]:
    """Those without a pattern for a User ID: RFC 7929 §5.3 wants records with patterns ignored.

    It allows `*@example.com` for every address of the domain. Such a record is not ignored, but the judge
    does not let it stand for an address, which is stricter: nobody else would see that it is meant.
    """
    for certificate in found:
        if not any(_is_pattern(user_id, address) for user_id in certificate.user_ids):
            yield certificate


def _is_pattern(user_id: str, address: Address) -> bool:
    """Whether a User ID has a wildcard where none may be; `*` is also a letter of local parts."""
    if "*" not in user_id or user_id_key(user_id) == address.key:
        return False
    mailbox = user_id.rpartition("<")[2].partition(">")[0]
    local, _, domain = mailbox.strip().rpartition("@")
    return "*" in domain or ("*" in local and local != "*")
