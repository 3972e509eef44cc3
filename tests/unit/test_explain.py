"""Tests of `relay/explain.py`."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.explain import NULL_SENDER, Explanation, as_dict, as_table, explain, needs_attention, together
from relay.lookup import KeyFinder
from relay.message import Address, Certificate, Encrypt, Mixed
from relay.openpgp.judge import Judge
from relay.policy import Entry, Policy, parse_pattern
from tests import keys
from tests.fakes import FixedClock


class Shelf:
    """A key source that holds certificates by address, or is down."""

    def __init__(self, name: str, *certificates: Certificate, down: str = "") -> None:
        self.name = name
        self._certificates = certificates
        self._down = down

    async def find(self, address: Address) -> list[Certificate]:
        if self._down:
            raise KeySourceUnavailable(self._down)
        return [known for known in self._certificates if str(address) in "".join(known.user_ids)]

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        return [known for known in self._certificates if known.fingerprint == fingerprint]


GOOD, EXPIRED = keys.certificate("curve25519", "folder"), keys.certificate("expired-primary", "folder")
SOURCES = {
    "folder": Shelf("folder", GOOD, EXPIRED),
    "down": Shelf("down", down="no such volume"),
    "last": Shelf("last"),
}
DEFAULT = Entry(name="policy.default", encrypt=Encrypt.ALWAYS, keys=("folder",))


async def _explained(recipient: str, *entries: Entry, sender: str = "") -> Explanation:
    """An explanation under `policy.default`, changed for `example.com` by the entries."""
    recipients = [(parse_pattern("example.com"), entry) for entry in entries]
    policy = Policy.build(DEFAULT, recipients)
    finder = KeyFinder(SOURCES, Judge(), FixedClock())
    return await explain(policy, finder, parse_mailbox(sender) if sender else None, parse_mailbox(recipient))


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
    assert [{"name": "folder", "asked": True, "found": 1, "failure": ""}] == found["sources"]
    assert ["curve25519@example.com", "me@example.com", "encrypt", None] == [
        found[name] for name in ("recipient", "sender", "outcome", "reply")
    ]
    rule = found["rule"]
    assert isinstance(rule, dict)
    assert ("policy.default", "always", ["folder"]) == (rule["name"], rule["encrypt"], rule["keys"])
    json.dumps(found)


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
    finder = KeyFinder({"folder": Shelf("folder", evil)}, Judge(), FixedClock())
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
