"""The situations of the matrix: what stands behind an address, and what a lookup there must come to.

Each has a domain of its own. The servers are real: one nginx for all web key directories and key servers,
signed zones, an LDAP directory. Silence is a socket that nobody reads.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from relay.keys import wkd
from relay.message import LookupResult
from tests import dnssec, nginx, slapd
from tests.integration.discovery.offers import (
    Offer,
    Offering,
    expired_key,
    key_of_somebody_else,
    oversized,
    own_key,
    revoked_and_new_key,
    revoked_key,
    two_keys,
    web_page,
)
from tests.integration.discovery.people import mailbox, path_of
from tests.integration.discovery.world import HTTPS_PORT, World, own_network, web_host
from tests.network import HOST, Authority, free_ports

USABLE, NONE = LookupResult.USABLE, LookupResult.NONE
UNUSABLE, UNAVAILABLE = LookupResult.UNUSABLE, LookupResult.UNAVAILABLE

WEB, SILENT, CLOSED = 1, 2, 3
"""Addresses in the network of the web servers: nginx, one who never answers, one where nobody listens."""

_MIRROR = "mirror.test"
"""An https host to which others redirect."""

_SOURCES = """\
  dane-away: {{type: dane, resolver: "{host}:{closed}", signed_name: "test."}}
  dane-blind: {{type: dane, resolver: "{host}:{dns.authority_port}", signed_name: "test."}}
  dane-astray: {{type: dane, resolver: "{host}:{dns.astray_port}", signed_name: "test."}}
  vks-limited: {{type: vks, url: "https://{host}:{vks.port}/limited", {web}}}
  vks-failing: {{type: vks, url: "https://{host}:{vks.port}/failing", {web}}}
  vks-private: {{type: vks, url: "https://{host}:{vks.port}", ca_file: {ca_file}}}
  vks-away: {{type: vks, url: "https://{host}:{closed}", {web}}}
  vks-impostor: {{type: vks, url: "https://{host}:{vks.port}", ca_file: {own_ca_file}, {networks}}}
  corp-away: {{type: ldap, url: "ldaps://localhost:{closed}", base: "{people}", ca_file: {ca_file}}}
  lax: {{type: wkd, {web}, unreachable_means: none}}
