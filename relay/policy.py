"""Says which rule is in force for a sender and a recipient, and because of what.

Pure: entries in, rules out. The entries come from `policy:` in the configuration; what a rule then does to a
message is the pipeline's business. Three things are combined: the recipient's entries, from exact to general;
the entry of a base address, which covers its `+` sub-addresses where it is stricter; the sender's entries,
which make a rule stricter, and laxer only with `override: true`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple

from relay.address import parse_domain, parse_mailbox
from relay.message import Address, Encrypt, KeyChange, Mixed, Rule
from relay.remembered import Trust

_MAX_NAME_CHARS = 120
"""Of the key in the name of an entry: names stand in SMTP replies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the policy; a field that is None is inherited. The fields are those of `Rule`."""

    name: str
    """As an admin finds it: `policy.domains["*.gov.example"]`; see `entry_name`."""
    encrypt: Encrypt | None = None
    keys: tuple[str, ...] | None = None
    certificates: tuple[str, ...] | None = None
    mixed: Mixed | None = None
    release_unusable: bool | None = None
    refuse_on_failure: bool | None = None
    lookup_patience_seconds: int | None = None
    allow_routing: bool | None = None
    accept_encrypted: bool | None = None
    key_change: KeyChange | None = None
    use_missing_pin: bool | None = None
    min_trust: Trust | None = None
    override: bool = False
    """Of a sender entry: its fields may also lower. Never inherited: it speaks for the fields beside it."""


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


class _Setting(NamedTuple):
    """The value of one field and the entry it comes from; the entry is None for a built-in default."""

    value: Any
    entry: Entry | None


_Settings = dict[str, _Setting]
"""Field name → setting."""

_FIELDS = tuple(field.name for field in fields(Entry) if field.name not in ("name", "override"))

_BUILT_IN: Mapping[str, _Setting] = {
    field.name: _Setting(field.default, None) for field in fields(Rule) if field.name in _FIELDS
}

_STRICTNESS: Mapping[str, Callable[[Any], int]] = {
    "encrypt": (Encrypt.NEVER, Encrypt.WHEN_POSSIBLE, Encrypt.ALWAYS).index,
    "mixed": (Mixed.SPLIT, Mixed.REFUSE).index,
    "release_unusable": (True, False).index,
    "refuse_on_failure": (False, True).index,
    "lookup_patience_seconds": lambda seconds: -int(seconds),
    "allow_routing": (True, False).index,
    "accept_encrypted": (True, False).index,
    "key_change": (KeyChange.ACCEPT, KeyChange.HOLD, KeyChange.REFUSE).index,
    "use_missing_pin": (True, False).index,
    "min_trust": int,
}
"""Field → how strict a value is, higher is stricter. `keys`: see `_keys`; `certificates`: `_combine`."""

_YAML_NAMES: Mapping[str, str] = {
    "release_unusable": "unusable_key",
    "refuse_on_failure": "lookup_failure",
    "lookup_patience_seconds": "lookup_patience",
    "allow_routing": "address_routing",
    "use_missing_pin": "pinned_key_missing",
}
"""Field → its name in the configuration, where that differs."""


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
        settings = {**_BUILT_IN, **_merge([*match.general, self.default])}
        settings = {**_cover(settings, match), **_merge(match.exact)}
        ignored: list[str] = []
        if sender is not None:
            match = self.senders.match(sender)
            phrases.update(match.phrases("sender"))
            from_sender = _merge(match.exact + match.general)
            ignored = _ignored(settings, from_sender)
            settings = _cover(_combine(settings, from_sender), match)
        return _rule(settings, phrases, ignored)

    def rule_for_null_sender(self, recipient: Address) -> Rule:
        """The rule for `MAIL FROM:<>`, which says nothing of who writes and which any login may use.

        Every sender entry counts where it is stricter, so that leaving the sender out never lowers anything.
        """
        match = self.recipients.match(recipient)
        settings = {**_BUILT_IN, **_merge([*match.general, self.default])}
        settings = {**_cover(settings, match), **_merge(match.exact)}
        phrases = match.phrases("recipient")
        for entry in self.senders.all():
            settings = _combine(settings, _merge([replace(entry, override=False)]))
            phrases[entry.name] = "may be meant by the null sender and is stricter"
        return _rule(settings, phrases, [])


def _table(entries: Iterable[tuple[Pattern, Entry]]) -> _Table:
    tables: dict[Kind, dict[str, Entry]] = {kind: {} for kind in Kind}
    for pattern, entry in entries:
        if pattern.value in tables[pattern.kind]:
            raise ValueError(f"two entries for {pattern.value}")
        tables[pattern.kind][pattern.value] = entry
    return _Table(tables[Kind.ADDRESS], tables[Kind.DOMAIN], tables[Kind.WILDCARD])


def _merge(entries: Iterable[Entry]) -> _Settings:
    """Each field from the first entry that sets it."""
    merged: _Settings = {}
    for entry in entries:
        values = ((name, getattr(entry, name)) for name in _FIELDS)
        own = {name: _Setting(value, entry) for name, value in values if value is not None}
        merged = {**own, **merged}
    return merged


def _cover(settings: _Settings, match: _Match) -> _Settings:
    """The settings made stricter by the entries of base addresses; these never lower, whatever they say.

    A field that the exact entry sets is left alone: an admin who names a sub-address means it.
    """
    said = _merge(match.exact)
    for base in match.bases:
        own = _merge([replace(base, override=False)])
        settings = _combine(settings, {name: own[name] for name in own if name not in said})
    return settings


def _combine(settings: _Settings, extra: _Settings) -> _Settings:
    """The settings with those of `extra` that are stricter, or come from an entry that may override.

    `certificates` have no order, and waive the User ID match for the very address that was named: without
    `override` those of `settings` stay.
    """
    combined = dict(settings)
    combined.update({name: setting for name, setting in extra.items() if _wins(name, setting, settings)})
    if _raises_trust(extra, settings) and combined["release_unusable"].value:
        # A key that was good enough becomes unusable: to demand a better one must not release mail in clear.
        combined["release_unusable"] = _Setting(False, extra["min_trust"].entry)
    if "keys" in extra and not _overrides(extra["keys"]):
        combined["keys"] = _keys(settings, extra["keys"], combined["encrypt"].value)
    return combined


def _wins(name: str, setting: _Setting, settings: _Settings) -> bool:
    rank = _STRICTNESS.get(name)
    is_stricter = rank is not None and rank(setting.value) > rank(settings[name].value)
    return is_stricter or _overrides(setting)


def _raises_trust(extra: _Settings, settings: _Settings) -> bool:
    trust = extra.get("min_trust")
    return trust is not None and not _overrides(trust) and _wins("min_trust", trust, settings)


def _overrides(setting: _Setting) -> bool:
    return setting.entry is not None and setting.entry.override


def _keys(settings: _Settings, extra: _Setting, encrypt: Encrypt) -> _Setting:
    """Which sources are asked where two entries name some and neither may make the other laxer.

    Where the one would have sent in clear, it trusts no source and the other's list counts. Under `always` a
    source must be trusted by both: the list can then only shrink, at worst to nothing, which refuses. Under
    `when-possible` a shorter list would release more in clear, so the list stays.
    """
    if settings["encrypt"].value is Encrypt.NEVER:
        return extra
    keys = settings["keys"]
    trusted = tuple(name for name in keys.value if name in extra.value)
    return keys if encrypt is not Encrypt.ALWAYS or trusted == keys.value else _Setting(trusted, extra.entry)


def _ignored(settings: _Settings, from_sender: _Settings) -> list[str]:
    """What an admin might wonder about: fields of sender entries that would lower and may not."""
    return [
        f"{setting.entry.name} would lower {_YAML_NAMES.get(name, name)} but has no override: true"
        for name, setting in from_sender.items()
        if setting.entry
        and name in _STRICTNESS
        and not _wins(name, setting, settings)
        and setting.value != settings[name].value
    ]


def _rule(settings: _Settings, phrases: Mapping[str, str], ignored: list[str]) -> Rule:
    decider = settings["encrypt"].entry
    name = decider.name if decider else "policy.default"
    why = f"{name} {phrases.get(name, 'decides where no more exact entry does')}"
    if decider and decider.override:
        why += " and has override: true"
    inherited = [
        f"{_YAML_NAMES.get(field, field)} from {setting.entry.name}"
        for field, setting in settings.items()
        if setting.entry and setting.entry.name != name
    ]
    because = "; ".join([why, *inherited, *ignored])
    values = {field: setting.value for field, setting in settings.items()}
    return Rule(name=name, because=because, deferral=_deferral(settings), **values)


def _deferral(settings: _Settings) -> str:
    """The entry to change where a source cannot be asked and the client is refused for good."""
    refuses = settings["refuse_on_failure"]
    entry = (refuses if refuses.value else settings["lookup_patience_seconds"]).entry
    return entry.name if entry else "policy.default"
