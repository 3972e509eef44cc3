"""Verdicts on every fixture, GnuPG as the second opinion, copies, memory, and what attackers can add."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pysequoia
import pytest

from relay.address import parse_mailbox
from relay.message import Certificate, Verdict
from relay.mime.packets import PUBLIC_KEY, encrypted_message
from relay.openpgp import judge as judging
from relay.openpgp import worker
from relay.openpgp.judge import Judge
from relay.openpgp.signatures import encode
from tests import keys
from tests.forge import Owner, at, subpacket
from tests.keys import FIXTURES, USABLE, Fixture
from tests.opinions import MAILBOX, NOW, OWNER, GnuPG, binding, certificate, judge

DAY = 86400


def judge_fixture(fixture: Fixture, now: datetime = NOW) -> Verdict:
    return Judge().judge([fixture.certificate], fixture.address, now)[0]


def reached(reduced: bytes) -> tuple[str, ...]:
    """The key IDs of an encryption by pysequoia."""
    certificate = pysequoia.Cert.from_bytes(reduced)
    return encrypted_message(pysequoia.encrypt(b"", [certificate], armor=False)).pkesk_ids


def by_name(fixture: Fixture) -> str:
    return fixture.name


@pytest.fixture
def gnupg(tmp_path: Path) -> Iterator[GnuPG]:
    program = GnuPG(tmp_path / "h")
    yield program
    program.close()


# --------------------------------------------------------------------------- the verdict table


@pytest.mark.parametrize("fixture", FIXTURES, ids=by_name)
def test_judge_fixture_gets_its_verdict(fixture: Fixture) -> None:
    """Every fixture gets the sentence and the number of subkeys that `tests/keys.py` lists."""
    verdict = judge_fixture(fixture)

    assert (fixture.usable, fixture.verdict, fixture.subkeys) == (
        verdict.usable,
        verdict.sentence,
        len(verdict.subkeys),
    )


@pytest.mark.parametrize("fixture", USABLE, ids=by_name)
def test_judge_good_fixture_is_usable_today(fixture: Fixture) -> None:
    """Good fixtures never expire, so that engines and GnuPG can use them on the real date."""
    assert judge_fixture(fixture, datetime.now(UTC)).usable


@pytest.mark.parametrize("fixture", USABLE, ids=by_name)
def test_judge_reduced_reaches_exactly_the_chosen_subkeys(fixture: Fixture) -> None:
    """pysequoia's encryption to the reduced certificate names the chosen subkeys and no others."""
    verdict = judge_fixture(fixture)

    assert sorted(subkey.key_id for subkey in verdict.subkeys) == sorted(reached(verdict.reduced))


@pytest.mark.parametrize("name", ["v6", "pqc", "no-features", "curve25519"])
def test_judge_reduced_is_opened_by_pysequoia(name: str) -> None:
    """What is encrypted to the reduced certificate opens with the fixture's secret key."""
    reduced = pysequoia.Cert.from_bytes(judge_fixture(keys.fixture(name)).reduced)
    message = pysequoia.encrypt(b"hello", [reduced])

    opened = pysequoia.decrypt(message, pysequoia.Tsk.from_bytes(keys.secret(name)).decryptor())

    assert b"hello" == opened.bytes


@pytest.mark.parametrize(("name", "warning"), [
    ("rsa2048", "RSA 2048 is below 3072 bits"),
    ("aes128-only", "does not list AES-256, with which engine: sequoia encrypts all the same"),
])  # fmt: skip
def test_judge_doubtful_certificate_is_usable_with_a_warning(name: str, warning: str) -> None:
    """What RFC 9580 only advises against is used and said."""
    assert (warning,) == judge_fixture(keys.fixture(name)).warnings


def test_judge_v6_subkey_is_named_by_its_fingerprint() -> None:
    """A PKESK names a v6 key by its fingerprint, so the verdict does too."""
    [subkey] = judge_fixture(keys.fixture("v6")).subkeys

    assert (64, subkey.fingerprint) == (len(subkey.key_id), subkey.key_id)


def test_judge_storage_beside_mail_chooses_the_mail_subkey() -> None:
    """A subkey for storage is left out even where another one is for mail."""
    verdict = judge_fixture(keys.fixture("storage-beside-mail"))
    owner = Owner("storage-beside-mail")
    alone = Owner("storage-beside-mail").start() + owner.bind()

    assert judge(alone, address=None).subkeys == verdict.subkeys


