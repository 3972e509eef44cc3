"""A storm: sources of keys are killed and frozen at random while clients send mail through two relays.

What was sent, what was answered, what arrived, and who was away meanwhile; the claims about it stand in
`test_chaos.py`.
"""

from __future__ import annotations

import os
import re
import signal
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event

from argon2 import PasswordHasher

from tests import clients, postgres
from tests.integration.conftest import LOGIN, Site
from tests.integration.discovery import world as worlds
from tests.integration.discovery.people import Person, letter, path_of, person
from tests.integration.discovery.world import Settings, World
from tests.network import HOST, Authority, wait_for_port
from tests.postfix import Delivered, Postfix

_SECONDS = 11.0
"""How long the storm lasts."""
_CLIENTS = 10
_KNOWN_SECONDS = 1.6
"""What was said longer ago counts no more: `keep_none` with its spread, and a slow machine."""
_SHORT_SECONDS, _LONG_SECONDS = (0.2, 1.0), (_KNOWN_SECONDS + 0.1, 2.6)
"""How long a server is away."""
_UP_SECONDS = 0.4, 1.0
"""How long the others of its group wait for their turn."""
_CALM_SECONDS = 20.0
"""By then mail flows again. After a failure a source is left alone, after the next one twice as long."""

_EVERY_SOURCE = ("wkd", "dane", "vks", "corp")
_LAST_WORD = {"wkd": "nginx", "dane": "unbound", "vks": "vks", "corp": "slapd"}
"""Who answers for a source. Not knot: a query may have asked it for the web server long before."""
STORES = {"lite": set[str](), "post": {"postgres"}}
"""The relays, and which servers their stores need."""

_CACHE = "keep: 1s, keep_none: 1s, retry_failed: 1s, stale_if_error: {}"


