"""Says which rule is in force for a sender and a recipient, and because of what.

Pure: entries in, rules out. The entries come from `policy:` in the configuration; what a rule then does to a
message is the pipeline's business. Three things are combined: the recipient's entries, from exact to general;
the entry of a base address, which covers its `+` sub-addresses where it is stricter; the sender's entries,
which make a rule stricter, and laxer only with `override: true`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from relay.address import parse_domain, parse_mailbox
from relay.merging import (
    BUILT_IN,
    Entry,
    Settings,
    combine,
    ignored,
    merge,
    narrowed,
    only_stricter,
    rule_of,
    without_unnamed,
)
from relay.message import Address
from relay.rule import Rule, Signing

_MAX_NAME_CHARS = 120
"""Of the key in the name of an entry: names stand in SMTP replies."""


class Kind(StrEnum):
    """What a pattern covers."""

    ADDRESS = "address"
    DOMAIN = "domain"
    WILDCARD = "wildcard"


@dataclass(frozen=True, slots=True)
class Pattern:
    """The key of an entry, normalised as addresses are; equal patterns cover the same addresses."""

    kind: Kind
    value: str
    """`Address.key`, a domain, or the domain below which a wildcard covers everything."""


def parse_pattern(text: str) -> Pattern:
    """`bob@a.example`, `a.example`, `*@a.example` (the same), `*.a.example` or `*@*.a.example` (the same).

    Raises:
        ValueError: it is none of these; the text says why.
    """
    domain = text.removeprefix("*@")
    if domain in ("*", ""):
        raise ValueError("it would cover everything; settings for everything stand in policy.default")
    if domain.startswith("*."):
        return Pattern(Kind.WILDCARD, parse_domain(f"x.{domain[2:]}")[2:])
    if "*" in domain:
        raise ValueError("* may stand only for all labels before a domain (*.a.example) or before the @")
    if "@" in domain:
        return Pattern(Kind.ADDRESS, parse_mailbox(text).key)
    return Pattern(Kind.DOMAIN, parse_domain(domain))


def entry_name(section: str, key: str) -> str:
    """The name of an entry for replies and logs: ASCII, quoted, bounded."""
    shown = key if len(key) <= _MAX_NAME_CHARS else f"{key[:_MAX_NAME_CHARS]}..."
    return f"policy.{section}[{json.dumps(shown)}]"


class _Match(NamedTuple):
    """What one side, recipient or sender, has to say about an address."""

    exact: list[Entry]
    """The entry of the very address, if there is one."""
    bases: list[Entry]
    """Of the addresses of which it is a sub-address, shortest first."""
    general: list[Entry]
    """Exact domain, then wildcards, longest first."""

    def phrases(self, side: str) -> dict[str, str]:
        """Name of each entry → how it matched."""
        return {
            **{entry.name: f"covers the {side}'s domain" for entry in self.general},
            **{entry.name: f"names the base address of the {side} and is stricter" for entry in self.bases},
            **{entry.name: f"names the {side}" for entry in self.exact},
        }


@dataclass(frozen=True)
class _Table:
    """The entries of one side by pattern."""

    addresses: Mapping[str, Entry]
    domains: Mapping[str, Entry]
    wildcards: Mapping[str, Entry]

    def all(self) -> list[Entry]:
        """Every entry."""
        return [*self.addresses.values(), *self.domains.values(), *self.wildcards.values()]

    def match(self, address: Address) -> _Match:
        """Every entry that covers the address."""
        local, _, domain = address.key.rpartition("@")
        bases = [f"{local[:at]}@{domain}" for at, char in enumerate(local) if char == "+"]
        parents = [domain[at + 1 :] for at, char in enumerate(domain) if char == "."]
        return _Match(
            exact=_found(self.addresses, [address.key]),
            bases=_found(self.addresses, bases),
            general=_found(self.domains, [domain]) + _found(self.wildcards, parents),
        )


def _found(entries: Mapping[str, Entry], keys: list[str]) -> list[Entry]:
    return [entries[key] for key in keys if key in entries]


@dataclass(frozen=True)
class Policy:
    """Every entry of `policy:`, ready to be asked."""

    default: Entry
    recipients: _Table
    senders: _Table

    @classmethod
    def build(
        cls,
        default: Entry,
        recipients: Iterable[tuple[Pattern, Entry]] = (),
        senders: Iterable[tuple[Pattern, Entry]] = (),
    ) -> Policy:
        """A policy of these entries.

        Raises:
            ValueError: two entries of one side have the same pattern.
        """
        return cls(default, _table(recipients), _table(senders))

    def rule_for(self, sender: Address | None, recipient: Address) -> Rule:
        """The rule in force; the null sender (None) is matched by no sender entry."""
        match = self.recipients.match(recipient)
        phrases = match.phrases("recipient")
        settings = self._of_recipient(match)
        lowering: list[str] = []
        if sender is not None:
            match = self.senders.match(sender)
            phrases.update(match.phrases("sender"))
            order = [*match.exact, *match.general]
            from_sender = without_unnamed(merge(order), order)
            lowering = ignored(settings, from_sender)
            settings = _cover(combine(settings, from_sender), match)
        return rule_of(settings, phrases, lowering)

    def _of_recipient(self, match: _Match) -> Settings:
        settings = {**BUILT_IN, **merge([*match.general, self.default])}
        settings = {**_cover(settings, match), **merge(match.exact)}
        return without_unnamed(settings, [*match.exact, *match.bases[::-1], *match.general, self.default])

    def signing_for(self, sender: Address) -> Signing | None:
        """With which key the messages of this sender are signed."""
        match = self.senders.match(sender)
        setting = merge([*match.exact, *match.bases[::-1], *match.general]).get("signing")
        return setting.value if setting and setting.value.key else None

    def rule_for_null_sender(self, recipient: Address) -> Rule:
        """The rule for `MAIL FROM:<>`, which says nothing of who writes and which any login may use.

        Every sender entry counts where it is stricter, so that leaving the sender out never lowers anything.
        """
        match = self.recipients.match(recipient)
        settings = self._of_recipient(match)
        phrases = match.phrases("recipient")
        for entry in self.senders.all():
            # Its signature and its readers are another address's.
            strict = only_stricter(replace(entry, also_encrypt_to=None, signing=None))
            settings = combine(settings, merge([strict]))
            if entry.exempt is not None:  # an exact entry may say less than the one of its domain
                settings = narrowed(settings, entry)
            phrases[entry.name] = "may be meant by the null sender and is stricter"
        return rule_of(settings, phrases, [])


def _table(entries: Iterable[tuple[Pattern, Entry]]) -> _Table:
    tables: dict[Kind, dict[str, Entry]] = {kind: {} for kind in Kind}
    for pattern, entry in entries:
        if pattern.value in tables[pattern.kind]:
            raise ValueError(f"two entries for {pattern.value}")
        tables[pattern.kind][pattern.value] = entry
    return _Table(tables[Kind.ADDRESS], tables[Kind.DOMAIN], tables[Kind.WILDCARD])


def _cover(settings: Settings, match: _Match) -> Settings:
    """The settings made stricter by the entries of base addresses; these never lower, whatever they say.

    A field that the exact entry sets is left alone: an admin who names a sub-address means it.
    """
    said = merge(match.exact)
    for base in match.bases:
        own = merge([only_stricter(base)])
        settings = combine(settings, {name: own[name] for name in own if name not in said})
        if "exempt" in own and "exempt" not in said:
            settings = narrowed(settings, base)
    return settings
