"""What a rule says of the shape of a copy, in the words of the configuration: for people and for programs."""

from __future__ import annotations

from relay.rule import Rule


def as_settings(rule: Rule) -> dict[str, object]:
    """What shapes an encrypted copy or lets a message leave as it is, by the names in the configuration."""
    signing = rule.signing
    return {
        "headers": rule.headers.value,
        "format": rule.format.value,
        "exempt": sorted(rule.exempt),
        "calendar": rule.calendar.value,
        "also_encrypt_to": list(rule.also_encrypt_to),
        "sign": {"key": signing.key, "autocrypt": signing.autocrypt} if signing else None,
        "wish_to_lower": "allow" if rule.allow_lower else "refuse",
    }


def as_words(rule: Rule) -> dict[str, str]:
    """Those of them that say something, in a few words each."""
    said = {name: _words(value) for name, value in as_settings(rule).items() if value}
    if rule.signing:
        said["sign"] = rule.signing.key + (" with an Autocrypt field" if rule.signing.autocrypt else "")
    return said


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