def test_judge_forged_features_keeps_the_container_that_was_announced() -> None:
    """Features in the unhashed area or in a forged newer signature do not change what is written (R-14)."""
    reduced = judge_fixture(keys.fixture("forged-features")).reduced
    message = pysequoia.encrypt(b"", [pysequoia.Cert.from_bytes(reduced)], armor=False)

    assert encrypted_message(message).seipd_version == 1
    assert subpacket(30, b"\x09") not in reduced


def test_judge_created_is_that_of_the_primary() -> None:
    """The verdict carries the creation time, for choosing the newest."""
    first, second = (judge_fixture(keys.fixture(name)).created for name in ("several-1", "several-2"))

    assert (datetime(2024, 3, 1, 12, tzinfo=UTC), datetime(2025, 3, 1, 12, tzinfo=UTC)) == (first, second)


# --------------------------------------------------------------------------- GnuPG as second opinion

STRICTER = {
    "rsa1024": "RFC 9580 §12.4",
    "weak-subkey": "RFC 9580 §12.4",
    "dsa-elgamal": "RFC 9580 §12.5 and §12.6",
    "elgamal-subkey": "RFC 9580 §12.6",
    "sha1": "RFC 9580 §9.5",
    "storage-only": "for GnuPG both flags mean encryption",
    "storage-beside-mail": "for GnuPG both flags mean encryption",
    "forged-key-flags": "the genuine binding is for storage",
    "no-key-flags": "GnuPG guesses from the algorithm",
}
"""Where GnuPG would encrypt to more than we do, and why we do not."""


@pytest.mark.system
@pytest.mark.parametrize("fixture", [found for found in FIXTURES if found.gnupg_reads], ids=by_name)
def test_judge_agrees_with_gnupg(fixture: Fixture, gnupg: GnuPG) -> None:
    """GnuPG chooses the same subkeys, or more where `STRICTER` says why."""
    ours = {subkey.key_id for subkey in judge_fixture(fixture).subkeys}

    theirs = gnupg.usable(fixture.certificate.data, fixture.address)

    assert ours <= theirs
    assert (fixture.name in STRICTER) == (ours != theirs)


@pytest.mark.system
@pytest.mark.parametrize("fixture", [found for found in USABLE if found.gnupg_reads], ids=by_name)
def test_judge_reduced_is_understood_by_gnupg(fixture: Fixture, gnupg: GnuPG) -> None:
    """GnuPG imports the reduced certificate and sees the chosen subkeys in it, no others."""
    verdict = judge_fixture(fixture)

    theirs = gnupg.usable(verdict.reduced, fixture.address)

    assert {subkey.key_id for subkey in verdict.subkeys} == theirs


@pytest.mark.system
@pytest.mark.parametrize("fixture", [found for found in USABLE if found.gnupg_reads], ids=by_name)
def test_judge_reduced_is_opened_by_gnupg(fixture: Fixture, gnupg: GnuPG) -> None:
    """GnuPG opens what pysequoia encrypts to the reduced certificate."""
    verdict = judge_fixture(fixture)
    gnupg.run("--pinentry-mode", "loopback", "--import", stdin=keys.secret(fixture.name))

    message = worker.encrypt(b"hello", [worker.parse(verdict.reduced)], allows_v2=verdict.allows_v2)
    opened = gnupg.run("--decrypt", stdin=bytes(message))

    assert b"hello" == opened


# --------------------------------------------------------------------------- copies and revocations


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_judge_revocation_in_one_copy_counts_for_all(order: tuple[int, int]) -> None:
    """Copies are merged: the revoked one spoils the good one, whichever comes first."""
    copies = [keys.certificate("revoked-primary-before", "good"), keys.certificate("revoked-primary", "bad")]
    given_order = [copies[index] for index in order]

    verdicts = Judge().judge(given_order, parse_mailbox("revoked-primary@example.com"), NOW)

    assert [(given_order[0], "revoked on 2025-01-02")] == [(v.certificate, v.sentence) for v in verdicts]


