"""The straight line with fakes at its ends: fixture keys before it, a scripted next hop behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pysequoia

from relay.address import parse_mailbox
from relay.budget import Budget
from relay.conversation import Pipeline
from relay.errors import KeySourceUnavailable, LoginRefused
from relay.lookup import KeyFinder, Listed
from relay.merging import Entry
from relay.message import Address, Certificate, Client, Login, MailOptions, Offers, Outgoing, Verdict
from relay.mime import armor
from relay.mime.wishes import Wishes
from relay.openpgp.judge import Judge
from relay.outcomes import Outcomes
from relay.parts import Ground, Parts
from relay.pipeline import Transaction
from relay.policy import Policy, parse_pattern
from relay.rule import Encrypt, Mixed
from relay.seams import Engine, Signer
from tests import keys
from tests.fakes import FixedClock, ListJournal, ScriptedSession

SENDER = parse_mailbox("sender@example.com")
CLIENT = Client("conn", "192.0.2.1", "client.example", Login("sender"), "TLSv1.3 TLS_AES_256_GCM_SHA384")
ALICE, BOB, V6 = "curve25519@example.com", "rsa3072@example.com", "v6@example.com"


def decrypted(copy: Outgoing, name: str) -> bytes:
    """What the owner of a fixture key reads in a copy."""
    (block,) = armor.blocks(copy.body)
    text = copy.body[block.start : block.end]
    decryptor = pysequoia.Tsk.from_bytes(keys.secret(name)).decryptor()
    return pysequoia.decrypt(text, decryptor=decryptor).bytes or b""


MARKER = b"kX7pQv2mZt9LrB4sWc8N"


class FixtureSource:
    """A key source (`relay.seams.KeySource`) with every key fixture, which can be taken down."""

    name = "folder"

    def __init__(self) -> None:
        self.down = False
        self._certificates = {
            fixture.name: keys.certificate(fixture.name, self.name) for fixture in keys.FIXTURES
        }

    async def find(self, address: Address) -> list[Certificate]:
        if self.down:
            raise KeySourceUnavailable("gone")
        return [self._certificates[entry.name] for entry in keys.FIXTURES if entry.address.key == address.key]

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        if self.down:
            raise KeySourceUnavailable("gone")
        return [entry for entry in self._certificates.values() if entry.fingerprint == fingerprint]


class LyingEngine:
    """An engine that returns what it was told to."""

    def __init__(self, answer: Callable[[bytes, tuple[Verdict, ...]], bytes]) -> None:
        self._answer = answer

    async def encrypt(self, plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
        return self._answer(plaintext, keys)


def policy(**default: object) -> Policy:
    entry = Entry(name="policy.default", encrypt=Encrypt.ALWAYS, keys=("folder",))
    domains = [
        ("clear.example", Entry(name="clear", encrypt=Encrypt.NEVER)),
        ("maybe.example", Entry(name="maybe", encrypt=Encrypt.WHEN_POSSIBLE)),
        ("split.example", Entry(name="split", mixed=Mixed.SPLIT)),
        ("waits.example", Entry(name="waits", accept_encrypted=True)),
        ("routes.example", Entry(name="routes", encrypt=Encrypt.NEVER, allow_routing=True)),
        ("hand.example", Entry(name="hand", certificates=(keys.certificate("curve25519").fingerprint,))),
    ]
    return Policy.build(
        replace(entry, **default), [(parse_pattern(name), entry) for name, entry in domains], []
    )


class NextHopInMemory:
    """A next hop (`relay.seams.NextHop`) whose every session is the same scripted one."""

    offers = Offers()

    def __init__(self, session: ScriptedSession) -> None:
        self._session = session

    def session(self, client: Client) -> ScriptedSession:
        return self._session


class OnePassword:
    """An authenticator (`relay.seams.Authenticator`) to which every login has the password `right`."""

    async def verify(self, session: object, username: str, password: str) -> Login:
        if password != "right":
            raise LoginRefused
        return Login(username)


@dataclass
class Line:
    """A line with everything that a test may look at or break."""

    engine: Engine
    source: FixtureSource = field(default_factory=FixtureSource)
    session: ScriptedSession = field(default_factory=ScriptedSession)
    journal: ListJournal = field(default_factory=ListJournal)
    clock: FixedClock = field(default_factory=FixedClock)
    policy: Policy = field(default_factory=policy)
    wishes: Wishes = field(default_factory=Wishes)
    signer: Signer | None = None

    def __post_init__(self) -> None:
        self.ground = Ground(Budget(1 << 26), Outcomes(self.clock), self.journal, self.clock)

    @property
    def parts(self) -> Parts:
        finder = KeyFinder({"folder": Listed(self.source)}, Judge(), self.clock)
        hop = NextHopInMemory(self.session)
        return Parts(
            "relay.example",
            self.policy,
            finder,
            self.engine,
            hop,
            OnePassword(),
            wishes=self.wishes,
            signer=self.signer,
        )

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.parts, self.ground)

    async def begin(self, client: Client = CLIENT, sender: Address | None = SENDER) -> Transaction:
        front = await self.session.start(sender)
        return Transaction(
            self.parts, self.ground, client, "conn-1", sender, MailOptions(), self.session, front
        )

    async def send(
        self,
        content: bytes,
        *recipients: str,
        client: Client = CLIENT,
        sender: Address | None = SENDER,
    ) -> Transaction:
        transaction = await self.begin(client, sender)
        for recipient in recipients:
            await transaction.admit(parse_mailbox(recipient))
        await transaction.relay(content)
        return transaction
