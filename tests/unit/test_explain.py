"""Tests of `relay/explain`."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable, KeySourceUnreachable
from relay.explain import NULL_SENDER, Explanation, as_dict, as_table, explain, needs_attention, together
from relay.lookup import KeyFinder, Listed
from relay.merging import Entry
from relay.message import Address, Certificate
from relay.openpgp.judge import Judge
from relay.pins import Pins
from relay.policy import Policy, parse_pattern
from relay.remembered import Pin, Trust
from relay.rule import Calendar, Encrypt, Exemption, Headers, KeyChange, Mixed
from tests import keys
from tests.fakes import FixedClock, ListJournal, PinsInMemory


class Shelf:
    """A key source that holds certificates by address, or is down."""

    def __init__(self, name: str, *certificates: Certificate, down: str = "") -> None:
        self.name = name
        self._certificates = certificates
        self._down = down

    async def find(self, address: Address) -> list[Certificate]:
        if self._down:
            raise KeySourceUnreachable(self._down)
        return [known for known in self._certificates if str(address) in "".join(known.user_ids)]

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        return [known for known in self._certificates if known.fingerprint == fingerprint]


GOOD, EXPIRED = keys.certificate("curve25519", "folder"), keys.certificate("expired-primary", "folder")
SOURCES = {
    "folder": Listed(Shelf("folder", GOOD, EXPIRED)),
    "down": Listed(Shelf("down", down="no such volume")),
    "last": Listed(Shelf("last")),
}
DEFAULT = Entry(name="policy.default", encrypt=Encrypt.ALWAYS, keys=("folder",))


async def _explained(recipient: str, *entries: Entry, sender: str = "") -> Explanation:
    """An explanation under `policy.default`, changed for `example.com` by the entries."""
    recipients = [(parse_pattern("example.com"), entry) for entry in entries]
    policy = Policy.build(DEFAULT, recipients)
    finder = KeyFinder(SOURCES, Judge(), FixedClock())
    return await explain(
        policy,
        finder,
        parse_mailbox(sender) if sender else None,
        parse_mailbox(recipient),
        sources=SOURCES,
        clock=FixedClock(),
    )


def _entry(**fields: object) -> Entry:
    return Entry(name='policy.domains["example.com"]', **fields)  # type: ignore[arg-type] # as in YAML


def _shown(explanation: Explanation) -> str:
    console = Console(width=1000, file=io.StringIO(), record=True, markup=True)
    console.print(as_table(explanation))
    return console.export_text()


@pytest.mark.parametrize(
    ("recipient", "fields", "outcome", "reply"),
    [
        ("curve25519@example.com", {}, "encrypt", None),
        ("nobody@example.com", {}, "refuse", (550, "5.7.1")),
        ("expired-primary@example.com", {}, "refuse", (550, "5.7.1")),
        ("nobody@example.com", {"keys": ("folder", "down")}, "defer", (451, "4.7.5")),
        ("nobody@example.com", {"keys": ("down",), "refuse_on_failure": True}, "refuse", (550, "5.7.5")),
        ("nobody@example.com", {"encrypt": Encrypt.WHEN_POSSIBLE}, "clear", None),
        ("expired-primary@example.com", {"encrypt": Encrypt.WHEN_POSSIBLE}, "refuse", (550, "5.7.1")),
        (
            "expired-primary@example.com",
            {"encrypt": Encrypt.WHEN_POSSIBLE, "release_unusable": True},
            "clear",
            None,
        ),
        ("curve25519@example.com", {"encrypt": Encrypt.NEVER}, "clear", None),
        ("nobody@example.com", {"accept_encrypted": True}, "needs-encrypted", (550, "5.7.1")),
        ("nobody@example.com", {"exempt": frozenset({Exemption.LIST})}, "needs-encrypted", (550, "5.7.1")),
        ("nobody@example.com", {"exempt": frozenset({Exemption.DSN})}, "refuse", (550, "5.7.1")),
        ("nobody@example.com", {"allow_lower": True}, "needs-encrypted", (550, "5.7.1")),
        ("curve25519@example.com", {"also_encrypt_to": (GOOD.fingerprint,)}, "encrypt", None),
        ("curve25519@example.com", {"also_encrypt_to": ("F" * 40,)}, "refuse", (550, "5.7.1")),
        ("curve25519@example.com", {"keys": ("folder", "down")}, "defer", (451, "4.7.5")),
        ("a%b@example.com", {}, "refuse", (553, "5.1.3")),
    ],
)
async def test_explain_of_every_outcome_names_it(
    recipient: str, fields: dict[str, object], outcome: str, reply: tuple[int, str] | None
) -> None:
    """Each outcome has its word and the reply that a client would get."""
    explanation = await _explained(recipient, _entry(**fields))

    assert outcome == explanation.outcome
    given = explanation.reply
    assert reply == (given and (given.code, given.enhanced))
    assert (reply is not None) == needs_attention([explanation])
    assert explanation.sentence in _shown(explanation)


async def test_as_dict_has_every_key_of_its_contract() -> None:
    """Programs find rule, sources, certificates with verdicts and subkeys, and the outcome."""
    found = as_dict(await _explained("curve25519@example.com", sender="me@example.com"))

    [certificate] = found.pop("certificates")  # type: ignore[misc] # a list of dicts
    [subkey] = certificate["subkeys"]
    assert {"fingerprint", "key_id", "algorithm"} == set(subkey)
    assert [GOOD.fingerprint, "folder", True, True] == [
        certificate[name] for name in ("fingerprint", "source", "usable", "chosen")
    ]
    assert {"user_ids", "sentence", "warnings", "created", "subkeys"} < set(certificate)
    [source] = found["sources"]  # type: ignore[misc] # a list of dicts
    assert {
        "name": "folder",
        "asked": True,
        "found": 1,
        "failure": "",
        "trust": "manual",
        "answered_at": None,
        "age_seconds": None,
        "waived_failure": "",
    } == {name: value for name, value in source.items() if name != "milliseconds"}
    assert {"trust": "manual", "expires": None} == {name: certificate[name] for name in ("trust", "expires")}
    assert (None, None) == (found["pin"], found["conflict"])
    assert ["curve25519@example.com", "me@example.com", "encrypt", None] == [
        found[name] for name in ("recipient", "sender", "outcome", "reply")
    ]
    rule = found["rule"]
    assert isinstance(rule, dict)
    assert ("policy.default", "always", ["folder"]) == (rule["name"], rule["encrypt"], rule["keys"])
    assert ["hold", "refuse", "learned"] == [
        rule[name] for name in ("key_change", "pinned_key_missing", "min_trust")
    ]
    json.dumps(found)


async def test_explain_tells_what_would_make_up_for_the_key() -> None:
    """An admin reads which messages a recipient without a key gets all the same."""
    entry = _entry(exempt=frozenset({Exemption.LIST}), accept_encrypted=True, allow_lower=True)
    sentence = (await _explained("nobody@example.com", entry)).sentence

    assert sentence.startswith("accepted only if the sender's program has encrypted the message itself or ")
    assert "(list) or the message itself asks to leave in clear" in sentence


async def test_explain_without_a_sender_says_that_one_is_needed() -> None:
    """Whether the sender can read the copy is not known before it is known who that is."""
    entry = _entry(also_encrypt_to=("sender",))
    unknown = await _explained("curve25519@example.com", entry)
    known = await _explained("curve25519@example.com", entry, sender="nobody@example.com")

    assert unknown.sentence.endswith(", and to the sender, who needs a key (--sender says who)")
    assert ("encrypt", "refuse") == (unknown.outcome, known.outcome)


async def test_explain_tells_the_shape_of_a_copy_and_who_else_reads_it() -> None:
    """Every setting that shapes a copy is shown, for people and for programs."""
    readers = ("sender", GOOD.fingerprint)
    fields = {"headers": Headers.KEEP, "also_encrypt_to": readers, "calendar": Calendar.CLEAR}
    explanation = await _explained(
        "curve25519@example.com", _entry(**fields), sender="curve25519@example.com"
    )
    shown, found = _shown(explanation), as_dict(explanation)

    assert "also_encrypt_to" in shown
    assert f"curve25519@example.com: {GOOD.fingerprint}" in shown
    rule = found["rule"]
    assert isinstance(rule, dict)
    assert {
        "headers": "keep",
        "format": "pgp-mime",
        "exempt": [],
        "calendar": "clear",
        "also_encrypt_to": list(readers),
        "sign": None,
        "wish_to_lower": "refuse",
    }.items() <= rule.items()
    assert [GOOD.fingerprint] * 2 == [each["fingerprint"] for each in found["also_encrypted_to"]]  # type: ignore[attr-defined]


async def test_as_table_shows_why() -> None:
    """People read the rule, each source, each certificate with its verdict, and the reply."""
    shown = _shown(await _explained("expired-primary@example.com"))

    for part in (
        "policy.default",
        "folder: 1 certificate",
        EXPIRED.fingerprint,
        "not usable: expired on 2025-03-01",
        "550 5.7.1 The encryption key of <expired-primary@example.com> cannot be used",
    ):
        assert part in shown


async def test_as_table_shows_what_a_rule_demands_of_keys() -> None:
    """The fields stand there under their names in the configuration, where a key is looked for at all."""
    demanding = _entry(min_trust=Trust.THIRD_PARTY, key_change=KeyChange.ACCEPT, use_missing_pin=True)
    shown = _shown(await _explained("nobody@example.com", demanding))
    clear = _shown(await _explained("nobody@example.com", _entry(encrypt=Encrypt.NEVER)))

    found = {name: value for name, _, value in (line.partition(" ") for line in shown.splitlines())}
    expected = {"min_trust": "third-party", "key_change": "accept", "pinned_key_missing": "use-pin"}
    assert expected == {name: found[name].strip() for name in expected}
    assert "min_trust" not in clear


async def test_as_table_with_a_failed_source_says_which_were_not_asked() -> None:
    """A source that is down is named with its failure, and what came after it was not asked."""
    explanation = await _explained("nobody@example.com", _entry(keys=("folder", "down", "last")))

    shown = _shown(explanation)
    assert "folder: no certificate" in shown
    assert "down: cannot be asked: no such volume" in shown
    assert "last: not asked" in shown
    assert [True, True, False] == [source["asked"] for source in as_dict(explanation)["sources"]]  # type: ignore[attr-defined] # a list


async def test_as_table_takes_the_effect_from_a_strangers_user_id() -> None:
    """Neither markup nor escape sequences in a User ID reach the terminal."""
    evil = Certificate(GOOD.data, GOOD.fingerprint, ("\x1b[31m[bold]curve25519@example.com",), "folder")
    finder = KeyFinder({"folder": Listed(Shelf("folder", evil))}, Judge(), FixedClock())
    explanation = await explain(Policy.build(DEFAULT), finder, None, parse_mailbox("curve25519@example.com"))

    shown = _shown(explanation)
    assert "\x1b" not in shown
    assert "[31m[bold]curve25519@example.com" in shown


async def test_together_with_a_strict_rule_beside_clear_is_refused() -> None:
    """Recipients that are fine alone may not be so in one message, unless the strict rule allows a split."""
    clear = await _explained("nobody@example.com", _entry(encrypt=Encrypt.WHEN_POSSIBLE))
    strict = await _explained("curve25519@example.com")
    split = await _explained("curve25519@example.com", _entry(mixed=Mixed.SPLIT))

    refusal = together([clear, strict])
    assert refusal is not None
    assert "nobody@example.com" in refusal.reply().text
    assert together([clear, split]) is None
    assert together([strict, strict]) is None
    assert needs_attention([clear, strict])
    assert not needs_attention([clear, split])


async def test_explain_of_the_null_sender_is_as_strict_as_the_relay() -> None:
    """`--sender '<>'` shows the rule that `MAIL FROM:<>` meets."""
    default = Entry(name="policy.default", encrypt=Encrypt.WHEN_POSSIBLE, keys=())
    strict = Entry(name="policy.senders.hr", encrypt=Encrypt.ALWAYS)
    policy = Policy.build(default, [], [(parse_pattern("*@hr.example"), strict)])
    finder = KeyFinder({}, Judge(), FixedClock())
    recipient = parse_mailbox("bob@example.org")

    rules = [(await explain(policy, finder, sender, recipient)).rule for sender in (None, NULL_SENDER)]

    assert [Encrypt.WHEN_POSSIBLE, Encrypt.ALWAYS] == [rule.encrypt for rule in rules]


# --------------------------------------------------------------------------- sources outside, and pins


OLD, NEW = keys.certificate("several-1", "web"), keys.certificate("several-2", "web")
SEVERAL = keys.fixture("several-1").address
OUTSIDE = Entry(name="policy.default", encrypt=Encrypt.ALWAYS, keys=("folder", "web"))


class Web(Shelf):
    """A source outside of this machine (`relay.seams.CachedSource`); it answered three hours ago."""

    async def recall(self, address: Address) -> list[Certificate]:
        return [known for known in self._certificates if str(address) in "".join(known.user_ids)]

    async def asked_at(self, address: Address) -> datetime | None:
        return FixedClock().now() - timedelta(hours=3)

    async def refresh(self, address: Address) -> list[Certificate]:
        raise KeySourceUnavailable("nobody is asked anew")


class Judging(Judge):
    """Nobody vouches for another key."""

    def certifies(
        self, old: bytes, new: bytes, address: Address, now: datetime, copies: Sequence[bytes] = ()
    ) -> bool:
        return False


async def _with_pin(
    pinned: Certificate | None,
    *certificates: Certificate,
    rule: Entry = OUTSIDE,
    down: str = "",
    failure_is_none: bool = False,
    book: PinsInMemory | None = None,
) -> Explanation:
    """An explanation for an address whose key is pinned, where the web has these certificates."""
    clock, book = FixedClock(), book or PinsInMemory()
    if pinned:
        since = datetime(2026, 5, 1, tzinfo=UTC)
        book.pins[SEVERAL.key] = Pin(SEVERAL.key, pinned.fingerprint, "web", Trust.WKD, pinned.data, since)
    web = Web("web", *certificates, down=down)
    listed = {
        "folder": SOURCES["folder"],
        "web": Listed(web, Trust.WKD, web, failure_is_none=failure_is_none),  # type: ignore[arg-type] # a fake
    }
    pins = Pins(book, Judging(), clock, ListJournal())
    finder = KeyFinder(listed, Judging(), clock, pins=pins)
    return await explain(Policy.build(rule), finder, None, SEVERAL, sources=listed, clock=clock)


async def test_as_table_tells_trust_and_age_of_each_source() -> None:
    """Local files are read now; what was kept has an age."""
    explanation = await _with_pin(None, OLD)

    shown = _shown(explanation)
    assert "folder: no certificate (trust manual)" in shown
    assert "web: 1 certificate (trust wkd, it answered 3 h ago)" in shown
    source = as_dict(explanation)["sources"][1]  # type: ignore[index] # a list
    assert ("wkd", 3 * 3600, "2026-06-01T09:00:00+00:00") == (
        source["trust"],
        source["age_seconds"],
        source["answered_at"],
    )


async def test_as_table_says_that_a_source_had_no_need_to_be_asked() -> None:
    """Not the same as one behind a source that is down."""
    local = Listed(Shelf("folder", replace(OLD, source="folder")))
    web = Web("web", NEW)
    listed = {"folder": local, "web": Listed(web, Trust.WKD, web)}  # type: ignore[arg-type] # a fake
    finder = KeyFinder(listed, Judge(), FixedClock())

    explanation = await explain(Policy.build(OUTSIDE), finder, None, SEVERAL)

    assert "web: not asked: a key was found before; 1 certificate known from earlier" in _shown(explanation)
    assert [True, False] == [source["asked"] for source in as_dict(explanation)["sources"]]  # type: ignore[attr-defined] # a list


async def test_as_table_shows_a_waived_failure() -> None:
    """`unreachable_means: none` is never silent."""
    explanation = await _with_pin(None, down="connection refused", failure_is_none=True)

    text = "cannot be asked, which counts as no certificate (unreachable_means: none): connection refused"
    assert f"web: {text}" in _shown(explanation)
    assert "connection refused" == as_dict(explanation)["sources"][1]["waived_failure"]  # type: ignore[index] # a list


async def test_as_table_shows_the_pin() -> None:
    """The key that was used before, since when, and where it was found."""
    explanation = await _with_pin(OLD, OLD)

    assert f"{OLD.fingerprint}, since 2026-05-01, from web (trust wkd)" in _shown(explanation)
    assert {
        "fingerprint": OLD.fingerprint,
        "source": "web",
        "trust": "wkd",
        "since": "2026-05-01T00:00:00+00:00",
    } == as_dict(explanation)["pin"]
    assert (None, "encrypt") == (as_dict(explanation)["conflict"], explanation.outcome)


@pytest.mark.parametrize(
    ("certificates", "change", "kind", "outcome", "commands"),
    [
        ([NEW], KeyChange.HOLD, "held", "defer", ["approve {address} {new}", "reject {address} {new}"]),
        ([NEW], KeyChange.REFUSE, "refused", "refuse", ["approve {address} {new}", "forget {address}"]),
        ([], KeyChange.HOLD, "missing", "refuse", ["export {address} | ", "forget {address}"]),
    ],
)
async def test_conflict_says_what_to_type(
    certificates: list[Certificate], change: KeyChange, kind: str, outcome: str, commands: list[str]
) -> None:
    """The whole command line, with the full fingerprint."""
    rule = Entry(name="policy.default", keys=("folder", "web"), key_change=change)

    explanation = await _with_pin(OLD, *certificates, rule=rule)

    conflict = as_dict(explanation)["conflict"]
    assert isinstance(conflict, dict)
    assert (kind, outcome) == (conflict["kind"], explanation.outcome)
    assert (NEW.fingerprint if certificates else None) == conflict["contender"]
    shown = _shown(explanation)
    for command in commands:
        line = f"relay keys {command.format(address=SEVERAL, new=NEW.fingerprint)}"
        assert line in shown
        assert line in " ".join(conflict["advice"])


async def test_conflict_quotes_an_address_for_the_shell() -> None:
    """A local part may hold anything."""
    explanation = await _with_pin(OLD)

    advice = replace(explanation, recipient=parse_mailbox('"$(reboot) o\'clock"@example.com')).advice

    assert advice[-1].endswith("""relay keys forget '"$(reboot) o'"'"'clock"@example.com'""")


async def test_as_table_shows_a_store_that_is_down() -> None:
    """It stands in no rule, and yet it is why mail waits."""
    book = PinsInMemory()
    book.down = True

    explanation = await _with_pin(None, OLD, book=book)

    assert "defer" == explanation.outcome
    assert "store: cannot be asked: the store is down" in _shown(explanation)
    assert "store" == as_dict(explanation)["sources"][-1]["name"]  # type: ignore[index] # a list


async def test_explain_pins_nothing() -> None:
    """Who asks what would happen does not change what will."""
    book = PinsInMemory()

    await _with_pin(None, OLD, book=book)
    await _with_pin(OLD, NEW, book=book)

    assert ([OLD.fingerprint], {}) == ([pin.fingerprint for pin in book.pins.values()], book.keys)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days"), (5e6, "58 days")],
)
async def test_age_is_told_in_one_unit(seconds: float, text: str) -> None:
    """Nobody reads 5000000 seconds."""
    explanation = await _with_pin(None, OLD)
    answered = FixedClock().now() - timedelta(hours=3)

    shown = _shown(replace(explanation, at=answered + timedelta(seconds=seconds)))

    assert f"it answered {text} ago" in shown
