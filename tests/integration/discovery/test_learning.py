"""Keys that the relay's own users hand out in `Autocrypt` fields: who is believed, what is never replaced."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pysequoia
import pytest

from relay.server import users
from tests.clients import Answer
from tests.fakes import FakeNextHop
from tests.integration.conftest import Site, entity
from tests.integration.discovery import world as worlds
from tests.integration.discovery.people import Person, letter, person, stranger
from tests.integration.discovery.world import Settings, World
from tests.network import HOST
from tests.postfix import Postfix

pytestmark = pytest.mark.system

PASSWORD = "the author's password"
CLEAR = "anybody@clear.test"
"""Takes mail in clear, so that what it holds cannot be in the way of what it teaches."""

HOLD, REFUSE, ACCEPT, STRICT, UNLISTED = (
    f"{name}.test" for name in ("hold", "refuse", "accept", "strict", "no")
)
"""Domains of authors, each named after its rule; no other source has keys there. `UNLISTED` has no rule."""

POLICY = f"""\
    clear.test: {{encrypt: never}}
    {HOLD}: {{keys: [wkd, learned]}}
    {REFUSE}: {{keys: [wkd, learned], key_change: refuse}}
    {ACCEPT}: {{keys: [wkd, learned], key_change: accept}}
    {STRICT}: {{keys: [wkd, learned], min_trust: wkd}}
    {worlds.WKD}: {{keys: [wkd, learned]}}"""


@pytest.fixture(scope="module")
def team(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A relay that learns. Every test has authors of its own."""
    site = world.relay(tmp_path_factory.mktemp("team") / "relay", Settings(policy=POLICY))
    with site.relay:
        yield site


def join(site: Site, author: Person, *senders: str) -> None:
    """Makes a login for the author, who may send as these patterns: without them, as the own address."""
    users.write(site.relay.home / "users.passwd", author.address, PASSWORD, senders or (author.address,))


def newcomer(site: Site, domain: str = HOLD) -> Person:
    """An author with a login, whose key is nowhere but in the own mail."""
    author = stranger(domain)
    join(site, author)
    return author


def other(author: Person) -> str:
    """Another address, which the author may own as well."""
    return f"other-{author.address}"


def autocrypt(key: Person, *, addr: str = "", before: str = "", keydata: bytes = b"") -> str:
    """A field as mail programs write it, folded.

    Args:
        before: attributes ahead of the key.
        keydata: instead of the certificate.
    """
    text = base64.b64encode(keydata or key.certificate).decode()
    lines = [text[start : start + 72] for start in range(0, len(text), 72)]
    return f"Autocrypt: addr={addr or key.address}; {before}keydata=\r\n " + "\r\n ".join(lines) + "\r\n"


def write(site: Site, author: Person, content: bytes, recipient: str = CLEAR) -> Answer:
    """The author sends a message; the reply to it."""
    login = (author.address, PASSWORD)
    return site.submit(content, recipient, sender=author.address, login=login).answers[-1][1]


def teach(site: Site, author: Person, key: Person | None = None) -> None:
    """The author sends a message with a key, the own one unless another is named."""
    content = letter(CLEAR, sender=author.address, more=autocrypt(key or author))
    assert 250 == write(site, author, content).code


def answer(site: Site, inbox: Postfix, reader: Person) -> Answer:
    """The reply to a colleague who writes to somebody, who can read it if it was accepted."""
    inbox.clear()
    content = letter(reader.address)
    outcome = site.submit(content, reader.address)
    if outcome.is_accepted:
        (delivered,) = inbox.wait_for(1)
        assert entity(content) == reader.reads(delivered.content)
    return outcome.final


def learned(site: Site, author: Person) -> list[object]:
    """Fingerprints that the relay says it has learned for the author, or for the other address."""
    addresses = (author.address, other(author))
    return [
        event["fingerprint"] for event in site.relay.events("key_learned") if event["address"] in addresses
    ]


def keys(site: Site, *arguments: str) -> str:
    """What a command of the administrator prints."""
    command = [sys.executable, "-m", "relay", "keys", arguments[0], "--config", str(site.relay.path)]
    done = subprocess.run([*command, *arguments[1:]], capture_output=True, text=True, check=True)
    return done.stdout


def pending(site: Site, author: Person) -> list[tuple[str, str]]:
    """Fingerprint and state of the author's keys that are listed for the administrator."""
    found = json.loads(keys(site, "pending", "--json"))["pending"]
    return [(key["fingerprint"], key["state"]) for key in found if key["address"] == author.address]


# --------------------------------------------------------------------------- learned


def test_mail_to_an_author_is_encrypted_with_the_key_of_their_mail(team: Site, inbox: Postfix) -> None:
    """Before: refused, as there is no key. One message of theirs later their colleagues write encrypted."""
    author = newcomer(team)
    before = answer(team, inbox, author)
    teach(team, author)
    after = answer(team, inbox, author)

    assert [550, 250] == [before.code, after.code]
    assert [author.fingerprint] == learned(team, author)