def test_judge_several_certificates_one_verdict_each_in_order() -> None:
    """Different certificates for one address are judged apart, in the order given."""
    given_order = [
        keys.certificate(name) for name in ("several-2", "wrong-user-id", "several-1", "several-2")
    ]

    verdicts = Judge().judge(given_order, parse_mailbox("several@example.com"), NOW)

    assert given_order[:3] == [verdict.certificate for verdict in verdicts]
    assert [True, False, True] == [verdict.usable for verdict in verdicts]


def test_judge_subkey_in_second_copy_is_used() -> None:
    """A newer subkey that only one copy has is encrypted to."""
    old, new = certificate(), OWNER.start() + OWNER.bind(label="new")
    second = OWNER.sign(0x18, OWNER.subkey("new"), flags=b"\x0c")
    new = OWNER.start() + OWNER.bind(second, label="new")

    assert len(judge(old, new).subkeys) == 2


def test_judge_damaged_copy_spoils_the_whole() -> None:
    """What a copy hides behind its damage could be a revocation."""
    verdict = judge(certificate(), certificate()[:-3])

    assert (False, "is damaged: it cannot be read to its end") == (verdict.usable, verdict.sentence)


# --------------------------------------------------------------------------- what is remembered


def test_judge_same_question_gets_the_remembered_answer() -> None:
    """The second time nothing is computed: it is the very same verdict."""
    judge_again, question = Judge(), [keys.certificate("curve25519")]
    address = keys.fixture("curve25519").address

    first = judge_again.judge(question, address, NOW)[0]

    assert first is judge_again.judge(question, address, NOW + timedelta(hours=1))[0]


SOON, LATE = at(2025) + 30 * DAY, at(2090)


@pytest.mark.parametrize(("data", "change"), [
    (certificate(binding(key_lasts=30 * DAY)), SOON),
    (certificate(binding(lasts=LATE - at(2025))), LATE),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id, key_lasts=30 * DAY)) + OWNER.bind(), SOON),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id, lasts=LATE - at(2025))) + OWNER.bind(), LATE),
    (certificate(binding(), binding(on=SOON, flags=b"\x08", lasts=LATE - SOON)), SOON),
    (Owner("late", SOON).start(user_id=OWNER.user_id), SOON),
], ids=["subkey", "binding", "primary", "User ID", "newer binding", "creation"])  # fmt: skip
def test_judge_remembered_answer_ends_at_the_second(data: bytes, change: int) -> None:
    """A judge that remembers says at every moment what one says that was never asked before."""
    moments = [datetime.fromtimestamp(change + offset, UTC) for offset in (-9, -1, 0, 1, -1, 9, 0)]
    remembering, question = Judge(), [Certificate(data, "", (), "test")]

    fresh = [judge(data, now=moment).sentence for moment in moments]

    assert fresh == [remembering.judge(question, MAILBOX, moment)[0].sentence for moment in moments]
    assert 2 == len(set(fresh))


def test_judge_remembers_apart_by_address_and_source() -> None:
    """Another address or source is another question."""
    remembering, data = Judge(), certificate()
    questions = [(source, address) for source in "ab" for address in (MAILBOX, parse_mailbox("x@y.example"))]

    verdicts = [
        remembering.judge([Certificate(data, "", (), source)], address, NOW)[0]
        for source, address in questions
    ]

    assert [("a", True), ("a", False), ("b", True), ("b", False)] == [
        (verdict.certificate.source, verdict.usable) for verdict in verdicts
    ]


def test_judge_remembered_verdict_names_the_certificate_in_question() -> None:
    """A certificate that was fetched again is the same one, and the verdict carries its new date."""
    remembering, first = Judge(), keys.certificate("curve25519")
    again = replace(first, fetched=NOW)
    address = keys.fixture("curve25519").address

    verdicts = [remembering.judge([one], address, NOW)[0] for one in (first, again, first)]

    assert [None, NOW, None] == [verdict.certificate.fetched for verdict in verdicts]
    assert verdicts[1] == verdicts[0]
    assert remembering.remembers([again], address, NOW)


