"""One key vouching for another: made by GnuPG, and by hand where GnuPG would not."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.mime.packets import PUBLIC_KEY, SIGNATURE, USER_ID
from relay.openpgp import certification
from relay.openpgp.certification import certifies
from relay.openpgp.signatures import encode
from tests import keys
from tests.forge import Owner, Owner6, at, hashed_key, packets_of, raw, subpacket
from tests.opinions import NOW
from tests.programs import require

OLD, NEW, STRANGER = Owner("old"), Owner("new"), Owner("stranger")
OLD6, NEW6 = Owner6("old"), Owner6("new")
MAILBOX = parse_mailbox("new@example.com")
WHOLE = OLD.start() + OLD.bind()
DAY = 86_400


def vouch(**claims: object) -> bytes:
    """OLD's certification of NEW's User ID."""
    ordinary: dict[str, object] = {"kind": 0x10, "target": NEW.user_id, "subject": NEW.primary, "claims": b""}
    return OLD.sign(**(ordinary | claims))  # type: ignore[arg-type]


def certified(*signatures: bytes) -> bytes:
    """NEW's certificate with these signatures on its User ID beside its own."""
    return NEW.start(NEW.sign(0x13, NEW.user_id), *signatures) + NEW.bind()


def is_certified(new: bytes, old: bytes = WHOLE, now: datetime = NOW) -> bool:
    return certifies(old, new, MAILBOX, now)


# --------------------------------------------------------------------------- made by GnuPG


