"""Builds the `Policy` from `policy:` and finds rules that could never do what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from relay.config.document import Document
from relay.config.problems import Path
from relay.config.schema import (
    EntrySettings,
    HkpsSource,
    KeySourceSettings,
    PolicySettings,
    SenderSettings,
    VksSource,
)
from relay.merging import Entry
from relay.message import Address
from relay.policy import Kind, Pattern, Policy, entry_name, parse_pattern
from relay.remembered import Trust
from relay.rule import Calendar, Encrypt, Exemption, Format, Headers, KeyChange, Mixed, Rule, Signing

_ANYBODY = Address("", "", "")
"""An address that only `policy.default` covers."""


class _Placed(NamedTuple):
    """An entry with what is needed to check it."""

    path: Path
    pattern: Pattern
    entry: Entry


class _Case(NamedTuple):
    """An entry with the rule that it leads to where no other entry interferes."""

    path: Path
    entry: Entry
    rule: Rule


def build_policy(
    document: Document, policy: PolicySettings, sources: Mapping[str, KeySourceSettings]
) -> Policy:
    """The policy; wrong entries are added to the problems of the document and left out."""
    recipients = _place(document, {"domains": policy.domains, "addresses": policy.addresses})
    senders = _place(document, {"senders": policy.senders})
    default = _entry("policy.default", policy.default)
    built = Policy.build(
        default, [(p.pattern, p.entry) for p in recipients], [(p.pattern, p.entry) for p in senders]
    )
    _check_lists(
        document, [(("policy", "default"), default), *((p.path, p.entry) for p in recipients + senders)]
    )
    _check_senders(document, policy.senders)
    _check_calendar(document, policy)
    _check_wishes(document, policy)
    _check_reachable(document, built, recipients, senders)
    _check_sources(document, _cases(built, default, recipients, senders), sources)
    return built


def _place(document: Document, sections: Mapping[str, Mapping[str, EntrySettings]]) -> list[_Placed]:
    """The entries of one side with their patterns, each pattern once."""
    placed: dict[Pattern, _Placed] = {}
    for section, entries in sections.items():
        for key, settings in entries.items():
            path: Path = ("policy", section, key)
            try:
                pattern = _pattern(section, key)
            except ValueError as exc:
                document.add(path, str(exc))
                continue
            entry = _entry(entry_name(section, key), settings)
            first = placed.setdefault(pattern, _Placed(path, pattern, entry))
            if first.path != path:
                document.add(path, f"covers the same addresses as {first.entry.name}; keep one of them")
    return list(placed.values())


def _pattern(section: str, key: str) -> Pattern:
    try:
        pattern = parse_pattern(key)
    except ValueError as exc:
        raise ValueError(f"this is not a pattern for addresses: {exc}") from exc
    if section == "domains" and pattern.kind is Kind.ADDRESS:
        raise ValueError("this is an address; it belongs under policy.addresses")
    if section == "addresses" and "@" not in key:
        raise ValueError("this is a domain; it belongs under policy.domains")
    return pattern


def _entry(name: str, settings: EntrySettings) -> Entry:
    return Entry(
        name=name,
        encrypt=settings.encrypt,
        keys=settings.keys,
        certificates=settings.certificates,
        mixed=Mixed(settings.mixed) if settings.mixed else None,
        release_unusable=_is(settings.unusable_key, "release"),
        refuse_on_failure=_is(settings.lookup_failure, "refuse"),
        lookup_patience_seconds=settings.lookup_patience,
        allow_routing=_is(settings.address_routing, "allow"),
        accept_encrypted=settings.accept_encrypted,
        key_change=KeyChange(settings.key_change) if settings.key_change else None,
        use_missing_pin=_is(settings.pinned_key_missing, "use-pin"),
        min_trust=settings.min_trust,
        headers=Headers(settings.headers) if settings.headers else None,
        format=Format(settings.format) if settings.format else None,
        exempt=_exempt(settings),
        calendar=_calendar(settings),
        also_encrypt_to=settings.also_encrypt_to,
        signing=_signing(name, settings),
        allow_lower=_is(settings.wish_to_lower, "allow"),
        override=isinstance(settings, SenderSettings) and settings.override,
    )


def _exempt(settings: EntrySettings) -> frozenset[Exemption] | None:
    if settings.exempt is None:
        return None
    return frozenset(map(Exemption, settings.exempt)) - {Exemption.CALENDAR}


def _calendar(settings: EntrySettings) -> Calendar | None:
    """`exempt: [calendar]` is another word for `calendar: clear`."""
    if settings.calendar is not None:
        return Calendar(settings.calendar)
    return Calendar.CLEAR if Exemption.CALENDAR in (settings.exempt or ()) else None


def _signing(name: str, settings: EntrySettings) -> Signing | None:
    if not isinstance(settings, SenderSettings) or settings.sign is None:
        return None
    return Signing(settings.sign.key, settings.sign.autocrypt, name)


def _is(value: str | None, word: str) -> bool | None:
    return None if value is None else value == word


def _check_lists(document: Document, entries: list[tuple[Path, Entry]]) -> None:
    """Names of key sources must exist; each at most once in a list."""
    declared = document.data.get("keys")
    known = list(declared) if isinstance(declared, dict) else []
    used: set[str] = set()
    for path, entry in entries:
        for index, name in enumerate(entry.keys or ()):
            used.add(name)
            if name not in known:
                hint = f"there are: {', '.join(known)}" if known else "there is none"
                document.add((*path, "keys", index), f"no key source has the name {name!r}; {hint}")
            if name in (entry.keys or ())[:index]:
                document.add((*path, "keys", index), f"{name} stands here twice")
    for name in known:
        if name not in used:
            document.warn(("keys", name), "no rule names this key source, so it is never asked")


def _check_senders(document: Document, senders: Mapping[str, SenderSettings]) -> None:
    for key, settings in senders.items():
        if settings.sign and settings.sign.key and not document.data.get("secret_keys"):
            document.add(("policy", "senders", key, "sign"), "there are no secret_keys to sign with")
        if settings.certificates is not None and not settings.override:
            document.add(
                ("policy", "senders", key, "certificates"),
                "certificates are chosen for a recipient; in a sender entry they need override: true",
            )


def _all_entries(policy: PolicySettings) -> Iterator[tuple[Path, EntrySettings]]:
    yield ("policy", "default"), policy.default
    sections: Mapping[str, Mapping[str, EntrySettings]] = {
        "domains": policy.domains,
        "addresses": policy.addresses,
        "senders": policy.senders,
    }
    for section, named in sections.items():
        for key, settings in named.items():
            yield ("policy", section, key), settings


def _check_calendar(document: Document, policy: PolicySettings) -> None:
    """Two words of one entry about calendars must not contradict each other."""
    for path, settings in _all_entries(policy):
        if settings.calendar and Exemption.CALENDAR in (settings.exempt or ()):
            document.add((*path, "exempt"), "calendar stands here and as a setting of its own; keep one")


def _check_wishes(document: Document, policy: PolicySettings) -> None:
    """A rule that listens to wishes which nobody can make."""
    wishes = document.data.get("wishes")
    found = wishes if isinstance(wishes, dict) else {}
    for path, settings in _all_entries(policy):
        if settings.wish_to_lower == "allow" and not (found.get("header") or found.get("never")):
            document.warn((*path, "wish_to_lower"), "wishes names neither a header nor a tag for it")
    always, never = (str(found.get(name) or "").lower() for name in ("always", "never"))
    if always and always == never:
        document.add(("wishes", "never"), "is the same tag as wishes.always")


def _check_reachable(
    document: Document, policy: Policy, recipients: list[_Placed], senders: list[_Placed]
) -> None:
    """Every rule that looks for keys must have a source to look in."""
    if document.is_broken(("policy", "default", "keys")):
        return  # everything that inherits from it would be reported as well
    rule = policy.rule_for(None, _ANYBODY)
    default_works = rule.encrypt is Encrypt.NEVER or bool(rule.keys)
    if not default_works:
        document.add(
            ("policy", "default", "keys"),
            f"names no key source, so encrypt: {rule.encrypt} could never find a key; list some in keys: []",
        )
    for path, pattern, entry in recipients:
        rule = policy.rule_for(None, _sample(pattern))
        if _speaks(entry) and rule.encrypt is not Encrypt.NEVER and not rule.keys:
            document.add(path, f"names no key source, so encrypt: {rule.encrypt} could never find a key")
    for path, pattern, entry in senders:
        rule = policy.rule_for(_sample(pattern), _ANYBODY)
        if default_works and _speaks(entry) and rule.encrypt is not Encrypt.NEVER and not rule.keys:
            document.add(
                path, "shares no key source with policy.default, so no key could ever be found; see override"
            )


def _speaks(entry: Entry) -> bool:
    """Whether a missing key source is this entry's doing, not only inherited."""
    return entry.encrypt is not None or entry.keys is not None