@pytest.mark.parametrize(("domain", "reason"), [(UNLISTED, "No encryption key is known"), (STRICT, "trust")])
def test_learned_key_that_the_rule_does_not_take_encrypts_nothing(
    domain: str, reason: str, team: Site, inbox: Postfix
) -> None:
    """The rule does not list the source, or demands more trust: the key is known, and mail is refused."""
    author = newcomer(team, domain)
    teach(team, author)
    refused = answer(team, inbox, author)

    assert [author.fingerprint] == learned(team, author)
    assert (550, "5.7.1") == (refused.code, refused.status)
    assert reason in refused.text


def test_autocrypt_field_stays_outside_of_the_encrypted_message(
    world: World, team: Site, inbox: Postfix
) -> None:
    """The recipient's program learns from it, too: unchanged, once, in the outer header (K-34)."""
    author, recipient = newcomer(team), world.found[worlds.WKD]
    field = autocrypt(author)
    content = letter(recipient.address, sender=author.address, more=field)
    reply = write(team, author, content, recipient.address)
    (delivered,) = inbox.wait_for(1)

    assert 250 == reply.code
    assert field.encode() in delivered.content.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert 1 == delivered.content.lower().count(b"autocrypt:")
    assert entity(content) == recipient.reads(delivered.content)


# --------------------------------------------------------------------------- not learned


def _beside(*fields: str) -> Callable[[Person], bytes]:
    """A message of the author with these fields; `{}` is the valid `Autocrypt` field."""
    return lambda author: letter(
        CLEAR, sender=author.address, more="".join(fields).replace("{}", autocrypt(author))
    )


def _from(value: str) -> Callable[[Person], bytes]:
    """A valid `Autocrypt` field, and another From: with the author's address, `{own}`, and the `{other}`."""

    def make(author: Person) -> bytes:
        text = letter(CLEAR, sender=author.address, more=autocrypt(author)).decode()
        value_of_from = value.format(own=author.address, other=other(author))
        wanted = f"From: {value_of_from}\r\nSender: <{author.address}>"
        return text.replace(f"From: <{author.address}>", wanted).encode()

    return make


def _field(make: Callable[[Person], str]) -> Callable[[Person], bytes]:
    """A message of the author with this `Autocrypt` field."""
    return lambda author: letter(CLEAR, sender=author.address, more=make(author))


def _report(author: Person) -> bytes:
    kind = 'Content-Type: multipart/report; report-type=disposition-notification; boundary="b"'
    body = "--b\r\nContent-Type: text/plain\r\n\r\nRead.\r\n--b--\r\n"
    text = letter(CLEAR, sender=author.address, more=autocrypt(author), text=body).decode()
    return text.replace("Content-Type: text/plain", kind, 1).encode()


def _large(author: Person) -> Person:
    """A certificate beyond 10 KiB: good, but for its size."""
    names = [f"<{author.address}>", *(f"{'x' * 90} {number} <a{number}@large.test>" for number in range(40))]
    made = Person(author.address, pysequoia.Tsk.generate(user_ids=names, profile=pysequoia.Profile.RFC4880))
    assert len(made.certificate) > 10 << 10
    return made


DOUBTS = {
    "another-author": _from("<{other}>"),
    "two-authors": _from("<{own}>, <{other}>"),
    "group": _from("team: <{own}>, <{other}>;"),
    "two-fields": _beside("{}", "{}"),
    "report": _report,
    "automatic-reply": _beside("{}", "Auto-Submitted: auto-replied\r\n"),
    "other-addr": _field(lambda author: autocrypt(author, addr=other(author))),
    "too-large": _field(lambda author: autocrypt(_large(author))),
    "garbage": _field(lambda author: autocrypt(author, keydata=b"garbage" * 99)),
    "critical": _field(lambda author: autocrypt(author, before="critical=1; ")),
    "secret-key": _field(lambda author: autocrypt(author, keydata=bytes(author.secret))),
    "other-key": _field(lambda author: autocrypt(author, keydata=person(other(author)).certificate)),
}
"""Messages that the login may send and that teach nothing."""


@pytest.mark.parametrize("doubt", DOUBTS)
def test_message_that_leaves_a_doubt_teaches_nothing(doubt: str, team: Site, inbox: Postfix) -> None:
    """It is sent all the same; neither of the author's addresses has a key afterwards (K-33)."""
    author = stranger(HOLD)
    join(team, author, author.address, other(author))
    sent = write(team, author, DOUBTS[doubt](author))
    refused = [answer(team, inbox, each) for each in (author, Person(other(author), author.secret))]

    assert (250, []) == (sent.code, learned(team, author)), sent
    assert [550, 550] == [reply.code for reply in refused]