def test_judge_merged_verdict_names_the_first_copy_in_question() -> None:
    """Of several copies among others the first one speaks, remembered or not, each with its own date."""
    names = ("several-1", "several-2", "several-1", "several-2")
    remembering, address = Judge(), parse_mailbox("several@example.com")
    found = [replace(keys.certificate(name), fetched=NOW + timedelta(days=i)) for i, name in enumerate(names)]

    verdicts = [remembering.judge(found, address, NOW), remembering.judge(found[:], address, NOW)]

    assert [found[:2], found[:2]] == [[verdict.certificate for verdict in some] for some in verdicts]
    assert [0, 1] == [(verdict.certificate.fetched or NOW).day - NOW.day for verdict in verdicts[1]]


@pytest.mark.parametrize(("name", "later", "remembered"), [
    ("curve25519", 0, True),
    ("curve25519", 86_399, True),
    ("curve25519", 86_400, False),
    ("curve25519", -1, True),
    ("expired-primary", 60, True),
])  # fmt: skip
def test_remembers_what_was_judged_and_still_holds(name: str, later: int, remembered: bool) -> None:
    """Only for the very same question, and only while the answer cannot have changed."""
    remembering, found = Judge(), [keys.certificate(name)]
    address, other = keys.fixture(name).address, keys.certificate("v6")
    before = remembering.remembers(found, address, NOW)

    remembering.judge(found, address, NOW)

    assert not before
    assert remembered == remembering.remembers(found, address, NOW + timedelta(seconds=later))
    assert [False, False] == [
        remembering.remembers(found, None, NOW),
        remembering.remembers([*found, other], address, NOW),
    ]


def test_remembers_ends_with_the_first_date_of_any_certificate() -> None:
    """Where one of several certificates changes, the whole answer is found anew."""
    ending = Certificate(certificate(binding(key_lasts=_TOMORROW)), "", (), "test")
    remembering, found = Judge(), [keys.certificate("curve25519"), ending]

    remembering.judge(found, MAILBOX, NOW)

    moments = [datetime.fromtimestamp(at(2025) + _TOMORROW + late, UTC) for late in (-1, 0)]
    assert [True, False] == [remembering.remembers(found, MAILBOX, moment) for moment in moments]


_TOMORROW = int(NOW.timestamp()) - at(2025) + DAY // 2


def test_judge_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answers are forgotten when there are too many, by number or by octets.

    One that needs most of the room is not remembered, and pushes out nothing.
    """
    monkeypatch.setattr(judging, "MAX_REMEMBERED", 3)
    monkeypatch.setattr(judging, "MAX_REMEMBERED_OCTETS", 5000)
    monkeypatch.setattr(judging, "_SHARE", 2)
    remembering = Judge()

    def remembered(size: int) -> int:
        for number in range(6):
            data = encode(60, bytes(size) + bytes([number]))
            remembering.judge([Certificate(data, "", (), "test")], MAILBOX, NOW)
        return len(remembering._remembered)

    assert [3, 2, 2] == [remembered(size) for size in (10, 2000, 3000)]


# --------------------------------------------------------------------------- garbage and engines


@pytest.mark.parametrize(("data", "sentence"), [
    (b"", "is not an OpenPGP certificate"),
    (b"\xc6", "is damaged: it cannot be read to its end"),
    (b"-----BEGIN PGP PUBLIC KEY BLOCK-----", "is damaged: it cannot be read to its end"),
    (OWNER.bind() + certificate(), "is not an OpenPGP certificate"),
    (certificate() + certificate(), "is damaged: it holds another key"),
    (OWNER.secret(certificate(), "mail"), "is not an OpenPGP certificate"),
    (encode(PUBLIC_KEY, b"\x04"), "is damaged: its primary key cannot be read"),
    (encode(PUBLIC_KEY, b""), "is an OpenPGP version 0 certificate, which is not supported"),
], ids=range(8))  # fmt: skip
def test_judge_garbage_is_unusable(data: bytes, sentence: str) -> None:
    """Garbage becomes a verdict; floods do in `tests/fuzz/test_hostile.py`."""
    verdict = judge(data)

    assert (False, sentence) == (verdict.usable, verdict.sentence)


def test_judge_variants_of_one_signature_count_once() -> None:
    """Copies of a signature that differ only in the unhashed area are no flood."""
    variants = [binding(hints=subpacket(100, b"%03d" % number)) for number in range(200)]

    assert judge(certificate(*variants)).usable