def _cases(policy: Policy, default: Entry, recipients: list[_Placed], senders: list[_Placed]) -> list[_Case]:
    """Every entry whose rule looks for keys, the default first."""
    cases = [_Case(("policy", "default"), default, policy.rule_for(None, _ANYBODY))]
    for path, pattern, entry in recipients:
        cases.append(_Case(path, entry, policy.rule_for(None, _sample(pattern))))
    for path, pattern, entry in senders:
        cases.append(_Case(path, entry, policy.rule_for(_sample(pattern), _ANYBODY)))
    return [case for case in cases if case.rule.encrypt is not Encrypt.NEVER]


def _check_sources(document: Document, cases: list[_Case], sources: Mapping[str, KeySourceSettings]) -> None:
    """Rules whose sources cannot do what the rule demands, or do what an admin should know of."""
    for case in cases:
        speaks = _speaks(case.entry) or case.entry.min_trust or case.path == ("policy", "default")
        if speaks and _is_beyond_reach(case.rule, sources):
            trust = case.rule.min_trust.word
            document.add(
                (*case.path, "min_trust"),
                f"no source in keys reaches min_trust {trust}, so no key could ever be used",
            )
        _warn_of_release(document, case)
        if case.entry.format is Format.INLINE and case.rule.headers is Headers.PROTECT:
            document.add(
                (*case.path, "format"),
                "an inline message has no room for the header, so headers: keep (or keep-replies) must stand"
                " beside it",
            )
    for name, source in sources.items():
        _warn_of_source(document, name, source, [case.rule for case in cases if name in case.rule.keys])