# --------------------------------------------------------------------------- who is written to


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom the clients write to."""

    address: str
    encrypt: str
    sources: tuple[str, ...]
    """Of the rule, in its order."""
    keys: tuple[Person, ...] = ()
    """All that a source ever gives. The first one is there at the start."""

    @property
    def policy(self) -> str:
        """The line below `policy.addresses`."""
        return f"    {self.address}: {{encrypt: {self.encrypt}, keys: [{', '.join(self.sources)}]}}\n"


def _always(key: Person, *sources: str) -> Recipient:
    return Recipient(key.address, "always", sources, (key,))


def _maybe(key: Person) -> Recipient:
    return Recipient(key.address, "when-possible", _EVERY_SOURCE, (key,))


def _fickle(key: Person, encrypt: str, *sources: str) -> Recipient:
    return Recipient(key.address, encrypt, sources, (key, key.with_new_key()))


@dataclass(frozen=True, slots=True)
class Cast:
    """Every recipient."""

    steady: tuple[Recipient, ...]
    """Their key is always in its source."""
    swapped: Recipient
    """Other keys come and go in place of theirs; at the end there is another one."""
    removed: Recipient
    """As before; at the end there is none."""
    unsteady: Recipient
    """As before, and nobody knows which of the keys is seen first."""
    keyless: Recipient
    strict: Recipient
    """Has no key either, under `always`."""

    @property
    def fickle(self) -> tuple[Recipient, ...]:
        return self.swapped, self.removed, self.unsteady

    @property
    def everybody(self) -> tuple[Recipient, ...]:
        return *self.steady, *self.fickle, self.keyless, self.strict

    def named(self, address: str) -> Recipient:
        return next(each for each in self.everybody if each.address == address)


def _make_cast() -> Cast:
    domains = {"wkd": worlds.WKD, "dane": worlds.DANE, "vks": worlds.VKS, "corp": worlds.LDAP}
    always = [_always(person(f"always@{domain}"), source) for source, domain in domains.items()]
    maybe = [_maybe(person(f"maybe@{domain}")) for domain in domains.values()]
    return Cast(
        # Of the last one the key server has another key: it must not be used while the directory is away.
        (*always, *maybe, _fickle(person(f"twice@{worlds.WKD}"), "always", "wkd", "vks")),
        swapped=_fickle(person(f"swapped@{worlds.WKD}"), "when-possible", *_EVERY_SOURCE),
        removed=_fickle(person(f"removed@{worlds.VKS}"), "when-possible", *_EVERY_SOURCE),
        unsteady=_fickle(person(f"unsteady@{worlds.WKD}"), "always", "wkd"),
        keyless=Recipient(f"nobody@{worlds.WKD}", "when-possible", _EVERY_SOURCE),
        strict=Recipient(f"strict@{worlds.WKD}", "always", _EVERY_SOURCE),
    )


def _give(world: World, address: str, key: Person | None) -> None:
    """What the source has for the address from now on; not in one step, as with many a real publisher."""
    if address.endswith(worlds.WKD):
        file = world.web.root(f"openpgpkey.{worlds.WKD}") / path_of(address).lstrip("/")
    else:
        file = world.vks.root(HOST) / "vks/v1/by-email" / address
    if key is None:
        file.unlink(missing_ok=True)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(key.certificate)


# --------------------------------------------------------------------------- what was sent


@dataclass(frozen=True, slots=True)
class Letter:
    """One submission."""

    relay: str
    recipients: tuple[str, ...]
    content: bytes
    marker: bytes
    """Random, and part of the text."""
    began: float
    ended: float
    outcome: clients.Outcome | None
    """None: the relay was gone, so nobody knows."""

    @property
    def number(self) -> int:
        return number_of(self.content)

    @property
    def is_accepted(self) -> bool:
        return self.outcome is not None and self.outcome.is_accepted

    @property
    def is_deferred(self) -> bool:
        """Whether anything was answered 451, and nothing was accepted."""
        return not self.is_accepted and any(answer.code == 451 for answer in self.answers)

    @property
    def answers(self) -> list[clients.Answer]:
        return [answer for _, answer in self.outcome.answers] if self.outcome else []

    def to(self, address: str) -> clients.Answer | None:
        """The reply to this RCPT."""
        found = self.outcome.to(f"RCPT TO:<{address}>") if self.outcome else []
        return found[0] if found else None

    @property
    def reached(self) -> tuple[str, ...]:
        """Whom the relay promised to reach."""
        replies = {address: self.to(address) for address in self.recipients}
        return tuple(
            each for each, reply in replies.items() if self.is_accepted and reply and reply.code == 250
        )


def number_of(content: bytes) -> int:
    found = re.search(rb"Message-ID: <(\d+)@", content)
    assert found is not None, content
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Office:
    """Sends letters through the relays and keeps what was answered."""

    relays: dict[str, Site]
    letters: list[Letter] = field(default_factory=list)

    def send(self, relay: str, *recipients: str, named: int = 100) -> Letter:
        """One letter, of whose recipients the first ones stand in To."""
        marker = os.urandom(16).hex()
        content, began = letter(*recipients[:named], text=marker), time.monotonic()
        outcome = _submitted(self.relays[relay], content, recipients)
        sent = Letter(relay, recipients, content, marker.encode(), began, time.monotonic(), outcome)
        self.letters.append(sent)
        return sent

    def insist(self, relay: str, address: str, wanted: Callable[[clients.Answer], bool]) -> Letter:
        """Sends until the reply is as it is wanted, or until it should have been."""
        deadline = time.monotonic() + _CALM_SECONDS
        while True:
            sent = self.send(relay, address)
            reply = sent.to(address)
            if (reply and wanted(reply)) or time.monotonic() > deadline:
                return sent


def _submitted(site: Site, content: bytes, recipients: tuple[str, ...]) -> clients.Outcome | None:
    try:
        return site.submit(content, *recipients)
    except (OSError, smtplib.SMTPException):
        return None


# --------------------------------------------------------------------------- what is killed


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a server was certainly away."""

    server: str
    began: float
    ended: float


@dataclass
class Program:
    """A server that ends at once, or stops for a while, and goes on as it was."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @contextmanager
    def killed(self) -> Iterator[None]:
        self.end()
        yield
        self.process = subprocess.Popen(
            self.process.args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        yield
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True, slots=True)
class Database:
    """The PostgreSQL behind one of the relays."""

    server: postgres.Postgres
    name: str = "postgres"

    @contextmanager
    def killed(self) -> Iterator[None]:
        self.server.stop(at_once=True)
        yield
        self.server.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Unlike `Postgres.frozen`, with connections that come and go: a child may end at any moment."""
        postmaster = (self.server.folder / "data" / "postmaster.pid").read_text("utf-8").split()[0]
        os.kill(int(postmaster), signal.SIGSTOP)
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text("ascii").split()
        _signal(children, signal.SIGSTOP)
        yield
        _signal([*children, postmaster], signal.SIGCONT)


