"""How the entries that cover an address become one rule: which field counts, and from which entry.

Pure. Of a recipient's entries the more exact one counts, field by field. What the sender's entries and those
of base addresses add can only make the rule stricter, unless a sender's has `override: true`. Which entries
cover an address is the business of `relay/policy.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from relay.remembered import Trust
from relay.rule import Calendar, Encrypt, Exemption, Format, Headers, KeyChange, Mixed, Rule, Signing


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
    headers: Headers | None = None
    format: Format | None = None
    exempt: frozenset[Exemption] | None = None
    calendar: Calendar | None = None
    also_encrypt_to: tuple[str, ...] | None = None
    signing: Signing | None = None
    """Of sender entries alone; one without a key: the messages are not signed."""
    allow_lower: bool | None = None
    override: bool = False
    """Of a sender entry: its fields may also lower. Never inherited: it speaks for the fields beside it."""


def only_stricter(entry: Entry) -> Entry:
    """The entry where it may raise and never lower."""
    return replace(entry, override=False)


class Setting(NamedTuple):
    """The value of one field and the entry it comes from; the entry is None for a built-in default."""

    value: Any
    entry: Entry | None


Settings = dict[str, Setting]
"""Field name → setting."""

_FIELDS = tuple(field.name for field in fields(Entry) if field.name not in ("name", "override"))

BUILT_IN: Mapping[str, Setting] = {
    field.name: Setting(field.default, None) for field in fields(Rule) if field.name in _FIELDS
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
    "headers": (Headers.KEEP_REPLIES, Headers.KEEP, Headers.PROTECT).index,
    "format": (Format.INLINE, Format.PGP_MIME).index,
    "calendar": (Calendar.CLEAR, Calendar.ENCRYPT, Calendar.REFUSE).index,
    "allow_lower": (True, False).index,
}
"""Field → how strict a value is, higher is stricter. What has no such order is in `combine`."""

_YAML_NAMES: Mapping[str, str] = {
    "release_unusable": "unusable_key",
    "refuse_on_failure": "lookup_failure",
    "lookup_patience_seconds": "lookup_patience",
    "allow_routing": "address_routing",
    "use_missing_pin": "pinned_key_missing",
    "signing": "sign",
    "allow_lower": "wish_to_lower",
}
"""Field → its name in the configuration, where that differs."""


def merge(entries: Iterable[Entry]) -> Settings:
    """Each field from the first entry that sets it."""
    merged: Settings = {}
    for entry in entries:
        values = ((name, getattr(entry, name)) for name in _FIELDS)
        own = {name: Setting(value, entry) for name, value in values if value is not None}
        merged = {**own, **merged}
    return merged


def combine(settings: Settings, extra: Settings) -> Settings:
    """The settings with those of `extra` that are stricter, or come from an entry that may override.

    `certificates` have no order, and waive the User ID match for the very address that was named: without
    `override` those of `settings` stay. Readers beside the recipient are added up. Signing belongs to the
    sender alone.
    """
    combined = dict(settings)
    combined.update({name: setting for name, setting in extra.items() if _wins(name, setting, settings)})
    if _raises_trust(extra, settings) and combined["release_unusable"].value:
        # A key that was good enough becomes unusable: to demand a better one must not release mail in clear.
        combined["release_unusable"] = Setting(False, extra["min_trust"].entry)
    if "keys" in extra and not _overrides(extra["keys"]):
        combined["keys"] = _keys(settings, extra["keys"], combined["encrypt"].value)
    if "also_encrypt_to" in extra and not _overrides(extra["also_encrypt_to"]):
        combined["also_encrypt_to"] = _added(settings["also_encrypt_to"], extra["also_encrypt_to"])
    if "signing" in extra:
        combined["signing"] = extra["signing"]
    return {**combined, **_exempting(combined, extra)}


def _added(readers: Setting, more: Setting) -> Setting:
    value = tuple(dict.fromkeys([*readers.value, *more.value]))
    return readers if value == readers.value else Setting(value, more.entry)


def _exempting(settings: Settings, extra: Settings) -> Settings:
    """What is left of what lets a message leave in clear where `extra` says `always`: what it names, too."""
    encrypt = extra.get("encrypt")
    if encrypt is None or encrypt.value is not Encrypt.ALWAYS:
        return {}
    named = extra["exempt"].value if "exempt" in extra else frozenset()
    left = {"exempt": Setting(settings["exempt"].value & named, encrypt.entry)}
    if settings["calendar"].value is Calendar.CLEAR:
        is_named = "calendar" in extra and extra["calendar"].value is Calendar.CLEAR
        left["calendar"] = Setting(Calendar.CLEAR if is_named else Calendar.ENCRYPT, encrypt.entry)
    if settings["allow_lower"].value:
        is_named = "allow_lower" in extra and extra["allow_lower"].value
        left["allow_lower"] = Setting(is_named, encrypt.entry)
    return left


def narrowed(settings: Settings, entry: Entry) -> Settings:
    """The settings with those exemptions alone that this entry's list names, too."""
    left = dict(settings)
    left["exempt"] = Setting(settings["exempt"].value & (entry.exempt or frozenset()), entry)
    if settings["calendar"].value is Calendar.CLEAR and entry.calendar is not Calendar.CLEAR:
        left["calendar"] = Setting(Calendar.ENCRYPT, entry)
    return left