"""


@dataclass(frozen=True, slots=True)
class Situation:
    """A domain, what is there, and what comes of it.

    Attributes:
        name: the domain without `.test`.
        result: of the lookup; it decides what happens under each policy.
        why: what the explanation says of it, and the reply where the key is at fault.
        has: what there is for the address.
        host: address of the web server: an address, or the last number of one; None: the DNS has none.
        label: of the web server's name, before the domain.
        nginx: directives for that host.
        certificate: of that host, where it is not a good one.
        at: the host that has the file, where it is another one.
    """

    name: str
    result: LookupResult
    why: str
    has: Offering | None = None
    source: str = "wkd"
    host: int | str | None = None
    label: str = "openpgpkey."
    nginx: str = ""
    certificate: str = ""
    at: str = ""

    @property
    def domain(self) -> str:
        return f"{self.name}.test"

    @property
    def address(self) -> str:
        return f"bob@{self.domain}"

    @property
    def web_host(self) -> str:
        """The name of the web server."""
        return f"{self.label}{self.domain}"


def _web(
    name: str, result: LookupResult, why: str, has: Offering | None = None, nginx: str = ""
) -> Situation:
    """A web key directory that nginx serves."""
    return Situation(name, result, why, has, host=WEB, nginx=nginx)


def _redirect(
    name: str, target: str, result: LookupResult, why: str, has: Offering | None = None
) -> Situation:
    """A web key directory that points elsewhere; the mirror has what there is."""
    return Situation(name, result, why, has, host=WEB, nginx=f"return 302 {target};", at=_MIRROR)


def _tls(certificate: str, why: str) -> Situation:
    """A web key directory that cannot prove its name, or no longer."""
    return Situation(certificate, UNAVAILABLE, why, own_key, host=WEB, certificate=certificate)


_FOUND, _NO_KEY = "1 certificate", "no certificate"
_EXPIRED, _REVOKED = "expired on 2025-01-01", "revoked on 2025-01-02"
_SOMEBODY_ELSE = "has no User ID"
_SILENCE = "cannot be asked: no answer "
_NOT_PUBLIC = "which is not public; allow_networks can permit it"
_NOT_TRUSTED = "has a TLS certificate that was not accepted"

WKD_KEYS = (
    _web("found", USABLE, _FOUND, own_key),
    Situation("direct", USABLE, _FOUND, own_key, host=WEB, label=""),
    _redirect("redirected", f"https://{_MIRROR}$request_uri", USABLE, _FOUND, own_key),
    _web("two-keys", USABLE, "2 certificates", two_keys),
    _web("key-replaced", USABLE, "2 certificates", revoked_and_new_key),
    _web("somebody-else", UNUSABLE, _SOMEBODY_ELSE, key_of_somebody_else),
    _web("expired", UNUSABLE, _EXPIRED, expired_key),
    _web("revoked", UNUSABLE, _REVOKED, revoked_key),
    _web("web-page", UNUSABLE, "is damaged", web_page),
)

WKD_NAMES = (
    Situation("no-host", NONE, _NO_KEY),
    Situation("lost.broken", UNAVAILABLE, "is not known: SERVFAIL", host=WEB),
    Situation("forged.bogus", UNAVAILABLE, "is not known: SERVFAIL", own_key, host=WEB),
    Situation("private", UNAVAILABLE, _NOT_PUBLIC, host="10.0.0.1"),
    Situation("metadata", UNAVAILABLE, _NOT_PUBLIC, host="169.254.169.254"),
)

WKD_CONNECTIONS = (
    Situation("closed", UNAVAILABLE, "cannot be reached", host=CLOSED),
    Situation("silent", UNAVAILABLE, _SILENCE, host=SILENT),
    _web("dripping", UNAVAILABLE, _SILENCE, own_key, "limit_rate 1;"),
    _web("hangs-up", UNAVAILABLE, "does not answer properly", own_key, "return 444;"),
    _tls("other-name", _NOT_TRUSTED),
    _tls("other-authority", _NOT_TRUSTED),
    _tls("outdated", f"{_NOT_TRUSTED}: certificate has expired"),
)

WKD_ANSWERS = (
    _web("s404", NONE, _NO_KEY),
    _web("s410", NONE, _NO_KEY, nginx="return 410;"),
    _web("s401", UNAVAILABLE, "it answered 401", own_key, "return 401;"),
    _web("s403", UNAVAILABLE, "it answered 403", own_key, "return 403;"),
    _web("s429", UNAVAILABLE, "it answered 429", own_key, "return 429;"),
    _web("s500", UNAVAILABLE, "it answered 500", own_key, "return 500;"),
    _web("s503", UNAVAILABLE, "it answered 503", own_key, "return 503;"),
    _web("oversized", UNAVAILABLE, "its answer is larger than 1048576 bytes", oversized),
    _web("compressed", UNAVAILABLE, "compressed", own_key, "add_header Content-Encoding gzip;"),
)

WKD_REDIRECTS = (
    _redirect("to-http", f"http://{_MIRROR}$request_uri", UNAVAILABLE, "not followed: it is not https"),
    _redirect("to-private", "https://10.0.0.1$request_uri", UNAVAILABLE, f"10.0.0.1, {_NOT_PUBLIC}"),
    _redirect("to-metadata", "https://169.254.169.254/", UNAVAILABLE, f"169.254.169.254, {_NOT_PUBLIC}"),
    _redirect("to-this-host", "https://127.0.0.1$request_uri", UNAVAILABLE, f"127.0.0.1, {_NOT_PUBLIC}"),
    _redirect("to-inside", "https://openpgpkey.private.test/", UNAVAILABLE, f"10.0.0.1, {_NOT_PUBLIC}"),
    _redirect("to-port", f"https://{_MIRROR}:8443/", UNAVAILABLE, "it leads to port 8443; only 443 is asked"),
    _redirect("to-nowhere", "https://no-host.test/", UNAVAILABLE, "no-host.test, which has no address"),
    _redirect("in-circles", "https://$host$request_uri", UNAVAILABLE, "it redirects more than 5 times"),
    _redirect("to-nothing", f"https://{_MIRROR}/nothing", NONE, _NO_KEY),
)

DANE = (
    Situation("dane-found", USABLE, _FOUND, own_key, "dane"),
    Situation("dane-none", NONE, _NO_KEY, None, "dane"),
    Situation("unsigned.insecure", NONE, _NO_KEY, own_key, "dane"),
    Situation("records.bogus", UNAVAILABLE, "distrusted: ", own_key, "dane"),
    Situation("records.broken", UNAVAILABLE, "SERVFAIL", None, "dane"),
    Situation("dane-away", UNAVAILABLE, "cannot be asked: ", own_key, "dane-away"),
    Situation("dane-blind", UNAVAILABLE, "it does not validate DNSSEC", own_key, "dane-blind"),
    Situation("dane-astray", UNAVAILABLE, "distrusted: ", own_key, "dane-astray"),
    Situation("dane-somebody-else", UNUSABLE, _SOMEBODY_ELSE, key_of_somebody_else, "dane"),
    Situation("dane-expired", UNUSABLE, _EXPIRED, expired_key, "dane"),
    Situation("dane-damaged", UNUSABLE, "is damaged", web_page, "dane"),
)

VKS = (
    Situation("vks-found", USABLE, _FOUND, own_key, "vks"),
    Situation("vks-s404", NONE, _NO_KEY, None, "vks"),
    Situation("vks-s429", UNAVAILABLE, "it answered 429", own_key, "vks-limited"),
    Situation("vks-s500", UNAVAILABLE, "it answered 500", own_key, "vks-failing"),
    Situation("vks-away", UNAVAILABLE, "cannot be asked: ", own_key, "vks-away"),
    Situation("vks-private", UNAVAILABLE, _NOT_PUBLIC, own_key, "vks-private"),
    Situation("vks-impostor", UNAVAILABLE, _NOT_TRUSTED, own_key, "vks-impostor"),
    Situation("vks-web-page", UNAVAILABLE, "is not a readable OpenPGP certificate", web_page, "vks"),
    Situation("vks-somebody-else", UNUSABLE, _SOMEBODY_ELSE, key_of_somebody_else, "vks"),
    Situation("vks-expired", UNUSABLE, _EXPIRED, expired_key, "vks"),
)

LDAP = (
    Situation("ldap-found", USABLE, _FOUND, own_key, "corp"),
    Situation("ldap-none", NONE, _NO_KEY, None, "corp"),
    Situation("ldap-away", UNAVAILABLE, "cannot be asked: ", own_key, "corp-away"),
)

MOODY = _web("moody", USABLE, _FOUND, nginx="if (-f $document_root/down) { return 503; }")
"""A directory that fails while it is told to; none of the matrix."""

SITUATIONS = (*WKD_KEYS, *WKD_NAMES, *WKD_CONNECTIONS, *WKD_ANSWERS, *WKD_REDIRECTS, *DANE, *VKS, *LDAP)


_STAGED = (*SITUATIONS, MOODY)


@dataclass(frozen=True, slots=True)
class Stage:
    """The world with every situation in it."""

    world: World
    network: str
    """The first three numbers of the web servers' addresses."""
    offers: Mapping[str, Offer]
    """By name of the situation."""

    @property
    def web_networks(self) -> str:
        """What the relay may connect to."""
        return f"{self.network}.0/24"

    @property
    def sources(self) -> str:
        """Those beside the usual ones: lines below `keys`."""
        world, web = self.world, 'allow_networks: ["127.0.0.0/8"]'
        return _SOURCES.format(
            **{"host": HOST, "people": slapd.PEOPLE, "network": self.network, "networks": web},
            **{"dns": world.dns, "vks": world.vks, "ca_file": world.authority.ca_file},
            web=f"ca_file: {world.authority.ca_file}, {web}",
            own_ca_file=world.own.ca_file,
            closed=free_ports(1)[0],
        )

    def fail(self) -> None:
        """From now on the directory of `MOODY` answers 503."""
        self.world.web.put(MOODY.web_host, "down", b"")

    def recover(self) -> None:
        """It serves what it has."""
        (self.world.web.root(MOODY.web_host) / "down").unlink(missing_ok=True)


