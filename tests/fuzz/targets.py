"""The fuzz targets by name; whoever reads something from strangers adds one to the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.address import user_id_key
from relay.mime import packets
from relay.mime.packets import Packet
from relay.openpgp.algorithms import parse_key
from relay.openpgp.certification import certifies
from relay.openpgp.verification import verifies
from tests import keys
from tests.forge import Owner, Owner6, mpi
from tests.fuzz import copies, leaving, mails, reading, sources
from tests.fuzz.chosen import certificates, check_verdict, key_packets
from tests.fuzz.mutation import MAIL, PACKETS, Change
from tests.opinions import MAILBOX, NOW, judge


@dataclass(frozen=True)
class Target:
    """Something that takes octets from strangers."""

    name: str
    run: Callable[[bytes], None]
    """Raises when something is wrong, AssertionError or whatever else."""
    seeds: Callable[[], Sequence[bytes]]
    """Inputs that get far, to be altered."""
    changes: Sequence[Change] = PACKETS
    """How they are altered."""


# --------------------------------------------------------------------------- judge: any certificate


def judge_any_bytes(data: bytes) -> None:
    """Nothing is raised; what is chosen stands in the input and was bound by its owner; output is bounded."""
    for address in (None, MAILBOX):
        check_verdict(judge(data, address=address), data)


# --------------------------------------------------------------------------- certification: two certificates

SEPARATOR = b"--and then the new one--"
_OLD, _NEW = Owner("old"), Owner("owner")
_OLD6, _NEW6 = Owner6("old"), Owner6("owner")
_HONEST_CHANGES = {(_OLD.primary, _NEW.primary), (_OLD6.primary, _NEW6.primary)}


def _certification_seeds() -> list[bytes]:
    changed = _NEW.start(_NEW.sign(0x13, _NEW.user_id), _OLD.sign(0x10, _NEW.user_id, subject=_NEW.primary))
    changed6 = _NEW6.certificate(_OLD6.sign(0x10, _NEW6.user_id, subject=_NEW6.primary))
    return [_OLD.start() + SEPARATOR + changed + _NEW.bind(), _OLD6.certificate() + SEPARATOR + changed6]


def certify_any_bytes(data: bytes) -> None:
    """Nothing is raised; a change of keys is believed only between the two keys that really signed."""
    old, _, new = data.partition(SEPARATOR)
    if certifies(old, new, MAILBOX, NOW):
        first = [key_packets(half)[0].head for half in (old, new)]
        assert tuple(first) in _HONEST_CHANGES


# --------------------------------------------------------------------------- one signature value


def verify_any_bytes(data: bytes) -> None:
    """Whatever a key and a signature hold: genuine or not, never an exception; only what was signed is."""
    material, _, value = data.partition(SEPARATOR)
    for algorithm in (1, 3, 17, 19, 22, 27, 28, 30):
        for start in (bytes([4, 0, 0, 0, 0, algorithm]), bytes([6, 0, 0, 0, 0, algorithm, 0, 0, 0, 0])):
            key = parse_key(Packet(packets.PUBLIC_KEY, 0, 0, start + material))
            if key and verifies(key, algorithm, 8, _DIGEST, value):
                assert _POINT in material and all(half.lstrip(b"\0") in value for half in _SIGNED)


_DIGEST = bytes(range(32))
_POINT = _NEW.signer.public_key().public_bytes_raw()
_SIGNED = [_NEW.signer.sign(_DIGEST)[start : start + 32] for start in (0, 32)]


def _values() -> list[bytes]:
    """Key material and signature of each kind, the genuine ones among them."""
    legacy = _NEW.primary[6:] + SEPARATOR + b"".join(map(mpi, _SIGNED))
    rsa = key_packets(keys.certificate("rsa2048").data)[0].head[6:] + SEPARATOR + mpi(b"\x7f" + bytes(255))
    p256 = key_packets(keys.certificate("p256").data)[0].head[6:] + SEPARATOR + mpi(b"\x01") * 2
    return [_POINT + SEPARATOR + b"".join(_SIGNED), legacy, rsa, p256, bytes(57) + SEPARATOR + bytes(114)]


# --------------------------------------------------------------------------- addresses in User IDs


_MAX_MAILBOX_CHARS = 400
"""A local part and a domain at their limits."""


def find_any_user_id(data: bytes) -> None:
    """A User ID names one mailbox of bounded length, or none."""
    key = user_id_key(data.decode("utf-8", "replace"))
    assert key is None or ("@" in key and len(key) <= _MAX_MAILBOX_CHARS)


def _user_id_seeds() -> list[bytes]:
    return [
        b"Bob <bob@example.com>",
        "B <b\u00fc@b\u00fccher.example>".encode(),
        b'<"a b"@[192.0.2.1]>',
        b"x@y.z",
    ]


TARGETS = {
    target.name: target
    for target in (
        Target("judge", judge_any_bytes, certificates),
        Target("certification", certify_any_bytes, _certification_seeds),
        Target("verification", verify_any_bytes, _values),
        Target("user-id", find_any_user_id, _user_id_seeds),
        Target("wkd", sources.answer_any_directory, sources.bodies),
        Target("vks", sources.answer_any_vks, sources.bodies),
        Target("hkps", sources.answer_any_hkps, sources.bodies),
        Target("trimming", sources.trim_any_bytes, sources.bodies),
        Target("armor", sources.take_off_any_armour, sources.bodies),
        Target("dane-record", sources.read_any_record, sources.bodies),
        Target("dane-answer", sources.read_any_dns_answer, sources.wires),
        Target("ldap", sources.read_any_ldap_answer, sources.ldap_messages),
        Target("ldap-receive", sources.receive_any_ldap_answer, sources.ldap_messages),
        Target("autocrypt", sources.find_any_autocrypt, sources.fields),
        Target("autocrypt-message", sources.find_any_message, sources.messages),
        Target("redirect", sources.follow_any_redirect, lambda: sources.LOCATIONS),
        Target("retry-after", sources.wait_any_time, lambda: sources.DATES),
        Target("words", reading.decode_any_words, reading.values, MAIL),
        Target("wishes", reading.wish_anything, reading.wished, MAIL),
        Target("inline", reading.take_any_text, mails.texts, MAIL),
        Target("recoding", reading.recode_anything, lambda: mails.trees() * 4 + mails.ordinary(), MAIL),
        Target("structure", reading.divide_anything, lambda: mails.trees() * 4 + mails.ordinary(), MAIL),
        Target("exempt", leaving.exempt_anything, lambda: mails.machines() * 3 + mails.ordinary(), MAIL),
        Target("protection", leaving.protect_anything, mails.ordinary, MAIL),
        Target("copy", copies.copy_anything, lambda: mails.ordinary() + mails.texts(), MAIL),
        Target("seal", copies.seal_anything, copies.finished, MAIL),
    )
}
"""A line here is all that a new target needs: the tests and `python -m tests.fuzz` run what stands in it."""
