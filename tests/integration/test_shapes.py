"""The running relay gives each recipient the copy that its rule asks for: real clients, Postfix, GnuPG."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import keys
from tests.integration.conftest import SENDER, Site, ciphertext, gpg_decrypt, make_site
from tests.network import Authority
from tests.postfix import Postfix
from tests.programs import require
from tests.unit.test_pipeline_kinds import CALENDAR, MARKER, MDN

pytestmark = pytest.mark.system

ALICE, INLINE, KEPT = "curve25519@example.com", "rsa2048@example.com", "rsa3072@example.com"
OWNER = "p256@example.com"
POLICY = f"""\
wishes: {{header: X-Encrypt, always: "[encrypt]", never: "[clear]"}}
policy:
  default: {{encrypt: always, keys: [folder], exempt: [mdn], calendar: clear}}
  addresses:
    {INLINE}: {{format: inline, headers: keep}}
    {KEPT}: {{headers: keep}}
    {OWNER}: {{also_encrypt_to: [{keys.certificate("several-2").fingerprint}]}}
  domains:
    clear.example: {{encrypt: never}}
    open.example: {{encrypt: always, wish_to_lower: allow}}
"""


def _content(to: str, subject: str = "Merger", more: str = "") -> bytes:
    head = f"From: <{SENDER}>\r\nTo: {to}\r\nSubject: {subject}\r\n{more}"
    return head.encode() + b"\r\n" + MARKER + b"\r\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, authority: Authority, next_hop: Postfix) -> Iterator[Site]:
    """A relay whose rules differ in what a copy looks like."""
    found = make_site(
        tmp_path_factory.mktemp("shapes"),
        authority,
        f"localhost:{next_hop.starttls_port}",
        change=lambda config: config.partition("policy:")[0] + POLICY + "log: {format: json}\n",
    )
    with found.relay:
        yield found


@pytest.fixture
def outbox(next_hop: Postfix) -> Postfix:
    """Postfix with an empty mailbox."""
    next_hop.clear()
    return next_hop


def _gpg(home: Path, message: bytes) -> bytes:
    """What GnuPG reads, as it was encrypted."""
    gpg = [require("gpg"), "--homedir", str(home), "--batch", "--quiet"]
    return subprocess.run(
        [*gpg, "--decrypt"], input=ciphertext(message), check=True, capture_output=True
    ).stdout


def test_subject_is_inside_and_nowhere_else(site: Site, outbox: Postfix, recipients_home: Path) -> None:
    """The ordinary recipient."""
    assert site.submit(_content(ALICE), ALICE).is_accepted
    (delivered,) = outbox.wait_for(1)

    assert b"Merger" not in delivered.content
    assert b"\r\nSubject: Merger\r\n" in _gpg(recipients_home, delivered.content)
    assert gpg_decrypt(recipients_home, delivered.content).endswith(b"\r\n\r\n" + MARKER + b"\r\n")


def test_one_message_has_the_shape_that_each_recipient_s_rule_wants(
    site: Site, outbox: Postfix, recipients_home: Path
) -> None:
    """Protected, inline and kept copies of one message, each for its own recipients."""
    assert site.submit(_content(f"{ALICE}, {INLINE}, {KEPT}"), ALICE, INLINE, KEPT).is_accepted
    found = {copy.recipient: copy.content for copy in outbox.wait_for(3)}
    bodies = {to: content.partition(b"\r\n\r\n")[2] for to, content in found.items()}

    assert bodies[INLINE].startswith(b"-----BEGIN PGP MESSAGE-----")
    assert MARKER + b"\r\n" == _gpg(recipients_home, found[INLINE])
    assert _gpg(recipients_home, found[KEPT]).startswith(b"Content-Type: text/plain")
    assert [False, True, True] == [b"Subject: Merger" in found[to] for to in (ALICE, INLINE, KEPT)]


def test_other_readers_can_open_the_copy(site: Site, outbox: Postfix, recipients_home: Path) -> None:
    """The archive's key is one of the ciphertext's."""
    assert site.submit(_content(OWNER), OWNER).is_accepted
    (delivered,) = outbox.wait_for(1)
    (copy,) = [event for event in site.relay.events("copy_delivered") if event["recipients"] == OWNER]

    assert 2 == len(str(copy["key_ids"]).split())
    assert MARKER in _gpg(recipients_home, delivered.content)


def test_receipt_and_invitation_leave_as_they_are(site: Site, outbox: Postfix) -> None:
    """Machines can read them; the message that came back is gone, and the log says why."""
    assert site.submit(MDN, "nobody@example.com", sender="").is_accepted
    assert site.submit(CALENDAR, ALICE).is_accepted
    receipt, invitation = outbox.wait_for(2)

    assert b"disposition-notification" in receipt.content
    assert MARKER not in receipt.content
    assert invitation.content.endswith(CALENDAR.partition(b"\r\n\r\n")[2])
    assert ["mdn", "calendar"] == [event["kind"] for event in site.relay.events("recipient_exempted")]


def test_ordinary_message_dressed_as_a_receipt_is_refused(site: Site, outbox: Postfix) -> None:
    """Its label alone releases nothing."""
    label = "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n"
    outcome = site.submit(_content("nobody@example.com", more=label), "nobody@example.com", sender="")

    assert (550, "5.7.1") == (outcome.final.code, outcome.final.status)
    assert not outbox.delivered()


def test_wishes_are_heeded_and_never_seen(site: Site, outbox: Postfix, recipients_home: Path) -> None:
    """One raises a rule that would not encrypt, one lowers a rule that allows it."""
    refused = site.submit(_content("x@clear.example", "[encrypt] Merger"), "x@clear.example")
    assert 550 == refused.final.code
    content = _content("x@open.example", more="X-Encrypt: never\r\n")
    assert site.submit(content, "x@open.example").is_accepted
    assert site.submit(_content(ALICE, "Re: [clear] Merger"), ALICE).is_accepted
    lowered, kept = outbox.wait_for(2)

    assert MARKER in lowered.content
    assert b"X-Encrypt" not in lowered.content
    assert b"\r\nSubject: Re: Merger\r\n" in _gpg(recipients_home, kept.content)
