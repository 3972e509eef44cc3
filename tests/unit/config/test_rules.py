"""Rules and their sources: what could never find a key is refused, what an admin should know is said."""

from __future__ import annotations

import pytest

from relay.config import Config
from tests.configs import Load, problems

BASE = """\
hostname: relay.example.com
listen: [{address: "127.0.0.1:0", tls: none}]
auth: {type: none}
next_hop: {address: "mail.example.com:465"}
keys:
  folder: {type: directory, path: keys}
  wkd: {type: wkd, unreachable_means: none}
  koo: {type: vks, url: "https://keys.example.com"}
store: {url: "sqlite:///relay.db"}
policy:
  default: {encrypt: always, keys: [folder, wkd]}
"""

UNUSED = ("keys.koo", "no rule names this key source, so it is never asked")
THIRD_PARTY = (
    "keys.koo",
    "the addresses of recipients are sent to a third party, https://keys.example.com;"
    " tell the people concerned",
)


def warnings(config: Config) -> list[tuple[str, str]]:
    return [(each.path, each.message) for each in config.warnings]


@pytest.mark.parametrize(
    ("entry", "is_reachable"),
    [
        ("{keys: [wkd, koo], min_trust: wkd}", True),
        ("{keys: [koo, wkd], min_trust: wkd}", True),
        ("{keys: [koo], min_trust: third-party}", True),
        ("{keys: [koo], min_trust: wkd}", False),
        ("{keys: [wkd, koo], min_trust: dnssec}", False),
        ("{min_trust: manual}", True),
        ("{encrypt: never, keys: [koo], min_trust: manual}", True),
    ],
)
def test_load_min_trust_needs_a_source_that_reaches_it(entry: str, is_reachable: bool, loaded: Load) -> None:
    """One source is enough, equal is enough, and what is never encrypted needs none."""
    text = f"{BASE}  domains: {{a.example: {entry}}}\n"

    if is_reachable:
        loaded(text)
        return
    [(line, path, message)] = problems(loaded, text)
    assert (12, 'policy.domains["a.example"].min_trust') == (line, path)
    assert message.startswith("no source in keys reaches min_trust ")
    assert message.endswith(", so no key could ever be used")


def test_load_min_trust_of_the_default_is_reported_once(loaded: Load) -> None:
    """What only inherits it is no mistake of its own."""
    text = BASE.replace("keys: [folder, wkd]", "keys: [koo], min_trust: dnssec")
    text += "  domains: {a.example: {mixed: split}, b.example: {keys: [folder]}}\n"

    assert ["policy.default.min_trust"] == [path for _, path, _ in problems(loaded, text)]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{keys: [folder]}", UNUSED),
        ("{keys: [koo]}", THIRD_PARTY),
        ("{keys: [folder, koo], encrypt: when-possible}", THIRD_PARTY),
    ],
)
def test_load_third_party_that_is_asked_is_a_warning(
    entry: str, expected: tuple[str, str], loaded: Load
) -> None:
    """A key server learns addresses of recipients as soon as a rule names it, not before (O-04)."""
    assert [expected] == warnings(loaded(f"{BASE}  domains: {{a.example: {entry}}}\n"))


def test_load_third_party_of_a_rule_that_never_encrypts_is_not_asked(loaded: Load) -> None:
    """Where no key is looked for, nobody learns an address."""
    assert [] == warnings(loaded(f"{BASE}  domains: {{a.example: {{encrypt: never, keys: [koo]}}}}\n"))


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ("domains: {a.example: {encrypt: when-possible}}", 'policy.domains["a.example"]'),
        ("senders: {a.example: {encrypt: when-possible, override: true}}", 'policy.senders["a.example"]'),
        ("domains: {a.example: {encrypt: when-possible, keys: [folder]}}", None),
        ("domains: {a.example: {encrypt: never}}", None),
    ],
)
def test_load_waived_failure_under_when_possible_is_a_warning(
    more: str, rule: str | None, loaded: Load
) -> None:
    """Who can block the source decides that mail leaves in clear; under `always` nobody can."""
    found = [warning for warning in warnings(loaded(f"{BASE}  {more}\n")) if warning != UNUSED]

    message = (
        f"with encrypt: when-possible ({rule}), an attacker in the network who blocks this source"
        " forces clear text for addresses that were never seen with a key"
    )
    assert ([("keys.wkd.unreachable_means", message)] if rule else []) == found


@pytest.mark.parametrize(
    ("entry", "count"),
    [
        ("{encrypt: when-possible, keys: [folder], unusable_key: release, min_trust: wkd}", 1),
        ("{encrypt: when-possible, keys: [folder], unusable_key: release, min_trust: learned}", 0),
        ("{encrypt: when-possible, keys: [folder], min_trust: wkd}", 0),
        ("{encrypt: always, unusable_key: release, min_trust: wkd}", 0),
    ],
)
def test_load_min_trust_beside_release_is_a_warning(entry: str, count: int, loaded: Load) -> None:
    """Demanding a better key, and releasing what has no usable one, sends mail in clear that had a key."""
    found = [path for path, _ in warnings(loaded(f"{BASE}  domains: {{a.example: {entry}}}\n"))]

    assert ['policy.domains["a.example"]'] * count == [path for path in found if path != "keys.koo"]


@pytest.mark.parametrize(
    ("wishes", "count"),
    [("{}", 1), ('{always: "[x]"}', 1), ('{never: "[x]"}', 0), ("{header: X-Encrypt}", 0)],
)
def test_load_rule_that_listens_to_nothing_is_a_warning(wishes: str, count: int, loaded: Load) -> None:
    """`wish_to_lower: allow` means nothing as long as no message can wish."""
    text = f"{BASE}  domains: {{a.example: {{wish_to_lower: allow}}}}\nwishes: {wishes}\n"
    found = [path for path, _ in warnings(loaded(text))]

    assert ['policy.domains["a.example"].wish_to_lower'] * count == [p for p in found if "wish" in p]