class Home:
    """GnuPG with two keys of one person."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def run(self, *arguments: str, stdin: str = "") -> bytes:
        return subprocess.run(
            [require("gpg"), "--homedir", str(self._path), "--batch", "--quiet",
             "--pinentry-mode", "loopback", "--passphrase", "", *arguments],
            input=stdin.encode(), capture_output=True, check=True, timeout=60,
        ).stdout  # fmt: skip

    def make(self, name: str, algorithm: str) -> str:
        """A key that can certify; its fingerprint."""
        self.run("--yes", "--quick-gen-key", f"{name} <new@example.com>", algorithm, "cert,sign", "never")
        return self.fingerprints()[-1]

    def fingerprints(self) -> list[str]:
        rows = [line.split(":") for line in self.run("--list-keys", "--with-colons").decode().splitlines()]
        return [row[9] for row in rows if row[0] == "fpr"]

    def export(self, fingerprint: str) -> bytes:
        return self.run("--export", fingerprint)

    def edit(self, fingerprint: str, *answers: str) -> None:
        lines = "\n".join([*answers, ""])
        self.run("--no-batch", "--no-tty", "--command-fd", "0", "--edit-key", fingerprint, stdin=lines)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._path), "--kill", "all"], check=False, timeout=60)


@pytest.fixture
def home() -> Iterator[Home]:
    require("gpg")
    with tempfile.TemporaryDirectory(prefix="gpg-") as path:  # short: sockets end at 107 characters
        made = Home(Path(path))
        yield made
        made.close()


def soon() -> datetime:
    """A moment after everything that was just made: there is no tolerance for clocks."""
    return datetime.now(UTC) + timedelta(seconds=2)


@pytest.mark.system
@pytest.mark.parametrize("algorithm", ["rsa2048", "rsa4096", "ed25519", "nistp256", "nistp384", "nistp521"])
def test_certifies_what_gnupg_signed(algorithm: str, home: Home) -> None:
    """The new key is certified after `--quick-sign-key` and not before, and not the other way round."""
    old, new = home.make("old", algorithm), home.make("new", "ed25519")
    before = home.export(new)

    home.run("--yes", "--default-key", old, "--quick-sign-key", new)

    after, signer = home.export(new), home.export(old)
    answers = [
        certifies(*pair, MAILBOX, soon()) for pair in ((signer, before), (signer, after), (after, signer))
    ]
    assert [False, True, False] == answers


@pytest.mark.system
@pytest.mark.parametrize(("name", "number"), [("SHA256", 8), ("SHA384", 9), ("SHA512", 10)])
def test_certifies_with_every_sound_hash_of_gnupg(name: str, number: int, home: Home) -> None:
    """GnuPG itself no longer certifies with a weaker one."""
    old, new = home.make("old", "rsa2048"), home.make("new", "ed25519")
    home.run("--yes", "--default-key", old, "--cert-digest-algo", name, "--quick-sign-key", new)

    after = home.export(new)

    assert number in [packet.head[3] for packet in packets_of(after) if packet.tag == SIGNATURE]
    assert certifies(home.export(old), after, MAILBOX, soon())


@pytest.mark.system
def test_certifies_not_after_gnupg_revoked_the_certification(home: Home) -> None:
    """What the old key has taken back does not count any more."""
    old, new = home.make("old", "ed25519"), home.make("new", "ed25519")
    home.run("--yes", "--default-key", old, "--quick-sign-key", new)
    assert certifies(home.export(old), home.export(new), MAILBOX, soon())

    home.edit(new, "revsig", "n", "y", "y", "0", "", "y", "save")  # not its own, but the other one

    assert not certifies(home.export(old), home.export(new), MAILBOX, soon())


@pytest.mark.system
def test_certifies_not_what_gnupg_signed_locally(home: Home) -> None:
    """A local signature says nothing to others, also if it leaks (RFC 9580 §5.2.3.19)."""
    old, new = home.make("old", "ed25519"), home.make("new", "ed25519")
    home.run("--yes", "--default-key", old, "--quick-lsign-key", new)

    leaked = home.run("--export-options", "export-local-sigs", "--export", new)

    assert not certifies(home.export(old), leaked, MAILBOX, soon())


# --------------------------------------------------------------------------- made by hand


@pytest.mark.parametrize("kind", [0x10, 0x11, 0x12, 0x13])
@pytest.mark.parametrize("digest", [8, 10])
def test_certifies_every_kind_of_certification(kind: int, digest: int) -> None:
    """How carefully somebody looked does not matter: it is the same person (RFC 9580 §5.2.1.4 ff.)."""
    assert is_certified(certified(vouch(kind=kind, digest=digest)))


_OTHER_NAME = b"new <other@example.com>"


@pytest.mark.parametrize("signature", [
    b"",
    vouch(genuine=False),
    vouch(digest=2),
    vouch(digest=1),
    vouch(target=_OTHER_NAME),
    vouch(subject=STRANGER.primary),
    vouch(on=at(2024, 12)),
    vouch(on=at(2039)),
    vouch(lasts=DAY),
    vouch(claims=subpacket(4, b"\x00")),
    vouch(claims=subpacket(0x80 | 99, b"")),
    vouch(claims=subpacket(0x80 | 20, bytes(8))),
    vouch(claims=subpacket(0x80 | 6, b"<[^>]+[@.]other\\.example>$\x00")),
    vouch(kind=0x16),
    vouch(kind=0x18),
    vouch(kind=0x1F),
    vouch(kind=0x30),
    vouch(hints=b""),
    vouch(hints=subpacket(16, bytes(8))),
    STRANGER.sign(0x10, NEW.user_id, subject=NEW.primary),
], ids=[
    "none", "forged", "SHA-1", "MD5", "another User ID", "another key", "before the key was made",
    "from the future", "lapsed", "local", "critical and unknown", "critical notation", "critical pattern",
    "attestation", "binding", "direct", "revocation", "nameless", "in another name", "by a stranger",
])  # fmt: skip
def test_certifies_is_false_where_anything_is_amiss(signature: bytes) -> None:
    """Only a sound certification of exactly this key and User ID by exactly the old key counts."""
    assert not is_certified(certified(signature))


def test_certifies_only_the_user_id_of_the_address() -> None:
    """A certified User ID with another address vouches for that one alone."""
    other = encode(USER_ID, _OTHER_NAME) + vouch(target=_OTHER_NAME)
    new = NEW.start() + other + NEW.bind()

    addresses = [MAILBOX, parse_mailbox("other@example.com")]
    assert [False, True] == [certifies(WHOLE, new, address, NOW) for address in addresses]


def test_certifies_with_further_claims_that_are_understood() -> None:
    """Critical dates and notations that nobody has to understand do not spoil a certification."""
    claims = subpacket(0x80 | 7, b"\x01") + subpacket(20, bytes(8)) + subpacket(99, b"")

    assert is_certified(certified(vouch(claims=claims, lasts=5000 * DAY)))


@pytest.mark.parametrize("on", [at(2025, 2), at(2025, 4)])
@pytest.mark.parametrize("genuine", [True, False])
def test_certifies_not_with_a_revocation_in_any_order(on: int, genuine: bool) -> None:
    """A revocation counts from whenever it is, also where it cannot be verified."""
    revocation = vouch(kind=0x30, on=on, genuine=genuine)
    certification_ = vouch(on=at(2025, 3))

    for both in ((revocation, certification_), (certification_, revocation)):
        assert not is_certified(certified(*both))
    assert not is_certified(certified(certification_) + revocation)


def test_certifies_with_a_revocation_of_something_else() -> None:
    """A stranger, and the old key about another User ID, take nothing back."""
    theirs = STRANGER.sign(0x30, NEW.user_id, subject=NEW.primary)
    other = encode(USER_ID, _OTHER_NAME) + vouch(kind=0x30, target=_OTHER_NAME)

    assert is_certified(NEW.start(NEW.sign(0x13, NEW.user_id), vouch(), theirs) + other + NEW.bind())


@pytest.mark.parametrize("genuine", [True, False])
def test_certifies_not_by_a_revoked_key(genuine: bool) -> None:
    """A revoked key may be in the hands of anybody."""
    first, *others = raw(WHOLE)
    revoked = b"".join([first, OLD.sign(0x20, genuine=genuine), *others])

    assert not is_certified(certified(vouch()), old=revoked)


@pytest.mark.parametrize(("on", "counts"), [(at(2025, 1, 30), True), (at(2025, 1, 31), False)])
def test_certifies_while_the_old_key_was_alive(on: int, counts: bool) -> None:
    """An expired key has a word in what it said before (its last second is the 30th day's)."""
    expired = OLD.start(OLD.sign(0x13, OLD.user_id, key_lasts=30 * DAY))

    assert counts == is_certified(certified(vouch(on=on)), old=expired)


def test_certifies_not_by_a_key_without_self_signature() -> None:
    """A bare key has no dates that anybody could believe."""
    assert not is_certified(certified(vouch()), old=encode(PUBLIC_KEY, OLD.primary))


def test_certifies_tampered_anywhere_is_false() -> None:
    """No octet of it can be changed, except where it names its maker and counts the bits of its numbers."""
    whole = vouch()
    hint = whole.index(subpacket(16, bytes.fromhex(OLD.fingerprint[-16:])))
    value = hint + 10 + 2
    free = {*range(hint - 2, hint + 10), value + 1, value + 2 + 32 + 1}

    kept = [
        index
        for index in range(6, len(whole))
        if index not in free
        and is_certified(certified(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :]))
    ]

    assert [] == kept


