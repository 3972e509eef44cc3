"""Every message of `tests/data/mail` passes the round trip, and nothing of it is readable outside.

The claims are those of RFC 9788 and of `relay/mime/`; what is compared was cut by `tests/corpus.py`, which
shares no code with the relay.
"""

from __future__ import annotations

import re
from email import message_from_bytes, policy

import pytest

from relay.message import Sealed
from tests import corpus
from tests.integration.mail.journeys import MESSAGES, Fields, arrived, decrypted, outgoing

pytestmark = pytest.mark.system

ENCRYPTED_HERE = tuple(name for name in MESSAGES if name not in corpus.ENCRYPTED)
WRAPPED = tuple(name for name in ENCRYPTED_HERE if name not in corpus.SELF_PROTECTED)
WITH_GNUPG = (
    *("outlook-exchange", "apple-mail", "no-body", "header-only", "raw-latin1-headers", "charset-utf-16"),
    *("body-long-lines", "body-trailing-blanks", "pgp-signed", "relayed", "nested-100", "recipients-2000"),
)
CASES = [*((name, "sequoia") for name in WRAPPED), *((name, "gnupg") for name in WITH_GNUPG)]

_NEVER_LEAVES = re.compile(
    r"bcc|resent-bcc|return-path|fcc|x-account-key|x-identity-key|x-mozilla-.*|x-enigmail-draft-status"
    r"|autocrypt-draft-state|hp-outer"
)
_TRACE = re.compile(
    r"received|x-received|delivered-to|x-original-to|authentication-results|received-spf"
    r"|dkim-signature|domainkey-signature|arc-.*"
)
_HIDDEN = re.compile(
    r"comments|keywords|thread-topic|user-agent|x-mailer|x-originating-ip|dkim-signature|arc-.*"
)
_ADDED = {"date", "message-id"}
"""What a submission gets where it has none (RFC 6409 §8), behind its other fields."""


def _authored(fields: Fields) -> list[bytes]:
    """The fields that the author wrote and that may leave."""
    return [
        raw
        for name, raw in fields
        if not corpus.is_structural(name) and not _NEVER_LEAVES.fullmatch(name) and not _TRACE.fullmatch(name)
    ]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_entity_arrives_byte_for_byte(name: str, engine: str) -> None:
    """The only part of the payload is the submitted body behind its own Content-* fields, verbatim."""
    copy = arrived(name, engine)
    expected = corpus.entity(copy.submitted)

    added = copy.child.removesuffix(expected)

    assert added + expected == copy.child
    # Where the sender named no type, the one that is meant stands in front (RFC 2045 §5.2).
    fields, rest = corpus.split(added + b"\r\n")
    has_type = any(field == "content-type" for field, _ in corpus.split(copy.submitted)[0])
    assert (b"", has_type) == (rest, not added)
    assert {field for field, _ in fields} <= {"content-type", "content-transfer-encoding"}


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_header_is_copied_into_the_payload(name: str, engine: str) -> None:
    """Every field that the author wrote stands in the payload root, byte for byte and in order (H-03)."""
    copy = arrived(name, engine)
    expected = _authored(corpus.split(copy.submitted)[0])

    actual = _authored(copy.copied)

    assert expected == actual[: len(expected)]
    added = {field for field, raw in copy.copied if raw in actual[len(expected) :]}
    assert added <= _ADDED


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_payload_root_describes_only_itself(name: str, engine: str) -> None:
    """The root has no structural field but its own, nothing that may not leave, no long line (H-05, H-16)."""
    copy = arrived(name, engine)
    fields = [*copy.copied, *copy.recomputed]
    header = copy.plaintext.partition(b"\r\n\r\n")[0]

    assert 998 >= max(len(line) for line in header.split(b"\r\n"))

    assert [] == [field for field, _ in fields if corpus.is_structural(field)]
    assert [] == [field for field, _ in fields if _NEVER_LEAVES.fullmatch(field)]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_outer_header_is_what_hp_outer_says(name: str, engine: str) -> None:
    """The header recomputed from HP-Outer is the outer one without trace fields (H-04).

    Folds and blanks in front of a value are no part of it (RFC 5322 §2.2.3).
    """
    copy = arrived(name, engine)

    assert [_value(raw) for raw in _authored(copy.outer)] == [_value(raw) for _, raw in copy.recomputed]


