"""Which rule is in force: every way of matching, and what can never lower a rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.merging import Entry
from relay.policy import Kind, Pattern, Policy, entry_name, parse_pattern
from relay.remembered import Trust
from relay.rule import Calendar, Encrypt, Exemption, Format, Headers, KeyChange, Mixed, Rule, Signing

ALWAYS, WHEN_POSSIBLE, NEVER = Encrypt.ALWAYS, Encrypt.WHEN_POSSIBLE, Encrypt.NEVER
Entries = dict[str, dict[str, Any]]


def policy(
    default: dict[str, Any], recipients: Entries | None = None, senders: Entries | None = None
) -> Policy:
    return Policy.build(
        Entry(name="policy.default", **default),
        [(parse_pattern(key), Entry(name=key, **fields)) for key, fields in (recipients or {}).items()],
        [
            (parse_pattern(key), Entry(name=f"from {key}", **fields))
            for key, fields in (senders or {}).items()
        ],
    )


def rule(of: Policy, recipient: str, sender: str | None = None) -> Rule:
    return of.rule_for(parse_mailbox(sender) if sender else None, parse_mailbox(recipient))


MATCHING = policy(
    {"encrypt": ALWAYS},
    {
        "partner.example": {"encrypt": NEVER},
        "*.gov.example": {"encrypt": NEVER},
        "*.tax.gov.example": {"encrypt": WHEN_POSSIBLE},
        "open.tax.gov.example": {"encrypt": ALWAYS},
        "bücher.example": {"encrypt": NEVER},
        "*.straße.example": {"encrypt": NEVER},
        "Bob@Partner.Example.": {"encrypt": WHEN_POSSIBLE},
        '"o d d"@partner.example': {"encrypt": WHEN_POSSIBLE},
        "*@all.example": {"encrypt": NEVER},
        "*@*.all.example": {"encrypt": WHEN_POSSIBLE},
        "x@[192.0.2.1]": {"encrypt": WHEN_POSSIBLE},
        "[192.0.2.1]": {"encrypt": NEVER},
        "*.localhost": {"encrypt": NEVER},
    },
)


@pytest.mark.parametrize(
    ("recipient", "name"),
    [
        ("bob@partner.example", "Bob@Partner.Example."),
        ("BOB@PARTNER.EXAMPLE", "Bob@Partner.Example."),
        ('"bob"@partner.example', "Bob@Partner.Example."),
        (r'"b\ob"@partner.example.', "Bob@Partner.Example."),
        ("bob@partner\uff0eexample", "Bob@Partner.Example."),
        (r'"o\ d d"@partner.example', '"o d d"@partner.example'),
        ("bobby@partner.example", "partner.example"),
        ("bo.b@partner.example", "partner.example"),
        ("bob@sub.partner.example", "policy.default"),
        ("bob@xpartner.example", "policy.default"),
        ("bob@partner.example.org", "policy.default"),
        ("bob@gov.example", "policy.default"),
        ("bob@a.gov.example", "*.gov.example"),
        ("bob@x.a.gov.example", "*.gov.example"),
        ("bob@agov.example", "policy.default"),
        ("bob@tax.gov.example", "*.gov.example"),
        ("bob@a.tax.gov.example", "*.tax.gov.example"),
        ("bob@x.a.tax.gov.example", "*.tax.gov.example"),
        ("bob@open.tax.gov.example", "open.tax.gov.example"),
        ("bob@x.open.tax.gov.example", "*.tax.gov.example"),
        ("bob@xn--bcher-kva.example", "bücher.example"),
        ("bob@BÜCHER.example", "bücher.example"),
        ("bob@bu\u0308cher.example", "bücher.example"),
        ("bob@bucher.example", "policy.default"),
        ("bob@a.xn--strae-oqa.example", "*.straße.example"),
        ("bob@a.strasse.example", "policy.default"),
        ("bob@all.example", "*@all.example"),
        ("bob@a.all.example", "*@*.all.example"),
        ("x@[192.0.2.1]", "x@[192.0.2.1]"),
        ("y@[192.0.2.1]", "[192.0.2.1]"),
        ("y@[192.0.2.2]", "policy.default"),
        ("y@a.localhost", "*.localhost"),
        ("bob%partner.example@relay.example", "policy.default"),
        ('"bob@partner.example"@relay.example', "policy.default"),
    ],
)
def test_rule_for_recipient_takes_the_most_exact_entry(recipient: str, name: str) -> None:
    """Exact address, exact domain, longest wildcard, default; in every spelling of the address."""
    assert name == rule(MATCHING, recipient).name


def test_rule_for_missing_fields_come_from_the_next_more_general_entry() -> None:
    """Each field is inherited by itself, over as many entries as it takes, down to the built-in default."""
    of = policy(
        {"encrypt": NEVER, "keys": ("folder",), "mixed": Mixed.SPLIT},
        {
            "*.example": {"encrypt": ALWAYS, "lookup_patience_seconds": 60},
            "*.corp.example": {"keys": ("keyring",)},
            "a.corp.example": {"accept_encrypted": True},
            "bob@a.corp.example": {"certificates": ("F" * 40,)},
        },
    )

    found = rule(of, "bob@a.corp.example")
    assert "*.example" == found.name
    assert (ALWAYS, ("keyring",), ("F" * 40,)) == (found.encrypt, found.keys, found.certificates)
    assert (Mixed.SPLIT, 60, True) == (found.mixed, found.lookup_patience_seconds, found.accept_encrypted)
    assert (False, False, False) == (found.release_unusable, found.refuse_on_failure, found.allow_routing)
    assert (KeyChange.HOLD, False, Trust.LEARNED) == (
        found.key_change,
        found.use_missing_pin,
        found.min_trust,
    )


def test_rule_for_empty_list_is_not_inherited() -> None:
    """An entry that says `keys: []` says something."""
    of = policy({"keys": ("folder",), "certificates": ("F" * 40,)}, {"a.example": {"certificates": ()}})

    assert (("folder",), ()) == (rule(of, "b@a.example").keys, rule(of, "b@a.example").certificates)


def test_rule_for_nothing_configured_is_always() -> None:
    """The built-in default encrypts, and is as strict as can be in everything else."""
    found = rule(policy({}), "bob@x.example")

    assert Rule(name="policy.default", because=found.because) == found
    assert ALWAYS is found.encrypt


STRICT_BOB = {
    "encrypt": ALWAYS,
    "mixed": Mixed.REFUSE,
    "keys": ("keyring",),
    "certificates": ("F" * 40,),
    "accept_encrypted": False,
    "key_change": KeyChange.REFUSE,
    "use_missing_pin": False,
    "min_trust": Trust.MANUAL,
}
LAX = {
    "encrypt": NEVER,
    "mixed": Mixed.SPLIT,
    "release_unusable": True,
    "allow_routing": True,
    "accept_encrypted": True,
    "key_change": KeyChange.ACCEPT,
    "use_missing_pin": True,
    "min_trust": Trust.LEARNED,
    "keys": ("wkd", "keyring"),
}


@pytest.mark.parametrize("recipient", ["bob+tag@x.example", "BOB+a+b@x.example", '"bob+t g"@x.example'])
def test_rule_for_sub_address_is_covered_where_the_base_is_stricter(recipient: str) -> None:
    """A strict address entry reaches its sub-addresses, except for certificates chosen by hand."""
    found = rule(policy({}, {"x.example": LAX, "bob@x.example": STRICT_BOB}), recipient)

    assert ("bob@x.example", ALWAYS, Mixed.REFUSE, False) == (
        found.name,
        found.encrypt,
        found.mixed,
        found.accept_encrypted,
    )
    assert (KeyChange.REFUSE, False, Trust.MANUAL) == (
        found.key_change,
        found.use_missing_pin,
        found.min_trust,
    )
    assert ("keyring",) == found.keys
    assert () == found.certificates
    assert "base address" in found.because


@pytest.mark.parametrize("recipient", ["bob+tag@x.example", "bob+a+b@x.example"])
def test_rule_for_sub_address_is_not_covered_where_the_base_is_laxer(recipient: str) -> None:
    """A lax address entry is for that address alone, in every field."""
    of = policy({"keys": ("keyring",)}, {"bob@x.example": {**LAX, "lookup_patience_seconds": 10**6}})

    found = rule(of, recipient)
    assert Rule(name="policy.default", because=found.because, keys=("keyring",)) == found


def test_rule_for_sub_address_is_covered_field_by_field() -> None:
    """Of one base entry the stricter fields count and the laxer ones do not."""
    base: dict[str, Any] = {"encrypt": NEVER, "mixed": Mixed.REFUSE, "lookup_patience_seconds": 60}
    found = rule(policy({"mixed": Mixed.SPLIT}, {"bob@x.example": base}), "bob+tag@x.example")

    assert (ALWAYS, Mixed.REFUSE, 60) == (found.encrypt, found.mixed, found.lookup_patience_seconds)


@pytest.mark.parametrize(
    "recipient", ["bobby+tag@x.example", "+bob@x.example", "bob@y.example", "ann+bob@x.example"]
)
def test_rule_for_other_address_is_not_a_sub_address(recipient: str) -> None:
    """Only what stands before a + is a base address."""
    of = policy({"encrypt": NEVER}, {"bob@x.example": {"encrypt": ALWAYS}})

    assert NEVER is rule(of, recipient).encrypt


def test_rule_for_sub_address_with_an_entry_of_its_own_keeps_it() -> None:
    """An admin who names a sub-address means it; what the entry leaves out is covered by the base."""
    of = policy(
        {"encrypt": NEVER, "mixed": Mixed.SPLIT},
        {
            "bob@x.example": {"encrypt": ALWAYS, "mixed": Mixed.REFUSE},
            "bob+news@x.example": {"encrypt": NEVER},
        },
    )

    found = rule(of, "bob+news@x.example")
    assert (NEVER, Mixed.REFUSE) == (found.encrypt, found.mixed)
    assert ALWAYS is rule(of, "bob+other@x.example").encrypt
    assert ALWAYS is rule(of, "bob+news+x@x.example").encrypt


@pytest.mark.parametrize("of_recipient", Encrypt)
@pytest.mark.parametrize("of_sender", Encrypt)
def test_rule_for_both_match_the_stricter_encrypt_wins(of_recipient: Encrypt, of_sender: Encrypt) -> None:
    """Without override the sender's entry can only raise."""
    of = policy({}, {"b.example": {"encrypt": of_recipient}}, {"a.example": {"encrypt": of_sender}})

    found = rule(of, "x@b.example", "y@a.example")
    order = [NEVER, WHEN_POSSIBLE, ALWAYS]
    assert max(of_recipient, of_sender, key=order.index) is found.encrypt
    raises = order.index(of_sender) > order.index(of_recipient)
    assert ("from a.example" if raises else "b.example") == found.name


@pytest.mark.parametrize("of_recipient", Encrypt)
@pytest.mark.parametrize("of_sender", Encrypt)
def test_rule_for_override_decides(of_recipient: Encrypt, of_sender: Encrypt) -> None:
    """With override the sender's entry decides, whichever way."""
    senders: Entries = {"a.example": {"encrypt": of_sender, "override": True}}
    of = policy({}, {"b.example": {"encrypt": of_recipient}}, senders)

    assert of_sender is rule(of, "x@b.example", "y@a.example").encrypt


def test_rule_for_override_is_not_inherited() -> None:
    """A more exact sender entry without override does not lower on the strength of its domain's override."""
    senders: Entries = {
        "a.example": {"mixed": Mixed.SPLIT, "override": True},
        "y@a.example": {"encrypt": NEVER},
    }

    found = rule(policy({}, {}, senders), "x@b.example", "y@a.example")
    assert (ALWAYS, Mixed.SPLIT) == (found.encrypt, found.mixed)
    assert "from y@a.example would lower encrypt but has no override: true" in found.because


def test_rule_for_sender_fields_without_override_only_tighten() -> None:
    """Every field of a sender entry, not only `encrypt`, needs override to make a rule laxer."""
    strict = {**LAX, "encrypt": ALWAYS}
    senders: Entries = {"a.example": {name: value for name, value in strict.items() if name != "keys"}}

    found = rule(policy({}, {}, senders), "x@b.example", "y@a.example")
    assert Rule(name="policy.default", because=found.because) == found


@pytest.mark.parametrize("sender", ["ceo+x@a.example", "CEO+x+y@a.example"])
def test_rule_for_sender_sub_address_is_covered_but_never_overrides(sender: str) -> None:
    """A sender's sub-address gets what is stricter, and nothing of an override."""
    raising = policy({"encrypt": NEVER}, {}, {"ceo@a.example": {"encrypt": ALWAYS}})
    lowering = policy({}, {}, {"ceo@a.example": {"encrypt": NEVER, "override": True}})

    assert ALWAYS is rule(raising, "x@b.example", sender).encrypt
    assert ALWAYS is rule(lowering, "x@b.example", sender).encrypt


def test_rule_for_sender_sub_address_with_an_entry_of_its_own_keeps_it() -> None:
    """A sender's sub-address that the admin names is not covered by its base in what its entry says."""
    senders: Entries = {
        "ceo@a.example": {"encrypt": ALWAYS, "mixed": Mixed.REFUSE},
        "ceo+news@a.example": {"encrypt": NEVER},
    }
    of = policy({"encrypt": NEVER, "mixed": Mixed.SPLIT}, {}, senders)

    found = rule(of, "x@b.example", "ceo+news@a.example")
    assert (NEVER, Mixed.REFUSE) == (found.encrypt, found.mixed)


def test_rule_for_null_sender_matches_no_sender_entry() -> None:
    """Bounces have the recipient's rule, never an exemption of a sender."""
    of = policy({}, {}, {"a.example": {"encrypt": NEVER, "override": True}})

    assert ALWAYS is rule(of, "x@b.example").encrypt


@pytest.mark.parametrize(
    ("sender", "name"),
    [
        ("ann@hr.example", "from ann@hr.example"),
        ("ANN@HR.example.", "from ann@hr.example"),
        ("bob@hr.example", "from *@hr.example"),
        ("bob@x.dept.example", "from *.dept.example"),
        ("bob@dept.example", "policy.default"),
        ("bob@other.example", "policy.default"),
    ],
)
def test_rule_for_sender_is_matched_like_a_recipient(sender: str, name: str) -> None:
    """Sender entries have the same shape and the same precedence."""
    fields = {"encrypt": ALWAYS}
    senders = {"*@hr.example": fields, "ann@hr.example": fields, "*.dept.example": fields}

    assert name == rule(policy({"encrypt": NEVER}, {}, senders), "x@b.example", sender).name


@pytest.mark.parametrize(
    ("recipient", "sender", "keys"),
    [
        ({"encrypt": ALWAYS, "keys": ("a", "b", "c")}, {"keys": ("c", "a", "x")}, ("a", "c")),
        ({"encrypt": ALWAYS, "keys": ("a",)}, {"keys": ("a", "b")}, ("a",)),
        ({"encrypt": ALWAYS, "keys": ("a",)}, {"keys": ("b",)}, ()),
        ({"encrypt": ALWAYS, "keys": ("a",)}, {"encrypt": ALWAYS}, ("a",)),
        ({"encrypt": WHEN_POSSIBLE, "keys": ("a", "b")}, {"keys": ("a",)}, ("a", "b")),
        ({"encrypt": WHEN_POSSIBLE, "keys": ("a", "b")}, {"encrypt": ALWAYS, "keys": ("b",)}, ("b",)),
        ({"encrypt": NEVER, "keys": ("a",)}, {"encrypt": ALWAYS, "keys": ("b",)}, ("b",)),
        ({"encrypt": NEVER, "keys": ("a",)}, {"encrypt": WHEN_POSSIBLE}, ("a",)),
        ({"encrypt": ALWAYS, "keys": ("a",)}, {"keys": ("b",), "override": True}, ("b",)),
        (
            {"encrypt": ALWAYS, "keys": ("a", "b")},
            {"encrypt": WHEN_POSSIBLE, "keys": ("b",), "override": True},
            ("b",),
        ),
    ],
)
def test_rule_for_keys_of_sender_and_recipient(
    recipient: dict[str, Any], sender: dict[str, Any], keys: tuple[str, ...]
) -> None:
    """Under always both must trust a source; a list that would release more in clear if shorter stays."""
    of = policy({}, {"b.example": recipient}, {"a.example": sender})

    assert keys == rule(of, "x@b.example", "y@a.example").keys


def test_rule_for_inherited_sender_keys_do_not_narrow_what_an_override_lowered() -> None:
    """What counts for the keys is the final `encrypt`: under when-possible the recipient's list stays."""
    senders: Entries = {
        "a.example": {"keys": ("a",)},
        "y@a.example": {"encrypt": WHEN_POSSIBLE, "override": True},
    }
    of = policy({"encrypt": ALWAYS, "keys": ("a", "b")}, {}, senders)

    assert ("a", "b") == rule(of, "x@b.example", "y@a.example").keys


def test_rule_for_certificates_are_the_recipients_without_override() -> None:
    """A certificate is trusted for a recipient; a sender entry changes that only with override."""
    one, other = ("1" * 40,), ("2" * 40,)
    recipients = {"b.example": {"certificates": one}}
    plain = policy({}, recipients, {"a.example": {"certificates": other}})
    override = policy({}, recipients, {"a.example": {"certificates": other, "override": True}})

    assert one == rule(plain, "x@b.example", "y@a.example").certificates
    assert other == rule(override, "x@b.example", "y@a.example").certificates


@pytest.mark.parametrize(
    ("field", "strict", "lax"),
    [
        ("key_change", KeyChange.REFUSE, KeyChange.HOLD),
        ("key_change", KeyChange.HOLD, KeyChange.ACCEPT),
        ("use_missing_pin", False, True),
        ("min_trust", Trust.MANUAL, Trust.DNSSEC),
        ("min_trust", Trust.THIRD_PARTY, Trust.LEARNED),
    ],
)
def test_rule_for_pins_and_trust_the_stricter_side_wins(field: str, strict: object, lax: object) -> None:
    """Of a recipient's and a sender's entry the stricter value counts, and `override` decides."""
    raising = policy({}, {"b.example": {field: lax}}, {"a.example": {field: strict}})
    lowering = policy({}, {"b.example": {field: strict}}, {"a.example": {field: lax}})
    override = policy({}, {"b.example": {field: strict}}, {"a.example": {field: lax, "override": True}})

    found = [getattr(rule(of, "x@b.example", "y@a.example"), field) for of in (raising, lowering, override)]
    assert [strict, strict, lax] == found
    name = {"use_missing_pin": "pinned_key_missing"}.get(field, field)
    because = rule(lowering, "x@b.example", "y@a.example").because
    assert f"from a.example would lower {name} but has no override: true" in because


@pytest.mark.parametrize(
    ("sender", "released"),
    [
        ({"min_trust": Trust.DNSSEC}, False),
        ({"min_trust": Trust.WKD}, True),
        ({"min_trust": Trust.LEARNED}, True),
        ({"mixed": Mixed.REFUSE}, True),
        ({"min_trust": Trust.DNSSEC, "override": True}, True),
    ],
)
def test_rule_for_raised_trust_never_releases(sender: dict[str, Any], released: bool) -> None:
    """A key that became unusable because a sender demands a better one must not release the mail in clear."""
    recipient = {"encrypt": WHEN_POSSIBLE, "release_unusable": True, "min_trust": Trust.WKD}
    of = policy({}, {"b.example": recipient}, {"a.example": sender})

    found = rule(of, "x@b.example", "y@a.example")
    assert released == found.release_unusable
    assert ("unusable_key from from a.example" in found.because) is not released


def test_rule_because_says_what_matched_and_what_was_inherited() -> None:
    """The sentence names the deciding entry, the reason, and where the other fields come from."""
    of = policy({"keys": ("folder",)}, {"b.example": {"encrypt": WHEN_POSSIBLE}})

    assert (
        "b.example covers the recipient's domain; keys from policy.default" == rule(of, "x@b.example").because
    )


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Bob@X.example", Pattern(Kind.ADDRESS, "bob@x.example")),
        ("X.example.", Pattern(Kind.DOMAIN, "x.example")),
        ("*@X.example", Pattern(Kind.DOMAIN, "x.example")),
        ("*.X.example", Pattern(Kind.WILDCARD, "x.example")),
        ("*@*.x.example", Pattern(Kind.WILDCARD, "x.example")),
        ("*.Bücher.example", Pattern(Kind.WILDCARD, "xn--bcher-kva.example")),
        ("*.example", Pattern(Kind.WILDCARD, "example")),
        ("'*'@x.example", None),
        ("*", None),
        ("*@*", None),
        ("", None),
        ("*.", None),
        ("*example.com", None),
        ("a.*.example", None),
        ("**.example", None),
        ("bob*@x.example", None),
        ("*.*.example", None),
        ("localhost", None),
        ("bob@", None),
        ("@x.example", None),
        ("*.[192.0.2.1]", None),
    ],
)
def test_parse_pattern(text: str, pattern: Pattern | None) -> None:
    """Keys of entries are normalised as addresses are; `*` stands first, for labels or for local parts."""
    if pattern is None:
        with pytest.raises(ValueError, match=r"\w"):
            parse_pattern(text)
    else:
        assert pattern == parse_pattern(text)


def test_build_same_pattern_twice_raises() -> None:
    """Two entries for one domain in two spellings cannot both be meant."""
    with pytest.raises(ValueError, match="two entries"):
        policy({}, {"bücher.example": {}, "xn--bcher-kva.example": {}})


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("*.gov.example", 'policy.domains["*.gov.example"]'),
        ('"o d"@x.example', r'policy.domains["\"o d\"@x.example"]'),
        ("bücher.example", r'policy.domains["b\u00fccher.example"]'),
        ("x" * 500, f'policy.domains["{"x" * 120}..."]'),
    ],
)
def test_entry_name_is_ascii_quoted_and_bounded(key: str, name: str) -> None:
    """A name may stand in an SMTP reply whatever the key was."""
    assert name == entry_name("domains", key)


# --------------------------------------------------------------------------- properties

RANKS: dict[str, list[Any]] = {
    "encrypt": [NEVER, WHEN_POSSIBLE, ALWAYS],
    "mixed": [Mixed.SPLIT, Mixed.REFUSE],
    "release_unusable": [True, False],
    "refuse_on_failure": [False, True],
    "lookup_patience_seconds": [86_400, 3600, 0],
    "allow_routing": [True, False],
    "accept_encrypted": [True, False],
    "key_change": [KeyChange.ACCEPT, KeyChange.HOLD, KeyChange.REFUSE],
    "use_missing_pin": [True, False],
    "min_trust": [Trust.LEARNED, Trust.WKD, Trust.MANUAL],
}
FIELDS = st.fixed_dictionaries({}, optional={name: st.sampled_from(ranks) for name, ranks in RANKS.items()})
STRICTEST = FIELDS.map(lambda fields: {name: RANKS[name][-1] for name in fields})
PATTERNS = st.sampled_from(
    ["bob@a.b.example", "bob+t@a.b.example", "a.b.example", "*.b.example", "*.example", "bob+t+u@a.b.example"]
)
ADDRESSES = st.sampled_from(
    [
        "bob@a.b.example",
        "bob+t@a.b.example",
        "bob+t+u@a.b.example",
        "ann@a.b.example",
        "x@b.example",
        "x@c.example",
    ]
)
RECIPIENTS = st.dictionaries(PATTERNS, FIELDS, max_size=4)
SENDERS = st.dictionaries(
    PATTERNS,
    st.builds(lambda fields, override: {**fields, "override": override}, FIELDS, st.booleans()),
    max_size=4,
)


def is_laxer(one: Rule, other: Rule) -> bool:
    """Whether `one` is laxer than `other` in any field that has an order."""
    return any(
        ranks.index(getattr(one, name)) < ranks.index(getattr(other, name)) for name, ranks in RANKS.items()
    )


@settings(max_examples=100, deadline=None)
@given(FIELDS, RECIPIENTS, SENDERS, st.tuples(ADDRESSES, ADDRESSES), st.tuples(PATTERNS, STRICTEST))
def test_rule_for_adding_a_strictest_entry_never_lowers(
    default: dict[str, Any],
    recipients: Entries,
    senders: Entries,
    addresses: tuple[str, str],
    added: tuple[str, dict[str, Any]],
) -> None:
    """An entry whose fields are all at their strictest makes no rule of any address laxer, on either side."""
    key, strictest = added
    before = rule(policy(default, {**recipients, key: {}}, {**senders, key: {}}), *addresses)

    of_recipient = rule(policy(default, {**recipients, key: strictest}, {**senders, key: {}}), *addresses)
    of_sender = rule(policy(default, {**recipients, key: {}}, {**senders, key: strictest}), *addresses)
    assert not is_laxer(of_recipient, before)
    assert not is_laxer(of_sender, before)


@settings(max_examples=100, deadline=None)
@given(FIELDS, RECIPIENTS, SENDERS, ADDRESSES, ADDRESSES)
def test_rule_for_sender_entries_without_override_never_lower(
    default: dict[str, Any], recipients: Entries, senders: Entries, recipient: str, sender: str
) -> None:
    """Whatever sender entries say, without override no rule is laxer than for the null sender."""
    harmless = {key: {**fields, "override": False} for key, fields in senders.items()}
    of = policy(default, recipients, harmless)

    assert not is_laxer(rule(of, recipient, sender), rule(of, recipient))


@settings(max_examples=100, deadline=None)
@given(FIELDS, RECIPIENTS, FIELDS, ADDRESSES)
def test_rule_for_base_entry_never_lowers_a_sub_address(
    default: dict[str, Any], recipients: Entries, base: dict[str, Any], recipient: str
) -> None:
    """The entry of an address makes no rule of its sub-addresses laxer, whatever it says."""
    others = {key: fields for key, fields in recipients.items() if key != "bob@a.b.example"}
    with_base = policy(default, {**others, "bob@a.b.example": base})

    if recipient != "bob@a.b.example":
        assert not is_laxer(rule(with_base, recipient), rule(policy(default, others), recipient))


@settings(max_examples=100, deadline=None)
@given(FIELDS, RECIPIENTS, SENDERS, ADDRESSES, ADDRESSES)
def test_rule_for_other_spelling_has_the_same_rule(
    default: dict[str, Any], recipients: Entries, senders: Entries, recipient: str, sender: str
) -> None:
    """Case, quoting and a trailing dot of either address change nothing."""
    of = policy(default, recipients, senders)

    def spelled(address: str) -> str:
        local, _, domain = address.partition("@")
        return f'"{local.upper()}"@{domain.upper()}.'

    assert rule(of, recipient, sender) == rule(of, spelled(recipient), spelled(sender))


def test_rule_for_null_sender_is_as_strict_as_any_sender_entry() -> None:
    """Anybody may write as `<>`, so leaving the sender out never makes a message leave less protected."""
    default = Entry(name="policy.default", encrypt=Encrypt.WHEN_POSSIBLE, keys=("folder",))
    strict = Entry(name="policy.senders.hr", encrypt=Encrypt.ALWAYS)
    lax = Entry(name="policy.senders.robot", encrypt=Encrypt.NEVER, override=True)
    senders = [(parse_pattern("*@hr.example.com"), strict), (parse_pattern("robot@example.com"), lax)]
    recipient = parse_mailbox("bob@example.org")

    rule = Policy.build(default, [], senders).rule_for_null_sender(recipient)

    assert (Encrypt.ALWAYS, "policy.senders.hr") == (rule.encrypt, rule.name)
    only_lax = Policy.build(default, [], senders[1:]).rule_for_null_sender(recipient)
    assert Encrypt.WHEN_POSSIBLE is only_lax.encrypt


def test_rule_for_names_the_entry_that_defers() -> None:
    """Whoever reads why a refusal is final is told where to change it, not which entry demands encryption."""
    of = policy(
        {"encrypt": ALWAYS, "keys": ("folder",), "lookup_patience_seconds": 60},
        {"partner.example": {"encrypt": ALWAYS}, "bob@partner.example": {"refuse_on_failure": True}},
    )

    found = [rule(of, recipient).deferral for recipient in ("bob@partner.example", "eve@partner.example")]

    assert ["bob@partner.example", "policy.default"] == found


MDN, DSN, LIST = frozenset({Exemption.MDN}), frozenset({Exemption.DSN}), frozenset({Exemption.LIST})


@pytest.mark.parametrize(
    ("default", "recipient", "expected"),
    [
        ({"encrypt": ALWAYS, "exempt": MDN}, {}, MDN),
        ({"encrypt": ALWAYS, "exempt": MDN}, {"keys": ("k",)}, MDN),
        ({"encrypt": ALWAYS, "exempt": MDN}, {"encrypt": ALWAYS}, frozenset()),
        ({"encrypt": WHEN_POSSIBLE, "exempt": MDN}, {"encrypt": ALWAYS}, frozenset()),
        ({"encrypt": WHEN_POSSIBLE, "exempt": MDN}, {"encrypt": ALWAYS, "exempt": DSN}, DSN),
        ({"encrypt": ALWAYS, "exempt": MDN}, {"encrypt": WHEN_POSSIBLE}, MDN),
        ({"encrypt": ALWAYS}, {"exempt": DSN}, DSN),
        ({"encrypt": ALWAYS, "calendar": Calendar.CLEAR}, {"encrypt": ALWAYS}, frozenset()),
        ({"encrypt": ALWAYS, "calendar": Calendar.CLEAR}, {}, frozenset({Exemption.CALENDAR})),
    ],
)
def test_rule_for_exemption_counts_where_the_rule_that_says_always_names_it(
    default: dict[str, Any], recipient: dict[str, Any], expected: frozenset[Exemption]
) -> None:
    """What a less exact entry exempts does not hold against an `always` that is more exact."""
    found = rule(policy(default, {"a.example": recipient}), "bob@a.example")

    assert expected == found.exemptions


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ({"encrypt": ALWAYS}, frozenset()),
        ({"encrypt": ALWAYS, "exempt": MDN | LIST}, MDN),
        ({"exempt": LIST}, MDN | DSN),
        ({"exempt": LIST, "override": True}, LIST),
        ({"encrypt": WHEN_POSSIBLE}, MDN | DSN),
        ({"encrypt": ALWAYS, "override": True}, frozenset()),
    ],
)
def test_rule_for_sender_with_always_leaves_the_exemptions_that_it_names(
    sender: dict[str, Any], expected: frozenset[Exemption]
) -> None:
    """The `always` of a sender stands beside that of the recipient, and each must name the exemption."""
    of = policy({"encrypt": ALWAYS, "exempt": MDN | DSN}, senders={"hr.example": sender})

    assert expected == rule(of, "bob@a.example", "eve@hr.example").exemptions


def test_rule_for_calendar_refused_by_the_default_stays_refused_under_always() -> None:
    """A refusal is no exemption: `always` of a more exact entry does not take it back."""
    of = policy({"calendar": Calendar.REFUSE}, {"a.example": {"encrypt": ALWAYS}})

    assert Calendar.REFUSE is rule(of, "bob@a.example").calendar


def test_rule_for_null_sender_takes_exemptions_that_some_sender_s_always_does_not_name() -> None:
    """Whoever hides the sender may be one whose messages are always encrypted."""
    of = policy({"encrypt": ALWAYS, "exempt": MDN}, senders={"hr.example": {"encrypt": ALWAYS}})

    assert frozenset() == of.rule_for_null_sender(parse_mailbox("bob@a.example")).exemptions


def test_rule_for_readers_of_both_sides_are_added() -> None:
    """A sender's own copy does not take the archive away, nor the other way round."""
    of = policy(
        {"also_encrypt_to": ("AAAA",)}, senders={"a.example": {"also_encrypt_to": ("sender", "AAAA")}}
    )

    assert ("AAAA", "sender") == rule(of, "x@b.example", "me@a.example").also_encrypt_to
    assert ("AAAA",) == of.rule_for_null_sender(parse_mailbox("x@b.example")).also_encrypt_to


def test_rule_for_readers_and_signature_of_a_base_address_reach_sub_addresses() -> None:
    """An archive is not evaded, nor a signature lost, by a sub-address; it is the same person."""
    own = {"also_encrypt_to": ("BBBB",), "signing": Signing("AA")}
    of = policy({}, {"bob@a.example": {"also_encrypt_to": ("AAAA",)}}, {"me@b.example": own})
    found = rule(of, "bob+x@a.example", "me+x@b.example")

    assert (("AAAA", "BBBB"), Signing("AA")) == (found.also_encrypt_to, found.signing)
    assert Signing("AA") == of.signing_for(parse_mailbox("me+x@b.example"))


@pytest.mark.parametrize(
    ("recipients", "senders"),
    [
        ({"a.example": {"encrypt": ALWAYS}}, {}),
        ({}, {"hr.example": {"encrypt": ALWAYS}}),
        ({"bob@a.example": {"encrypt": ALWAYS}}, {}),
    ],
)
@pytest.mark.parametrize("sender", ["eve@hr.example", None])
def test_rule_for_always_of_an_entry_is_not_lowered_by_a_wish_that_it_does_not_allow(
    recipients: Entries, senders: Entries, sender: str | None
) -> None:
    """`wish_to_lower` is an exemption like any other: who says `always` must allow it."""
    of = policy({"encrypt": WHEN_POSSIBLE, "allow_lower": True}, recipients, senders)
    to = parse_mailbox("bob+x@a.example")
    found = of.rule_for(parse_mailbox(sender), to) if sender else of.rule_for_null_sender(to)

    assert (ALWAYS, False) == (found.encrypt, found.allow_lower)


def test_rule_for_wish_that_the_entry_with_always_allows_itself() -> None:
    """Beside `always` it is the admin's word."""
    of = policy({}, {"a.example": {"encrypt": ALWAYS, "allow_lower": True}})

    assert rule(of, "bob@a.example").allow_lower


@pytest.mark.parametrize("own", [frozenset(), LIST])
def test_rule_for_sub_address_has_no_exemption_that_its_base_address_has_not(
    own: frozenset[Exemption],
) -> None:
    """A list of exemptions that is shorter is stricter, and so covers sub-addresses (a bug once)."""
    default = {"exempt": MDN, "calendar": Calendar.CLEAR}
    of = policy(default, {"bob@a.example": {"exempt": own}})

    assert rule(of, "bob@a.example").exemptions - own == frozenset()
    assert rule(of, "bob+x@a.example").exemptions == frozenset()
    assert MDN <= rule(of, "eve@a.example").exemptions


def test_rule_for_sub_address_of_an_entry_with_always_is_found() -> None:
    """An entry that covers sub-addresses is compared with those from which it takes over (a bug once)."""
    base = {"encrypt": ALWAYS, "exempt": MDN, "also_encrypt_to": ("sender",)}
    of = policy({"encrypt": WHEN_POSSIBLE, "exempt": MDN | DSN}, {"bob@a.example": base})

    assert (ALWAYS, MDN) == (rule(of, "bob+x@a.example").encrypt, rule(of, "bob+x@a.example").exemptions)


def test_rule_for_sender_whose_exact_entry_says_always_must_name_the_exemption_there() -> None:
    """What its domain exempts does not hold against it."""
    senders: Entries = {"b.example": {"exempt": MDN}, "boss@b.example": {"encrypt": ALWAYS}}
    of = policy({"encrypt": WHEN_POSSIBLE, "exempt": MDN}, senders=senders)

    assert frozenset() == rule(of, "x@a.example", "boss@b.example").exemptions


def test_rule_for_null_sender_has_no_exemption_that_an_exact_sender_has_not() -> None:
    """Leaving the sender out never lowers anything."""
    senders: Entries = {
        "b.example": {"encrypt": ALWAYS, "exempt": MDN},
        "boss@b.example": {"exempt": frozenset()},
    }
    of = policy({"encrypt": ALWAYS, "exempt": MDN}, senders=senders)

    assert frozenset() == of.rule_for_null_sender(parse_mailbox("x@a.example")).exemptions


@pytest.mark.parametrize(
    ("inherited", "expected"), [(Calendar.CLEAR, Calendar.ENCRYPT), (Calendar.REFUSE, Calendar.REFUSE)]
)
def test_rule_for_list_of_exemptions_without_the_calendar_takes_its_exemption_back(
    inherited: Calendar, expected: Calendar
) -> None:
    """A list is whole; but it does not turn a refusal into something weaker."""
    of = policy({"calendar": inherited}, {"a.example": {"exempt": MDN}})

    assert expected is rule(of, "bob@a.example").calendar


def test_signing_for_most_exact_sender_entry_counts() -> None:
    """An address may have a key of its own, or none although its domain has one."""
    domain, own, never = Signing("AA"), Signing("BB", autocrypt=True), Signing("")
    of = policy(
        {},
        senders={
            "a.example": {"signing": domain},
            "boss@a.example": {"signing": own},
            "bot@a.example": {"signing": never},
        },
    )
    senders = [parse_mailbox(f"{name}@a.example") for name in ("eve", "boss", "bot")]

    assert [domain, own, None] == [of.signing_for(sender) for sender in senders]
    assert [domain, own, None] == [of.rule_for(sender, senders[0]).signing for sender in senders]
    assert of.rule_for_null_sender(senders[0]).signing is None


@pytest.mark.parametrize(
    ("field", "strict", "lax"),
    [
        ("headers", Headers.PROTECT, Headers.KEEP),
        ("headers", Headers.KEEP, Headers.KEEP_REPLIES),
        ("format", Format.PGP_MIME, Format.INLINE),
        ("calendar", Calendar.REFUSE, Calendar.ENCRYPT),
        ("calendar", Calendar.ENCRYPT, Calendar.CLEAR),
        ("allow_lower", False, True),
    ],
)
def test_rule_for_sender_raises_the_shape_of_a_copy_and_never_lowers_it(
    field: str, strict: object, lax: object
) -> None:
    """Without `override` the stricter of both sides is in force."""
    for recipient, sender in ((strict, lax), (lax, strict)):
        of = policy({field: recipient}, senders={"a.example": {field: sender}})
        assert strict == getattr(rule(of, "x@b.example", "me@a.example"), field)