@contextmanager
def running(folder: Path, own: Authority, next_hop: tuple[str, str]) -> Iterator[Stage]:
    """Starts the servers and gives them what they have for each situation."""
    network = own_network()
    offers = {each.name: each.has(each.address) for each in SITUATIONS if each.has}
    certificates = _certificates(folder)
    usual = certificates[""]
    with ExitStack() as stack:
        web_address, silent_address = (
            stack.enter_context(web_host(number, network)) for number in (WEB, SILENT)
        )
        stack.enter_context(_silence(silent_address))
        place = f"{web_address}:{HTTPS_PORT}"
        web = stack.enter_context(
            nginx.running(_made(folder / "web"), usual, _behaviours(certificates), also=(place,))
        )
        vks = stack.enter_context(nginx.running(_made(folder / "vks"), usual, {HOST: _VKS_BEHAVIOUR}))
        dns = stack.enter_context(dnssec.running(**_zones(network, offers)))
        ldap = stack.enter_context(slapd.running(usual, _entries(offers)))
        world = World(usual, own, next_hop, web, vks, dns, ldap, {})
        _put_files(world, offers)
        yield Stage(world, network, offers)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def _silence(address: str) -> Iterator[None]:
    """The kernel takes connections; nobody reads or answers."""
    with socket.create_server((address, HTTPS_PORT)):
        yield