def without_unnamed(settings: Settings, order: list[Entry]) -> Settings:
    """The settings without what lets a message leave in clear, where a more exact entry says `always`.

    Such an entry must name the exemption, or the wish, itself; so must a more exact one. And a whole list of
    exemptions that does not name the calendar takes back what a less exact entry says of it.

    Args:
        order: the entries from which the settings come, the most exact first.
    """
    rank = {entry.name: place for place, entry in enumerate(order)}
    kept = dict(settings)
    for name, lax in _LAX.items():
        found, encrypt, exempt = (settings.get(each) for each in (name, "encrypt", "exempt"))
        if found is None or found.entry is None or not lax(found.value):
            continue
        deciders = [encrypt] if encrypt and encrypt.value is Encrypt.ALWAYS else []
        deciders += [exempt] if exempt and name == "calendar" else []
        for decider in deciders:
            if decider.entry and rank[decider.entry.name] < rank[found.entry.name]:
                kept[name] = Setting(BUILT_IN[name].value, decider.entry)
    return kept


_LAX: Mapping[str, Callable[[Any], bool]] = {
    "exempt": bool,
    "calendar": lambda calendar: calendar is Calendar.CLEAR,
    "allow_lower": bool,
}
"""Fields that let a message leave in clear, and which of their values do."""


def _wins(name: str, setting: Setting, settings: Settings) -> bool:
    rank = _STRICTNESS.get(name)
    is_stricter = rank is not None and rank(setting.value) > rank(settings[name].value)
    return is_stricter or _overrides(setting)


def _raises_trust(extra: Settings, settings: Settings) -> bool:
    trust = extra.get("min_trust")
    return trust is not None and not _overrides(trust) and _wins("min_trust", trust, settings)


def _overrides(setting: Setting) -> bool:
    return setting.entry is not None and setting.entry.override


def _keys(settings: Settings, extra: Setting, encrypt: Encrypt) -> Setting:
    """Which sources are asked where two entries name some and neither may make the other laxer.

    Where the one would have sent in clear, it trusts no source and the other's list counts. Under `always` a
    source must be trusted by both: the list can then only shrink, at worst to nothing, which refuses. Under
    `when-possible` a shorter list would release more in clear, so the list stays.
    """
    if settings["encrypt"].value is Encrypt.NEVER:
        return extra
    keys = settings["keys"]
    trusted = tuple(name for name in keys.value if name in extra.value)
    return keys if encrypt is not Encrypt.ALWAYS or trusted == keys.value else Setting(trusted, extra.entry)


def ignored(settings: Settings, from_sender: Settings) -> list[str]:
    """What an admin might wonder about: fields of sender entries that would lower and may not."""
    return [
        f"{setting.entry.name} would lower {_YAML_NAMES.get(name, name)} but has no override: true"
        for name, setting in from_sender.items()
        if setting.entry
        and name in _STRICTNESS
        and not _wins(name, setting, settings)
        and setting.value != settings[name].value
    ]


def rule_of(settings: Settings, phrases: Mapping[str, str], lowering: list[str]) -> Rule:
    """The rule that these settings are.

    Args:
        phrases: name of an entry → how it matched, for people.
        lowering: what `ignored` found.
    """
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
    because = "; ".join([why, *inherited, *lowering])
    values = {field: setting.value for field, setting in settings.items()}
    if values["signing"] and not values["signing"].key:
        values["signing"] = None
    return Rule(name=name, because=because, deferral=_deferral(settings), **values)


def _deferral(settings: Settings) -> str:
    """The entry to change where a source cannot be asked and the client is refused for good."""
    refuses = settings["refuse_on_failure"]
    entry = (refuses if refuses.value else settings["lookup_patience_seconds"]).entry
    return entry.name if entry else "policy.default"
