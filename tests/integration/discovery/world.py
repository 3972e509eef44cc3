"""The world outside of the relay: web key directories, signed zones, a key server, an LDAP directory.

All of it is real and on loopback. Web servers of strangers are found by name and only at port 443, so each
gets an address of its own in 127.0.0.0/8, which needs root.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from relay.server import users
from tests import dnssec, nginx, slapd
from tests.integration.conftest import LOGIN, Site
from tests.integration.discovery.people import Person, path_of
from tests.network import HOST, Authority, free_ports, make_authority
from tests.programs import unavailable
from tests.running import RunningRelay

WKD, MORTAL, DANE, VKS, LDAP = "wkd.test", "mortal.test", "dane.test", "vks.test", "ldap.test"
"""Domains, each named after the only place where the keys of its addresses are."""
NOWHERE = "nowhere.test"
"""Has no web server, no records and no entries; every source can say so."""
BROKEN = "broken.test"
"""Its zone cannot be loaded, so the DNS answers SERVFAIL."""

HTTPS_PORT = 443

_CONFIG = """\
hostname: relay.example.test
listen: [{{address: "{host}:{port}", tls: implicit}}]
tls: {{certificate: {own.certificate}, key: {own.key}}}
auth: {{type: users, users: {{file: {home}/users.passwd}}}}
next_hop: {{address: "{next_hop}"{next_hop_tls}}}
keys:
  folder: {{type: directory, path: {home}/keys}}
  wkd: {{type: wkd, ca_file: {ca_file}, allow_networks: ["{web_networks}"]}}
  dane: {{type: dane, resolver: "{host}:{dns.resolver_port}", signed_name: "test."}}
  vks: {{type: vks, url: "https://{host}:{vks.port}", ca_file: {ca_file}, allow_networks: ["127.0.0.0/8"]}}
  corp: {{type: ldap, url: "ldaps://localhost:{ldap.tls_port}", base: "{people}", ca_file: {ca_file}}}
  learned: {{type: autocrypt}}
{keys}
dns: {{resolver: "{host}:{dns_port}"}}
store: {store}
cache: {{{cache}}}
limits: {{{limits}}}
policy:
  default: {{encrypt: always, keys: [wkd]{default}}}
  domains:
    {DANE}: {{keys: [dane]}}
    {VKS}: {{keys: [vks]}}
    {LDAP}: {{keys: [corp]}}
{policy}
log: {{format: json, level: debug}}
"""


@contextmanager
def web_host(number: int, network: str) -> Iterator[str]:
    """An address of this machine whose https port is free."""
    address = f"{network}.{number}"
    with socket.socket() as probe:
        try:
            probe.bind((address, HTTPS_PORT))
        except PermissionError:
            unavailable("web key directories are at port 443, which needs root")
    yield address


def _own_networks() -> Iterator[str]:
    """Parts of loopback for this process alone, by the worker of pytest-xdist and by chance; none twice."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for number in random.sample(range(256), 256):
        yield f"127.{100 + worker % 100}.{number}"


_networks = _own_networks()


def own_network() -> str:
    """A part of loopback whose https ports nobody has: no other world of this process, no other tests."""
    return next(network for network in _networks if not _is_taken(f"{network}.1"))


def _is_taken(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, HTTPS_PORT)) == 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs between the relays of the tests; YAML text."""

    default: str = ""
    """More of `policy.default`: `key_change: refuse`."""
    policy: str = ""
    """More lines below `policy.domains`, indented by four."""
    cache: str = ""
    limits: str = ""
    store: str = ""
    """Empty: SQLite in the relay's folder."""
    keys: str = ""
    """More lines below `keys`, indented by two."""
    web_networks: str = "127.0.0.0/8"
    """Where the source `wkd` may connect to, although it is not public."""
    validates_names: bool = False
    """Whether the names of web servers are asked of the resolver that validates."""