def test_certifies_among_many_forged_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood is looked at up to a limit, the newest first; beyond it the administrator decides."""
    monkeypatch.setattr(certification, "MAX_VERIFICATIONS", 5)
    forged = [vouch(on=at(2025, 5) + number, genuine=False) for number in range(5)]

    assert is_certified(certified(*forged[1:], vouch(on=at(2025, 3))))
    assert not is_certified(certified(*forged, vouch(on=at(2025, 3))))


@pytest.mark.parametrize(("old", "new"), [
    (OLD6.certificate(), NEW6.certificate(OLD6.sign(0x10, NEW6.user_id, subject=NEW6.primary))),
    (WHOLE, NEW6.certificate(vouch(target=NEW6.user_id, subject=NEW6.primary))),
    (OLD6.certificate(), certified(OLD6.sign(0x10, NEW.user_id, subject=NEW.primary))),
], ids=["6 by 6", "6 by 4", "4 by 6"])  # fmt: skip
def test_certifies_version_6(old: bytes, new: bytes) -> None:
    """Keys of version 6 certify and are certified, also across versions (RFC 9580 §5.2.4)."""
    assert is_certified(new, old=old)


def test_certifies_not_with_a_signature_of_another_version() -> None:
    """A key of version 6 makes signatures of version 6 alone (RFC 9580 §5.2): no salt, no belief."""
    hashed = subpacket(2, OLD6.created.to_bytes(4))
    head = bytes([4, 0x10, 27, 8]) + len(hashed).to_bytes(2) + hashed
    over = hashed_key(NEW6.primary) + b"\xb4" + len(NEW6.user_id).to_bytes(4) + NEW6.user_id
    digest = hashlib.sha256(over + head + b"\x04\xff" + len(head).to_bytes(4)).digest()
    hints = subpacket(33, b"\x06" + bytes.fromhex(OLD6.fingerprint))
    body = head + len(hints).to_bytes(2) + hints + digest[:2] + OLD6.signer.sign(digest)

    assert not is_certified(NEW6.certificate(encode(SIGNATURE, body)), old=OLD6.certificate())


@pytest.mark.parametrize("signature", [
    OLD6.sign(0x10, NEW6.user_id, subject=NEW6.primary, salt=bytes(15)),
    OLD6.sign(0x10, NEW6.user_id, subject=NEW6.primary, salt=b""),
    OLD6.sign(0x10, NEW6.user_id),
    Owner6("stranger").sign(0x10, NEW6.user_id, subject=NEW6.primary),
    vouch(target=NEW6.user_id, subject=NEW6.primary),
], ids=["short salt", "no salt", "another key", "a stranger", "version 4 key of that name"])  # fmt: skip
def test_certifies_version_6_is_false_where_anything_is_amiss(signature: bytes) -> None:
    """The salt has the length that belongs to the hash (RFC 9580 §5.2.3)."""
    assert not is_certified(NEW6.certificate(signature), old=OLD6.certificate())


# --------------------------------------------------------------------------- any octets


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_certifies_never_raises(data: st.DataObject) -> None:
    """Damaged and arbitrary certificates give an answer."""
    halves = []
    for whole in (WHOLE, certified(vouch())):
        octets = bytearray(whole)
        for _ in range(data.draw(st.integers(0, 3))):
            octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        halves.append(bytes(octets[: data.draw(st.integers(0, len(octets)) | st.just(len(octets)))]))

    assert certifies(*halves, MAILBOX, NOW) in {True, False}


@pytest.mark.parametrize("fixture", keys.FIXTURES, ids=lambda fixture: fixture.name)
def test_certifies_fixtures_have_certified_nothing(fixture: keys.Fixture) -> None:
    """Certificates that have nothing to do with each other do not vouch for each other."""
    data = fixture.certificate.data

    assert [False, False] == [is_certified(data), is_certified(certified(vouch()), old=data)]