def _value(raw: bytes) -> tuple[bytes, bytes]:
    field, _, value = raw.replace(b"\r\n", b"").partition(b":")
    return field, value.strip()


@pytest.mark.parametrize("name", ENCRYPTED_HERE)
def test_outer_fields_are_submitted_ones_in_order(name: str) -> None:
    """Outside stand submitted fields, byte for byte and in order, the Subject as `[...]` and nothing else."""
    copy = arrived(name)
    submitted = [
        b"Subject: [...]\r\n" if field == "subject" else raw
        for field, raw in corpus.split(copy.submitted)[0]
        if not corpus.is_structural(field)
    ]
    rest = iter(submitted)

    strange = [field for field, raw in copy.outer if field not in _ADDED and raw not in rest]

    assert [] == strange
    assert submitted.count(b"Subject: [...]\r\n") == copy.sealed.header.count(b"\r\nSubject: [...]\r\n")


@pytest.mark.parametrize("name", ENCRYPTED_HERE)
def test_fields_of_author_and_machine_stay_inside(name: str) -> None:
    """Fields that tell of the content, of the sender's machine, or that may not leave, are not outside."""
    outer = [field for field, _ in arrived(name).outer]

    assert [] == [field for field in outer if _HIDDEN.fullmatch(field) or _NEVER_LEAVES.fullmatch(field)]
    assert [] == [field for field in outer if corpus.is_structural(field)]


@pytest.mark.parametrize("name", ENCRYPTED_HERE)
def test_no_marker_is_readable_outside(name: str) -> None:
    """No secret of the message is found in the outer octets, raw, unfolded or decoded (H-17)."""
    sealed = arrived(name).sealed

    assert set() == corpus.markers(sealed.header + b"\r\n" + sealed.body)


@pytest.mark.parametrize("name", WRAPPED)
def test_second_parser_sees_one_part_in_a_protected_root(name: str) -> None:
    """Python's parser reads the payload as `multipart/mixed; hp=cipher` with one child and the Subject."""
    copy = arrived(name)

    root = message_from_bytes(copy.plaintext, policy=policy.compat32)

    assert ("multipart/mixed", "cipher", "v1") == (
        root.get_content_type(),
        root.get_param("hp"),
        root.get_param("protected-headers"),
    )
    assert 1 == len(root.get_payload())
    submitted = message_from_bytes(copy.submitted, policy=policy.compat32)
    assert str(submitted["subject"]) == str(root["subject"])


@pytest.mark.parametrize("name", sorted(corpus.SELF_PROTECTED))
def test_message_whose_signed_part_holds_the_header_is_the_payload_itself(name: str) -> None:
    """Nothing stands around a signed part that has the Subject inside: readers show it and its signature."""
    copy = arrived(name)

    assert corpus.entity(copy.submitted) == copy.plaintext


@pytest.mark.parametrize("name", sorted(corpus.ENCRYPTED))
def test_message_that_the_client_encrypted_passes_unchanged(name: str) -> None:
    """It leaves with the trace field of the relay in front and no other change, and can be opened."""
    copy = outgoing(MESSAGES[name])
    header, _, body = MESSAGES[name].partition(b"\r\n\r\n")

    assert isinstance(copy, Sealed)
    assert (True, body) == (copy.passed_through, copy.body)
    assert copy.header.endswith(b"\r\n" + header + b"\r\n")
    assert corpus.markers(decrypted(copy.body))
