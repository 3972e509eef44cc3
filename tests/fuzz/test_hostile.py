"""The certificates of `hostile.py`: each gets its verdict, and nobody is kept waiting by one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pysequoia
import pytest

from relay.message import Certificate
from relay.openpgp import judge as judging
from relay.openpgp.assessment import MAX_CHOSEN
from relay.openpgp.certification import certifies
from relay.openpgp.judge import Judge
from relay.openpgp.parts import MAX_BYTES
from tests import keys
from tests.forge import Owner, at, packets_of
from tests.fuzz.hostile import HOSTILE, ORDINARY, Hostile
from tests.opinions import MAILBOX, NOW, OWNER, binding, certificate, judge

_MAX_OCTETS = 200_000
"""What pysequoia may be given at once; its calls hold the interpreter lock."""
_MAX_SIGNATURES = 24


@pytest.mark.timeout(20)  # some hundred milliseconds are normal
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_judge_hostile_certificate_gets_its_verdict(hostile: Hostile) -> None:
    """A certificate that was made to cost much becomes a sentence, in bounded time."""
    assert hostile.verdict == judge(hostile.make()).sentence


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_judge_hostile_certificate_reaches_pysequoia_in_small_pieces(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pysequoia holds the interpreter lock, so it sees few octets and few signatures at a time."""
    given: list[bytes] = []

    class Watched:
        @staticmethod
        def from_bytes(data: bytes) -> pysequoia.Cert:
            given.append(data)
            return original.from_bytes(data)

    original = pysequoia.Cert
    monkeypatch.setattr(pysequoia, "Cert", Watched)

    judge(hostile.make())

    assert [] == [len(data) for data in given if len(data) > _MAX_OCTETS]
    assert [] == [data for data in given if _signatures(data) > _MAX_SIGNATURES]


def _signatures(data: bytes) -> int:
    return sum(packet.tag == 2 for packet in packets_of(data))


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_certifies_hostile_certificate_is_false(hostile: Hostile) -> None:
    """Whatever a new certificate brings, no other key has certified it by that."""
    old = keys.certificate("curve25519").data

    assert not certifies(old, hostile.make(), MAILBOX, NOW)
    assert not certifies(hostile.make(), old, MAILBOX, NOW)


def test_judge_largest_certificate_allowed_is_judged() -> None:
    """The limit is a limit of one copy: a real certificate with much in it passes."""
    photo = next(hostile for hostile in HOSTILE if "photo" in hostile.name).make()

    assert MAX_BYTES // 2 < len(photo) <= MAX_BYTES
    assert judge(photo, ORDINARY).usable


def test_judge_slow_certificate_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread judges, another gets its answer, remembered or not."""
    entered, leave, original = Event(), Event(), judging._judge
    slow, quick = Certificate(b"slow", "", (), "x"), keys.certificate("curve25519")

    def wait(copies: tuple[Certificate, ...], *others: object) -> object:
        if copies[0] is slow:
            entered.set()
            assert leave.wait(60)
        return original(copies, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(judging, "_judge", wait)
    shared, address = Judge(), keys.fixture("curve25519").address
    thread = Thread(target=shared.judge, args=([slow], address, NOW))
    thread.start()
    try:
        assert entered.wait(60)
        answers = [shared.judge([quick], address, NOW)[0] for _ in range(2)]
        assert [True, True, False] == [
            *(verdict.usable for verdict in answers),
            shared.remembers([slow], address, NOW),
        ]
    finally:
        leave.set()
        thread.join(60)
    assert shared.remembers([slow], address, NOW)


@pytest.mark.parametrize(("genuine", "usable"), [(True, False), (False, True)])
def test_assess_newer_binding_without_flags_counts_among_many(genuine: bool, usable: bool) -> None:
    """One genuine binding that ends the use is found among dozens of forged ones."""
    forged = [binding(on=at(2025, 3) + number, flags=None, genuine=False) for number in range(40)]
    forged.insert(20, binding(on=at(2025, 2), flags=None, genuine=genuine))

    assert usable == judge(certificate(binding(), *forged)).usable


def test_assess_more_subkeys_than_anybody_has_is_refused() -> None:
    """Encrypting to each of them costs time in every message."""
    subkeys = [OWNER.bind(label=str(number)) for number in range(MAX_CHOSEN + 1)]

    verdicts = [judge(OWNER.start() + b"".join(some)) for some in (subkeys[1:], subkeys)]

    assert ["usable", f"has more than {MAX_CHOSEN} subkeys for mail"] == [
        verdict.sentence for verdict in verdicts
    ]


def test_judge_from_many_threads_gives_each_its_answers() -> None:
    """Threads that ask the same and other questions at once get what one alone gets."""
    questions = [fixture for fixture in keys.FIXTURES if fixture.name != "pqc"] * 3
    shared = Judge()

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda q: shared.judge([q.certificate], q.address, NOW)[0], questions))

    assert [question.verdict for question in questions] == [verdict.sentence for verdict in verdicts]
    assert shared._octets == sum(known.octets for known in shared._remembered.values())


def test_judge_more_certificates_than_anybody_has_are_not_looked_at() -> None:
    """Who answers with thousands does not choose how long that takes; copies of one count once."""
    owners = [Owner(f"owner {number}") for number in range(judging.MAX_CERTIFICATES + 1)]
    data = [owner.start(user_id=OWNER.user_id) + owner.bind() for owner in owners]
    found = [Certificate(one, "", (), "test") for one in [data[0], *data]]

    verdicts = Judge().judge(found, MAILBOX, NOW)

    assert [True] * judging.MAX_CERTIFICATES + [False] == [verdict.usable for verdict in verdicts]
    assert "was not looked at: 16 other certificates come before it" == verdicts[-1].sentence