@pytest.mark.parametrize("patterns", [("*",), (f"*@{HOLD}",), (f"other@{HOLD}", "*")])
def test_login_whose_address_is_not_its_own_teaches_nothing(
    patterns: tuple[str, ...], team: Site, inbox: Postfix
) -> None:
    """It may write as its colleagues; it must not plant keys for them."""
    author = stranger(HOLD)
    join(team, author, *patterns)
    teach(team, author)
    refused = answer(team, inbox, author)

    assert (550, []) == (refused.code, learned(team, author))


def test_message_in_the_name_of_somebody_else_is_refused_and_teaches_nothing(team: Site) -> None:
    """The login may not write as them at all."""
    author, victim = newcomer(team), stranger(HOLD)
    forged = letter(CLEAR, sender=victim.address, more=autocrypt(Person(victim.address, author.secret)))
    sent = write(team, author, forged)
    refused = team.submit(letter(victim.address), victim.address).final

    assert ([550, 550], []) == ([sent.code, refused.code], learned(team, victim))


@pytest.mark.parametrize("reply", [b"554 5.7.1 spam\r\n", b"451 4.3.0 later\r\n"])
async def test_message_that_the_next_hop_refuses_teaches_nothing(
    reply: bytes, world: World, tmp_path: Path
) -> None:
    """What was never sent proves nothing; the same message teaches once it is accepted."""
    async with FakeNextHop() as hop:
        hop.on("DOT", reply)
        there = replace(world, next_hop=(f"{HOST}:{hop.port}", ", tls: none"))
        replies, counts = await asyncio.to_thread(_send_twice, there, tmp_path / "relay")

    assert [int(reply[:3]), 250] == replies
    assert [0, 1] == counts


def _send_twice(world: World, home: Path) -> tuple[list[int], list[int]]:
    """The codes of both replies, and how many keys had been learned after each."""
    site = world.relay(home, Settings(policy=POLICY))
    author = newcomer(site)
    content = letter(CLEAR, sender=author.address, more=autocrypt(author))
    replies, counts = [], []
    with site.relay:
        for _ in range(2):
            replies.append(write(site, author, content).code)
            counts.append(len(learned(site, author)))
    return replies, counts


# --------------------------------------------------------------------------- another key


@pytest.mark.parametrize("is_used", [False, True], ids=["not-used-yet", "used"])
def test_second_key_under_hold_waits_for_the_administrator(is_used: bool, team: Site, inbox: Postfix) -> None:
    """The first one stays in use; after the approval the next message of the author brings the second."""
    author = newcomer(team, HOLD)
    newer = author.with_new_key()
    teach(team, author)
    before = [answer(team, inbox, author)] if is_used else []
    teach(team, author, newer)
    held, waiting = answer(team, inbox, author), pending(team, author)
    keys(team, "approve", author.address, newer.fingerprint)
    teach(team, author, newer)
    after = answer(team, inbox, newer)

    assert {250} == {reply.code for reply in (*before, held, after)}
    assert [(newer.fingerprint, "waiting")] == waiting


def test_second_key_under_refuse_is_ignored(team: Site, inbox: Postfix) -> None:
    """The first one stays in use, and nobody is asked."""
    author = newcomer(team, REFUSE)
    teach(team, author)
    teach(team, author, author.with_new_key())
    kept = answer(team, inbox, author)

    assert (250, []) == (kept.code, pending(team, author))


@pytest.mark.parametrize("is_used", [False, True], ids=["not-used-yet", "used"])
def test_second_key_under_accept_replaces_the_first(is_used: bool, team: Site, inbox: Postfix) -> None:
    """As the rule says, and the log."""
    author = newcomer(team, ACCEPT)
    newer = author.with_new_key()
    teach(team, author)
    before = [answer(team, inbox, author)] if is_used else []
    teach(team, author, newer)
    after = answer(team, inbox, newer)

    events = team.relay.events("key_learned_replaced")
    assert {250} == {reply.code for reply in (*before, after)}
    assert [newer.fingerprint] == [
        each["fingerprint"] for each in events if each["address"] == author.address
    ]


# --------------------------------------------------------------------------- beside other sources


def test_key_of_the_domain_goes_before_the_learned_one(world: World, team: Site, inbox: Postfix) -> None:
    """Whatever was learned, the author's own domain is believed more."""
    author = newcomer(team, worlds.WKD)
    official = author.with_new_key()
    world.publish(official)
    teach(team, author)
    reply = answer(team, inbox, official)

    assert (250, [author.fingerprint]) == (reply.code, learned(team, author))


def test_key_of_the_domain_takes_over_from_the_learned_one(world: World, team: Site, inbox: Postfix) -> None:
    """Also after the learned one was used: the better source replaces it, and the log says so."""
    author = newcomer(team, worlds.WKD)
    official = author.with_new_key()
    teach(team, author)
    before = answer(team, inbox, author)
    world.publish(official)
    keys(team, "refresh", author.address)
    after = answer(team, inbox, official)

    events = team.relay.events("key_changed")
    assert [250, 250] == [before.code, after.code]
    assert ["trust"] == [each["because"] for each in events if each["recipient"] == author.address]