# --------------------------------------------------------------------------- TLS


def _certificates(folder: Path) -> Mapping[str, Authority]:
    """By `Situation.certificate`."""
    authority, other = trustme.CA(), trustme.CA()
    hosts = [each.web_host for each in _STAGED if each.host is not None]
    past = datetime(2025, 1, 1, tzinfo=UTC)
    made = {
        "": authority.issue_cert("localhost", HOST, _MIRROR, *hosts),
        "other-name": authority.issue_cert("somebody-else.test"),
        "other-authority": other.issue_cert(*hosts),
        "outdated": authority.issue_cert(*hosts, not_before=past, not_after=past + timedelta(days=90)),
    }
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return {name: _written(folder, ca_file, name, leaf) for name, leaf in made.items()}


def _written(folder: Path, ca_file: Path, name: str, leaf: trustme.LeafCert) -> Authority:
    place = Authority(ca_file, folder / f"server-{name}.pem", folder / f"server-{name}.key")
    place.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(place.key))
    return place


# --------------------------------------------------------------------------- web servers

_VKS_BEHAVIOUR = "location /limited { return 429; } location /failing { return 500; }"


def _behaviours(certificates: Mapping[str, Authority]) -> dict[str, str]:
    """What nginx does for each host that is not an ordinary one."""
    return {
        each.web_host: each.nginx + _certificate_of(each, certificates)
        for each in _STAGED
        if each.nginx or each.certificate
    }


def _certificate_of(situation: Situation, certificates: Mapping[str, Authority]) -> str:
    if not situation.certificate:
        return ""
    its = certificates[situation.certificate]
    return f"ssl_certificate {its.certificate}; ssl_certificate_key {its.key};"


def _put_files(world: World, offers: Mapping[str, Offer]) -> None:
    for each in _STAGED:
        if each.has and each.host is not None:
            path = wkd.direct_path(mailbox(each.address)) if not each.label else path_of(each.address)
            world.web.put(each.at or each.web_host, path, offers[each.name].octets)
        elif each.has and each.source.startswith("vks"):
            world.vks.put(HOST, f"/vks/v1/by-email/{each.address}", offers[each.name].octets)


# --------------------------------------------------------------------------- zones and entries


def _zones(network: str, offers: Mapping[str, Offer]) -> dict[str, str]:
    """The lines of each zone, by the keyword of `dnssec.running`."""
    lines = {"lines": f"{_MIRROR}. 60 A {network}.{WEB}\n", "insecure": "", "bogus": "", "broken": ""}
    for each in _STAGED:
        parent = each.name.rpartition(".")[2]
        zone = parent if parent in lines else "lines"
        if each.host is not None:
            address = f"{network}.{each.host}" if isinstance(each.host, int) else each.host
            lines[zone] += f"{each.web_host}. 60 A {address}\n"
        elif each.has and each.source.startswith("dane"):
            lines[zone] += dnssec.openpgpkey(each.address, offers[each.name].octets)
    del lines["broken"]  # no server has that zone
    return lines


def _entries(offers: Mapping[str, Offer]) -> str:
    people = [
        slapd.person(each.name, each.address, offers[each.name].octets)
        for each in _STAGED
        if each.has and each.source.startswith("corp")
    ]
    return slapd.unit(slapd.PEOPLE) + "".join(people)