def _signal(pids: list[str], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(int(pid), number)


# --------------------------------------------------------------------------- the storm


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that runs, and what happened."""

    seed: int
    world: World
    cast: Cast
    office: Office
    groups: tuple[tuple[Program | Database, ...], ...]
    """Of each group one server is away at a time."""
    outages: list[Outage] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    """Of relays that were killed."""
    calm: dict[tuple[str, str], Letter] = field(default_factory=dict)
    """The last letter after the storm, by relay and address."""

    def chance(self, *names: object) -> Random:
        """A source of chance that depends on the seed and the names only."""
        return Random(f"{self.seed} {names}")


def _strike(scene: Scene, group: tuple[Program | Database, ...], over: Event) -> None:
    """Takes one server after the other away, each before one has its second turn."""
    chance = scene.chance("strike", *(each.name for each in group))
    while not over.is_set():
        for server in chance.sample(group, len(group)):
            with chance.choice([server.killed, server.killed, server.frozen])():
                began = time.monotonic()
                over.wait(chance.uniform(*chance.choice([_SHORT_SECONDS, _LONG_SECONDS, _LONG_SECONDS])))
                _probe(scene, server.name, chance)
                scene.outages.append(Outage(server.name, began, time.monotonic()))
            if over.wait(chance.uniform(*_UP_SECONDS)):
                return


def _probe(scene: Scene, server: str, chance: Random) -> None:
    """A letter that would leave in clear, through a relay that would have to ask the server that is away."""
    relay = "post" if server == "postgres" else chance.choice(list(STORES))
    scene.office.send(relay, scene.cast.keyless.address)


def _publish(scene: Scene, over: Event) -> None:
    """Puts another key, none, or the right one in the place of a key."""
    chance = scene.chance("publish")
    while not over.wait(chance.uniform(0.1, 0.6)):
        fickle = chance.choice(scene.cast.fickle)
        _give(scene.world, fickle.address, chance.choice([*fickle.keys, None]))


def _write(scene: Scene, number: int, over: Event) -> None:
    """Sends letters, most of them to whoever could get theirs in clear, and some of these to others too."""
    chance, keyless = scene.chance("write", number), scene.cast.keyless.address
    addresses = [each.address for each in scene.cast.everybody if each.address != keyless]
    while not over.is_set():
        chosen = chance.sample([keyless, *chance.sample(addresses, 2)], chance.randint(1, 3))
        sent = scene.office.send(chance.choice(list(STORES)), *chosen, named=chance.randint(1, 3))
        if sent.outcome is None:
            over.wait(0.1)


def break_loose(scene: Scene) -> None:
    over = Event()
    with ThreadPoolExecutor(20) as threads:
        tasks = [threads.submit(_strike, scene, group, over) for group in scene.groups]
        tasks += [threads.submit(_write, scene, number, over) for number in range(_CLIENTS)]
        tasks += [threads.submit(_publish, scene, over)]
        try:
            over.wait(_SECONDS / 2)
            _crash(scene, "lite")
            over.wait(_SECONDS / 4)
            for site in scene.office.relays.values():
                site.relay.process.send_signal(signal.SIGHUP)
            over.wait(_SECONDS / 4)
        finally:
            over.set()
    for task in tasks:
        task.result()


def _crash(scene: Scene, name: str) -> None:
    """The relay dies with everything that it is doing, and starts again."""
    relay = scene.office.relays[name].relay
    relay.process.kill()
    relay.process.wait()
    scene.logs.append(relay.log)
    relay.__enter__()


def calm(scene: Scene) -> None:
    """Every server is there again; sends to everybody until it is as it should be."""
    cast = scene.cast
    _give(scene.world, cast.swapped.address, cast.swapped.keys[1])
    _give(scene.world, cast.removed.address, None)
    wanted: dict[str, Callable[[clients.Answer], bool]] = {
        **{each.address: lambda reply: reply.code == 250 for each in (*cast.steady, cast.keyless)},
        cast.swapped.address: lambda reply: cast.swapped.keys[1].fingerprint in reply.text,
        **{each.address: lambda reply: reply.code == 550 for each in (cast.removed, cast.strict)},
    }
    with ThreadPoolExecutor(_CLIENTS) as threads:
        tasks = {
            (relay, address): threads.submit(scene.office.insist, relay, address, is_wanted)
            for relay in STORES
            for address, is_wanted in wanted.items()
        }
    scene.calm.update({place: task.result() for place, task in tasks.items()})


# --------------------------------------------------------------------------- before and after


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What is left when everything has arrived."""

    scene: Scene
    arrived: list[Delivered]

    @property
    def letters(self) -> list[Letter]:
        return self.scene.office.letters

    def sealed(self) -> Iterator[tuple[Letter, Recipient, bytes]]:
        """What arrived at somebody who has keys."""
        for sent, recipient, content in self._all():
            if recipient.keys:
                yield sent, recipient, content

    def released(self) -> Iterator[tuple[Letter, Recipient]]:
        """What arrived at somebody who has none."""
        for sent, recipient, _ in self._all():
            if not recipient.keys:
                yield sent, recipient

    def _all(self) -> Iterator[tuple[Letter, Recipient, bytes]]:
        sent = {each.number: each for each in self.letters}
        for each in self.arrived:
            yield sent[number_of(each.content)], self.scene.cast.named(each.recipient), each.content

    def away(self, sent: Letter, recipient: Recipient) -> set[str]:
        """Servers that the rule needs and that had said nothing which still counted, until the reply."""
        needed = STORES[sent.relay].union(_LAST_WORD[source] for source in recipient.sources)
        return {
            each.server
            for each in self.scene.outages
            if each.server in needed and each.began + _KNOWN_SECONDS < sent.began and sent.ended < each.ended
        }


@contextmanager
def staged(seed: int, folder: Path, authority: Authority, next_hop: Postfix) -> Iterator[Scene]:
    cast = _make_cast()
    hop = (f"{HOST}:{next_hop.plain_port}", ", tls: none")
    with ExitStack() as stack:
        database = stack.enter_context(postgres.running(authority))
        world = stack.enter_context(worlds.running(folder, authority, hop, _published(cast)))
        twice = cast.steady[-1]
        world.vks.put(HOST, f"/vks/v1/by-email/{twice.address}", twice.keys[1].certificate)
        (folder / "password").write_text(postgres.PASSWORD, "utf-8")
        store = f'{{url: "{database.create_database()}", password_file: {folder}/password}}'
        settings = {
            "lite": _settings(cast, stale="0", store=""),
            "post": _settings(cast, stale="3s", store=store),
        }
        sites = {name: world.relay(folder / name, each) for name, each in settings.items()}
        for name, site in sites.items():
            _make_logins_cheap(folder / name)
            stack.enter_context(site.relay)
        groups = _servers(world, database)
        for program in (each for group in groups for each in group if isinstance(each, Program)):
            stack.callback(program.end)
        yield Scene(seed, world, cast, Office(sites), groups)


def _make_logins_cheap(home: Path) -> None:
    """Every letter has a login of its own; at the usual cost the storm would be one of hashing."""
    name, password = LOGIN
    hash = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(password.encode())
    (home / "users.passwd").write_text(f"{name}:{hash}:*@example.com\n", "utf-8")


def _published(cast: Cast) -> dict[str, list[Person]]:
    """The keys that are there at the start, by domain."""
    published: dict[str, list[Person]] = {}
    for key in (each.keys[0] for each in cast.everybody if each.keys):
        published.setdefault(key.address.partition("@")[2], []).append(key)
    return published


def _settings(cast: Cast, *, stale: str, store: str) -> Settings:
    addresses = "".join(each.policy for each in cast.everybody)
    return Settings(
        policy=f"  addresses:\n{addresses}",
        cache=_CACHE.format(stale),
        limits="lookup_seconds: 1s",
        store=store,
    )


def _servers(world: World, database: postgres.Postgres) -> tuple[tuple[Program | Database, ...], ...]:
    knot, unbound, *_ = world.dns.programs
    return (
        (
            Program("knot", knot, world.dns.authority_port),
            Program("unbound", unbound, world.dns.resolver_port),
            Program("slapd", world.ldap.program, world.ldap.tls_port),
        ),
        (
            Program("nginx", world.web.process, world.web.port),
            Program("vks", world.vks.process, world.vks.port),
            Database(database),
        ),
    )


def warm_up(scene: Scene) -> None:
    """Lets every source answer once.

    Whoever has no key under `when-possible` gets clear text, so theirs must be seen before it goes away. And
    there must be an old "none", so that it could be taken for an answer.
    """
    cast = scene.cast
    for relay in STORES:
        for each in (cast.swapped, cast.removed, cast.keyless):
            sent = scene.office.insist(relay, each.address, lambda reply: reply.code == 250)
            assert sent.is_accepted, sent


def arrived(scene: Scene, next_hop: Postfix) -> list[Delivered]:
    """Everything, when Postfix has nothing left to deliver."""
    next_hop.wait_for(sum(len(sent.reached) for sent in scene.office.letters))
    deadline = time.monotonic() + 10
    while not next_hop.is_idle():
        assert time.monotonic() < deadline, "something is left in the queue"
        time.sleep(0.02)
    return next_hop.delivered()