@dataclass
class World:
    """The servers, and relays among them."""

    authority: Authority
    """Of the servers outside."""
    own: Authority
    """Of the relay and its next hop."""
    next_hop: tuple[str, str]
    """Its address, and settings for TLS."""
    web: nginx.Web
    """The directory of `WKD`."""
    vks: nginx.Web
    """The key server: an exact match or 404, which files can say as well."""
    dns: dnssec.Dns
    ldap: slapd.Slapd
    hosts: Mapping[str, str]
    """Addresses of the web servers, by domain."""
    found: Mapping[str, Person] = field(default_factory=dict)
    """Those whose keys were there when the servers were started, by domain."""

    def publish(self, *people: Person, web: nginx.Web | None = None) -> None:
        """Puts the certificates of one address into its directory, instead of what was there."""
        address = people[0].address
        content = b"".join(person.certificate for person in people)
        (web or self.web).put(_web_host(address), path_of(address), content)

    def unpublish(self, address: str) -> None:
        """Takes the certificates out of the directory."""
        (self.web.root(_web_host(address)) / path_of(address).lstrip("/")).unlink()

    def asked(self, address: str) -> int:
        """How many requests there were for an address of `WKD`."""
        return sum(path_of(address) in request for request in self.web.requests)

    @contextmanager
    def mortal_web(self, folder: Path) -> Iterator[nginx.Web]:
        """A directory for `MORTAL` that ends with the block; a second one may then take its place."""
        folder.mkdir(exist_ok=True)
        place = f"{self.hosts[MORTAL]}:{HTTPS_PORT}"
        with nginx.running(folder, self.authority, also=(place,)) as web:
            yield web

    def relay(self, home: Path, settings: Settings | None = None) -> Site:
        """A relay that is not started yet, with a login that may send as anybody at example.com."""
        home.mkdir(exist_ok=True)
        (home / "keys").mkdir(exist_ok=True)
        users.write(home / "users.passwd", *LOGIN, senders=("*@example.com",))
        [port] = free_ports(1)
        return Site(RunningRelay(home, self.config(home, port, settings)), self.own, port, 0)

    def config(self, home: Path, port: int, settings: Settings | None = None) -> str:
        """The text of relay.yaml."""
        chosen = settings or Settings()
        return _CONFIG.format(
            **{"host": HOST, "port": port, "home": home, "own": self.own, "people": slapd.PEOPLE},
            **{"DANE": DANE, "VKS": VKS, "LDAP": LDAP},
            next_hop=self.next_hop[0],
            next_hop_tls=self.next_hop[1],
            ca_file=self.authority.ca_file,
            dns=self.dns,
            vks=self.vks,
            ldap=self.ldap,
            store=chosen.store or f'{{url: "sqlite:///{home}/relay.db"}}',
            cache=chosen.cache,
            limits=chosen.limits,
            default=f", {chosen.default}" if chosen.default else "",
            policy=chosen.policy,
            keys=chosen.keys,
            web_networks=chosen.web_networks,
            dns_port=self.dns.resolver_port if chosen.validates_names else self.dns.authority_port,
        )


def _web_host(address: str) -> str:
    return f"openpgpkey.{address.rpartition('@')[2]}"


@contextmanager
def running(
    folder: Path, own: Authority, next_hop: tuple[str, str], people: Mapping[str, list[Person]]
) -> Iterator[World]:
    """Starts every server.

    Args:
        people: whose keys are there from the start, by domain.
    """
    for name in ("ca", "web", "vks"):
        (folder / name).mkdir()
    names = [f"openpgpkey.{domain}" for domain in (WKD, MORTAL)]
    authority = make_authority(folder / "ca", "localhost", HOST, *names)
    network = own_network()
    with ExitStack() as stack:
        hosts = {
            domain: stack.enter_context(web_host(number, network))
            for number, domain in enumerate((WKD, MORTAL), 1)
        }
        place = f"{hosts[WKD]}:{HTTPS_PORT}"
        web = stack.enter_context(nginx.running(folder / "web", authority, also=(place,)))
        vks = stack.enter_context(nginx.running(folder / "vks", authority))
        dns = stack.enter_context(dnssec.running(_zone(hosts, people.get(DANE, []))))
        ldap = stack.enter_context(slapd.running(authority, _entries(people.get(LDAP, []))))
        world = World(authority, own, next_hop, web, vks, dns, ldap, hosts)
        for person in people.get(WKD, []):
            world.publish(person)
        for person in people.get(VKS, []):
            vks.put(HOST, f"/vks/v1/by-email/{person.address}", person.certificate)
        world.found = {domain: some[0] for domain, some in people.items()}
        yield world


def _zone(hosts: Mapping[str, str], people: list[Person]) -> str:
    addresses = "".join(f"openpgpkey.{domain}. 60 A {address}\n" for domain, address in sorted(hosts.items()))
    return addresses + "".join(dnssec.openpgpkey(each.address, each.certificate) for each in people)


def _entries(people: list[Person]) -> str:
    entries = [
        slapd.person(each.address.partition("@")[0], each.address, each.certificate) for each in people
    ]
    return slapd.unit(slapd.PEOPLE) + "".join(entries)


def run_keys(site: Site, command: str, *arguments: str) -> str:
    """What `relay keys …` prints for the configuration of a relay, which may be running."""
    line = [sys.executable, "-m", "relay", "keys", command, "--config", str(site.relay.path), *arguments]
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout
