"""The configuration: what is wrong is found, all of it, with its line; what is right is a frozen Config."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.budget import PEAK_FACTOR
from relay.config import ConfigInvalid, DirectorySource, Endpoint, OwnLogin, load
from relay.config.document import read
from relay.config.schema import EntrySettings, NextHop, Settings
from relay.config.validate import validate
from relay.remembered import Trust
from relay.rule import Encrypt, KeyChange, Mixed, Rule
from tests import configs
from tests.configs import MINIMAL, Load, problems, write_secret

ROOT = Path(__file__).parents[2]
BAD = ROOT / "tests" / "data" / "config"
EXAMPLE = ROOT / "config" / "relay.yaml"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what configurations point at."""
    return configs.make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def loaded(tmp_path: Path, files: Path) -> Load:
    """Loads a text from a file beside which there is a directory `keys`."""
    return configs.loader(tmp_path, files)


# --------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda path: path.stem)
def test_load_bad_config_reports_every_problem(
    file: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stored bad configuration gives exactly the problems stored beside it."""
    monkeypatch.setenv("PATH", str(files / "bin"))
    with pytest.raises(ConfigInvalid) as caught:
        load(file, {"FILES": str(files)})

    found = str(caught.value).replace(f"{BAD}/", "").replace(str(files), "${FILES}")
    assert file.with_suffix(".expected").read_text() == f"{found}\n"


def test_bad_configs_and_expectations_are_pairs() -> None:
    """No expectation is left without its configuration."""
    assert {path.stem for path in BAD.glob("*.yaml")} == {path.stem for path in BAD.glob("*.expected")}


def test_load_missing_file_is_a_problem(tmp_path: Path) -> None:
    """A configuration that cannot be read is reported like any other problem."""
    with pytest.raises(ConfigInvalid, match="cannot be read: No such file"):
        load(tmp_path / "relay.yaml", {})


def test_load_huge_file_is_refused_unparsed(tmp_path: Path) -> None:
    """A file beyond a megabyte is not read as YAML at all."""
    file = tmp_path / "relay.yaml"
    file.write_bytes(b"hostname: relay.example.com\n" * 100_000)

    with pytest.raises(ConfigInvalid) as caught:
        load(file, {})
    assert ["the file is larger than 1048576 bytes; this is hardly a configuration"] == [
        problem.message for problem in caught.value.problems
    ]


@pytest.mark.parametrize("where", ["engine: gnupg\n", "keys: {ring: {type: gnupg, home: keys}}\n"])
def test_load_gnupg_without_gpg_is_a_problem(
    where: str, loaded: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine and the source of GnuPG need the program, and the check says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    text = MINIMAL if where.startswith("engine") else MINIMAL.replace("keys: {folder", "#")

    assert any("install gnupg" in message for _, _, message in problems(loaded, text + where))


def test_load_memory_must_hold_the_largest_message(loaded: Load) -> None:
    """`memory_bytes` is refused one byte below the factor of the budget, and taken at it."""
    enough = PEAK_FACTOR * (1 << 20)
    text = MINIMAL + 'limits: {message_bytes: 1MiB, memory_bytes: "${BYTES}"}\n'

    assert enough == loaded(text, BYTES=str(enough)).limits.memory_bytes
    assert ["limits.memory_bytes"] == [path for _, path, _ in problems(loaded, text, BYTES=str(enough - 1))]


def test_load_secret_never_stands_in_a_problem_or_repr(loaded: Load) -> None:
    """The password of the next hop is read from its file, without its line end, and never shown."""
    config = loaded(
        MINIMAL.replace("465", '465", username: relay, password_file: "${FILES}/password')
        + 'auth: {type: users, users: {file: "${FILES}/users.passwd"}}\n'
    )

    assert OwnLogin("relay", "correct horse") == config.next_hop_login
    assert "correct horse" not in repr(config)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600])
def test_load_world_readable_secret_is_a_warning(mode: int, loaded: Load, tmp_path: Path) -> None:
    """Secrets that everybody can read are reported, but container engines mount them so."""
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(mode)
    text = MINIMAL.replace("465", '465", username: relay, password_file: "secret') + "auth: {type: none}\n"

    expected = ["next_hop.password_file"] if mode == 0o644 else []
    assert expected == [warning.path for warning in loaded(text).warnings]


@pytest.mark.parametrize("content", [b"two\nlines\n", b"\xff\n", b"\n", b"a\0b", b"x" * 5000])
def test_load_secret_of_another_shape_is_a_problem(content: bytes, loaded: Load, tmp_path: Path) -> None:
    """A password file that is no single line of text would be a wrong password."""
    write_secret(tmp_path / "secret", content)
    text = MINIMAL.replace("465", '465", username: relay, password_file: "secret') + "auth: {type: none}\n"

    found = problems(loaded, text)
    assert [(3, "next_hop.password_file")] == [(line, path) for line, path, _ in found]


def test_load_unused_key_source_is_a_warning(loaded: Load) -> None:
    """A source that no rule names is never asked: probably a rule forgot it."""
    config = loaded(MINIMAL.replace("keys: {", "keys: {other: {type: directory, path: keys}, "))

    assert ["listen[0].tls", "keys.other"] == [warning.path for warning in config.warnings]


# --------------------------------------------------------------------------- what is right


def test_load_minimal_has_the_defaults(loaded: Load, tmp_path: Path) -> None:
    """What is not said is the default; relative paths start at the file."""
    config = loaded(MINIMAL)

    assert "relay.example.com" == config.hostname
    assert Endpoint("mail.example.com", 465) == config.next_hop.address
    assert "implicit" == config.next_hop.tls
    assert "next-hop" == config.auth.type
    assert {"folder": DirectorySource(type="directory", path=tmp_path / "keys")} == config.keys
    assert (Settings().limits, Settings().log, "sequoia") == (config.limits, config.log, config.engine)
    assert None is config.tls
    assert None is config.next_hop_login
    (warning,) = config.warnings  # the smallest configuration that loads anywhere is not a useful one
    assert ("listen[0].tls", True) == (warning.path, "nobody can send here" in warning.message)


def test_load_config_is_frozen(loaded: Load) -> None:
    """Nothing can change a configuration behind the back of the parts that were built from it."""
    config = loaded(MINIMAL)

    with pytest.raises(dataclasses.FrozenInstanceError):
        config.hostname = "x"  # type: ignore[misc]  # the point of the test
    with pytest.raises(pydantic.ValidationError):
        config.limits.recipients = 1


def test_load_policy_is_built_with_every_field(loaded: Load) -> None:
    """Each field of a rule reaches `Rule`, and the rule's name is the place in the file."""
    fields = (
        "{encrypt: when-possible, keys: [folder], certificates: [0123 4567 89ab cdef 0123"
        "  4567 89ab cdef 0123 4567], mixed: split, unusable_key: release, lookup_failure: refuse,"
        " lookup_patience: 2h, address_routing: allow, accept_encrypted: true, key_change: accept,"
        " pinned_key_missing: use-pin, min_trust: third-party}"
    )
    text = MINIMAL.replace("policy: {", 'policy: {domains: {"*.gov.example": ' + fields + "}, ")

    rule = loaded(text).policy.rule_for(None, parse_mailbox("bob@a.gov.example"))
    assert (
        Rule(
            name='policy.domains["*.gov.example"]',
            because="""policy.domains["*.gov.example"] covers the recipient's domain""",
            encrypt=Encrypt.WHEN_POSSIBLE,
            keys=("folder",),
            certificates=("0123456789ABCDEF0123456789ABCDEF01234567",),
            mixed=Mixed.SPLIT,
            release_unusable=True,
            refuse_on_failure=True,
            lookup_patience_seconds=7200,
            deferral='policy.domains["*.gov.example"]',
            allow_routing=True,
            accept_encrypted=True,
            key_change=KeyChange.ACCEPT,
            use_missing_pin=True,
            min_trust=Trust.THIRD_PARTY,
        )
        == rule
    )


def test_load_sender_override_reaches_the_policy(loaded: Load) -> None:
    """`override: true` of a sender entry lowers; without it nothing does."""
    text = MINIMAL.replace(
        "policy: {",
        "policy: {senders: {a@x.example: {encrypt: never, override: true}, b@x.example: {encrypt: never}}, ",
    )
    policy = loaded(text).policy

    recipient = parse_mailbox("c@y.example")
    assert Encrypt.NEVER is policy.rule_for(parse_mailbox("a@x.example"), recipient).encrypt
    assert Encrypt.ALWAYS is policy.rule_for(parse_mailbox("b@x.example"), recipient).encrypt


@pytest.mark.parametrize(
    ("written", "recipients"),
    [("7", 7), ('"7"', 7), ("${COUNT}", 12), ('"${COUNT}"', 12), ("null", 100), ("", 100)],
)
def test_load_number_may_be_quoted_or_from_the_environment(
    written: str, recipients: int, loaded: Load
) -> None:
    """A number is a number however it is written; null is the default."""
    config = loaded(MINIMAL + f"limits:\n  recipients: {written}\n", COUNT="12")

    assert recipients == config.limits.recipients


@pytest.mark.parametrize(
    ("written", "seconds"), [("45", 45), ("45s", 45), ("3m", 180), ("3 m", 180), ("1h", 3600)]
)
def test_load_duration_units(written: str, seconds: int, loaded: Load) -> None:
    """Times are seconds, or have a unit."""
    assert seconds == loaded(MINIMAL + f"limits: {{drain_seconds: {written}}}\n").limits.drain_seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [("70000", 70_000), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("0.5MiB", None), ("1MB", None)],
)
def test_load_size_units(written: str, size: int | None, loaded: Load) -> None:
    """Sizes are bytes, or have a binary unit; a decimal unit would be guessed wrong by somebody."""
    text = MINIMAL + f"limits: {{message_bytes: {written}}}\n"

    if size is None:
        assert [(6, "limits.message_bytes")] == [(line, path) for line, path, _ in problems(loaded, text)]
    else:
        assert size == loaded(text).limits.message_bytes


@pytest.mark.parametrize("written", ['""', '"null"', '"~"', "${EMPTY}"])
def test_load_quoted_or_expanded_null_is_a_value(written: str, loaded: Load) -> None:
    """Only a plain null means "not set": an empty variable does not silently bring the default."""
    found = problems(loaded, MINIMAL + f"engine: {written}\n", EMPTY="")

    assert [(6, "engine")] == [(line, path) for line, path, _ in found]


def test_load_dollar_signs(loaded: Load, tmp_path: Path) -> None:
    """`$$` is a dollar sign, a single one stays, and what a variable holds is not read again."""
    (tmp_path / "a$b${X}").mkdir()
    text = MINIMAL.replace("path: keys", 'path: "a$b${NAME}"')

    assert tmp_path / "a$b${X}" == loaded(text, NAME="${X}").keys["folder"].path  # type: ignore[union-attr]  # directory
    text = MINIMAL.replace("path: keys", 'path: "a$$b$${X}"')
    assert tmp_path / "a$b${X}" == loaded(text).keys["folder"].path  # type: ignore[union-attr]  # as above


@pytest.mark.parametrize(
    ("address", "endpoint", "is_local"),
    [
        ("0.0.0.0:465", Endpoint("0.0.0.0", 465), False),
        ("[::]:465", Endpoint("::", 465), False),
        ("[0::1]:465", Endpoint("::1", 465), True),
        ("127.3.2.1:465", Endpoint("127.3.2.1", 465), True),
        ("LOCALHOST:465", Endpoint("localhost", 465), True),
        ("unix:/tmp/relay.sock", Endpoint(path="/tmp/relay.sock"), True),
        ("192.0.2.1:0", Endpoint("192.0.2.1", 0), False),
    ],
)
def test_load_listen_address(address: str, endpoint: Endpoint, is_local: bool, loaded: Load) -> None:
    """IP addresses, localhost and unix sockets; only the last two and loopback are local."""
    text = MINIMAL.replace('"127.0.0.1:0", tls: none', f'"{address}", tls: starttls')
    text += 'tls: {certificate: "${FILES}/cert.pem", key: "${FILES}/key.pem"}\n'

    found = loaded(text).listen[0].address
    assert (endpoint, is_local) == (found, found.is_local)
    assert found == loaded(text.replace(address, str(found))).listen[0].address


def test_load_users_file_is_read(loaded: Load) -> None:
    """A good users file passes the check."""
    config = loaded(MINIMAL + 'auth: {type: users, users: {file: "${FILES}/users.passwd"}}\n')

    assert "users" == config.auth.type


# --------------------------------------------------------------------------- the example

NO_DEFAULT = {"hostname", "tls", "keys", "next_hop.address", "policy.default"}
"""Settings that everybody has to choose; `policy.default` is compared with the built-in rule instead."""


def test_example_shows_every_default() -> None:
    """config/relay.yaml is valid, and every setting in it has its default, except those that have none."""
    document = read(EXAMPLE, {})
    shown = validate(document)

    assert [] == document.problems
    assert flat(Settings()) == flat(shown)


def is_chosen(name: str) -> bool:
    return name in NO_DEFAULT or any(name.startswith(f"{chosen}.") for chosen in NO_DEFAULT)


def flat(settings: Settings) -> dict[str, object]:
    """Every value of the settings by its dotted name, without those that have no default."""
    next_hop = settings.next_hop.model_dump() if settings.next_hop else NEXT_HOP_DEFAULTS
    found: dict[str, object] = {}
    for section, value in {**settings.model_dump(), "next_hop": next_hop}.items():
        members = value.items() if isinstance(value, dict) else [("", value)]
        found.update({f"{section}.{name}".removesuffix("."): member for name, member in members})
    return {name: value for name, value in found.items() if not is_chosen(name)}


NEXT_HOP_DEFAULTS = {name: field.default for name, field in NextHop.model_fields.items()}


def test_example_names_every_setting() -> None:
    """Every setting of the schema that is built stands in the example, if only in a comment."""
    text = EXAMPLE.read_text()

    later = {"dovecot"}
    missing = [name for name in setting_names(Settings) if f"{name}:" not in text]
    assert set() == set(missing) - later


def test_readme_documents_every_setting() -> None:
    """config/README.md has each setting of the schema in code type."""
    text = (ROOT / "config" / "README.md").read_text()

    assert [] == [
        name for name in setting_names(Settings) if f"{name}`" not in text and f".{name}" not in text
    ]


def setting_names(model: type[pydantic.BaseModel]) -> set[str]:
    """The names of all settings, at any depth."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for member in models(field.annotation):
            found |= setting_names(member)
    return found


def models(annotation: object) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models(argument)]


def test_example_default_rule_is_the_built_in_one() -> None:
    """The rule that the example spells out is what `policy.default` is without it, except for its sources."""
    settings = validate(read(EXAMPLE, {}))

    expected = EntrySettings(
        encrypt=Encrypt.ALWAYS,
        keys=("folder", "wkd"),
        certificates=Rule("x").certificates,
        mixed=Rule("x").mixed.value,
        unusable_key="release" if Rule("x").release_unusable else "refuse",
        lookup_failure="refuse" if Rule("x").refuse_on_failure else "defer",
        lookup_patience=Rule("x").lookup_patience_seconds,
        address_routing="allow" if Rule("x").allow_routing else "refuse",
        accept_encrypted=Rule("x").accept_encrypted,
        key_change=Rule("x").key_change.value,
        pinned_key_missing="use-pin" if Rule("x").use_missing_pin else "refuse",
        min_trust=Rule("x").min_trust,
        headers=Rule("x").headers.value,
        format=Rule("x").format.value,
        exempt=tuple(Rule("x").exempt),
        calendar=Rule("x").calendar.value,
        also_encrypt_to=Rule("x").also_encrypt_to,
        wish_to_lower="allow" if Rule("x").allow_lower else "refuse",
    )
    assert expected == settings.policy.default


def test_example_is_loadable_with_its_files(tmp_path: Path, files: Path) -> None:
    """With the files that it names in place, the example passes every check without a warning."""
    text = EXAMPLE.read_text()
    for path, there in {
        "/etc/relay/tls/fullchain.pem": files / "cert.pem",
        "/etc/relay/tls/privkey.pem": files / "key.pem",
        "/etc/relay/keys": files / "keys",
        "/var/lib/relay/relay.db": tmp_path / "relay.db",
    }.items():
        text = text.replace(path, str(there))
    (tmp_path / "relay.yaml").write_text(text)

    assert () == load(tmp_path / "relay.yaml", {}).warnings


# --------------------------------------------------------------------------- anything at all

WORDS = """
hostname listen tls auth next_hop keys policy engine log limits address type path home default domains users
encrypt always never directory gnupg senders override file 127.0.0.1:0 none implicit [ ] { } : , - *a &a <<
!!int !x ' " | > ? # % @ ` $ ${ ${X} $$ ~ null --- ... 0 -1 \\ "\\ud800" "\\UFFFFFFFF" "\\0" "\\x" \xe9
""".split()  # noqa: SIM905 - sixty quoted words are no better to read
SPACES = ["", "\n", "\n  ", "\t", "\ufeff", "\x85", "\u2028", "\x01"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(WORDS) | st.sampled_from(SPACES), max_size=40).map(" ".join))
def test_load_any_text_is_a_config_or_problems(tmp_path: Path, text: str) -> None:
    """Whatever stands in the file, the answer is a list of problems that can be printed."""
    file = tmp_path / "relay.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigInvalid) as caught:
        load(file, {})
    assert caught.value.problems
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    "value", ["\\ud800", "\\UFFFFFFFF", "\\0", "x" * 5000, "\\r\\n", "\\u202e", "${BROKEN}", "${LONG}"]
)
@pytest.mark.parametrize(
    "setting", ["path: keys", "relay.example.com", "folder", "mail.example.com", "none}"]
)
def test_load_odd_characters_are_problems(value: str, setting: str, loaded: Load) -> None:
    """No value, from the file or the environment, makes the check itself fail."""
    name, colon, _ = setting.rpartition(" ")
    text = MINIMAL.replace('"mail.example.com:465"', "mail.example.com").replace(
        setting, f'{name}{colon}"{value}"', 1
    )

    with pytest.raises(ConfigInvalid) as caught:
        loaded(text, BROKEN="\udcff", LONG="x" * 300_000)
    assert str(caught.value).encode()