def _warn_of_release(document: Document, case: _Case) -> None:
    speaks = case.entry.min_trust or case.entry.release_unusable
    if speaks and _releases(case.rule) and case.rule.release_unusable and case.rule.min_trust > min(Trust):
        document.warn(
            case.path,
            f"with unusable_key: release, mail leaves in clear where the only key comes from a source below"
            f" min_trust {case.rule.min_trust.word}",
        )


def _is_beyond_reach(rule: Rule, sources: Mapping[str, KeySourceSettings]) -> bool:
    known = [sources[name].trust for name in rule.keys if name in sources]
    # a source that is missing or wrong is a problem of its own, and might have been the one
    return bool(known) and len(known) == len(rule.keys) and max(known) < rule.min_trust


def _releases(rule: Rule) -> bool:
    return rule.encrypt is Encrypt.WHEN_POSSIBLE


def _warn_of_source(document: Document, name: str, source: KeySourceSettings, rules: list[Rule]) -> None:
    """What the rules that name a source have to know about it."""
    if rules and isinstance(source, VksSource | HkpsSource):
        document.warn(
            ("keys", name),
            f"the addresses of recipients are sent to a third party, {source.url}; tell the people concerned",
        )
    released = [rule.name for rule in rules if _releases(rule)]
    if released and source.unreachable_means:
        document.warn(
            ("keys", name, "unreachable_means"),
            f"with encrypt: when-possible ({released[0]}), an attacker in the network who blocks this source"
            " forces clear text for addresses that were never seen with a key",
        )


def _sample(pattern: Pattern) -> Address:
    """An address that the pattern covers, and no more exact entry does."""
    if pattern.kind is Kind.ADDRESS:
        local, _, domain = pattern.value.rpartition("@")
        return Address(pattern.value, local, domain)
    domain = pattern.value if pattern.kind is Kind.DOMAIN else f".{pattern.value}"
    return Address(f"@{domain}", "", domain)
