"""The running relay signs: real clients, a real Postfix, GnuPG reads and verifies, keys come and go."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pysequoia
import pytest

from tests import keys
from tests.integration.conftest import Site, ciphertext, make_site, only_part
from tests.network import Authority
from tests.postfix import Postfix
from tests.programs import require

pytestmark = pytest.mark.system

SIGNER = "rsa3072"
KEY = keys.certificate(SIGNER).fingerprint
SENDER = "rsa3072@example.com"
ALICE = "curve25519@example.com"
CONTENT = (
    b"From: <rsa3072@example.com>\r\nTo: curve25519@example.com\r\nSubject: Merger\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe \r\n"
)


@contextmanager
def _agent() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="agent-", ignore_cleanup_errors=True) as home:
        gpg = [require("gpg"), "--homedir", home, "--batch", "--quiet"]
        try:
            subprocess.run([*gpg, "--import"], input=keys.secret(SIGNER), check=True, capture_output=True)
            yield Path(home)
        finally:
            subprocess.run([require("gpgconf"), "--homedir", home, "--kill", "all"], check=True)


def _configured(store: str) -> str:
    return (
        f"secret_keys: {{store: {store}}}\n"
        "policy:\n"
        f'  senders: {{"{SENDER}": {{sign: {{key: {KEY}, autocrypt: true}}}}}}\n'
    )


@pytest.fixture(scope="module", params=["file", "gnupg"])
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    next_hop: Postfix,
) -> Iterator[Site]:
    """A relay that signs with a key in a file, or behind an agent."""
    home = tmp_path_factory.mktemp("signing")
    secret = home / "signing.pgp"
    secret.write_bytes(keys.secret(SIGNER))
    secret.chmod(0o600)
    with ExitStack() as stack:
        store = f"{{type: file, path: {secret}}}"
        if request.param == "gnupg":
            store = f"{{type: gnupg, home: {stack.enter_context(_agent())}}}"
        found = make_site(
            home,
            authority,
            f"localhost:{next_hop.starttls_port}",
            change=lambda config: config.replace("policy:\n", _configured(store)),
        )
        with found.relay:
            yield found


def _read(home: Path, message: bytes) -> tuple[bytes, str]:
    """What GnuPG reads, and what it says of the signature."""
    gpg = [require("gpg"), "--homedir", str(home), "--batch", "--status-fd", "2", "--trust-model", "always"]
    done = subprocess.run([*gpg, "--decrypt"], input=ciphertext(message), check=True, capture_output=True)
    return done.stdout, done.stderr.decode("latin-1")


def test_signed_message_of_a_real_client_verifies_behind_postfix(
    site: Site, next_hop: Postfix, recipients_home: Path
) -> None:
    """One message, signed and encrypted; the author's key comes with it; the Subject is hidden."""
    next_hop.clear()
    outcome = site.submit(CONTENT, ALICE, sender=SENDER, options=("BODY=8BITMIME",))

    assert outcome.is_accepted, outcome
    (delivered,) = next_hop.wait_for(1)
    plaintext, status = _read(recipients_home, delivered.content)
    assert re.search(rf"VALIDSIG [0-9A-F]+ .* {KEY}", status), status
    assert b"Gr=C3=BC=C3=9Fe=20\r\n" == only_part(plaintext).partition(b"\r\n\r\n")[2]
    assert b"\r\nSubject: [...]\r\n" in delivered.content
    assert b"\r\nAutocrypt: addr=rsa3072@example.com;" in delivered.content


def test_author_whose_key_it_is_not_is_refused(site: Site, next_hop: Postfix) -> None:
    """A signature never speaks for a colleague."""
    next_hop.clear()
    content = CONTENT.replace(b"From: <rsa3072@example.com>", b"From: <boss@example.com>")
    outcome = site.submit(content, ALICE, sender=SENDER)

    assert (550, "5.7.1") == (outcome.final.code, outcome.final.status)
    assert not next_hop.delivered()


def test_sender_without_a_rule_is_not_signed(site: Site, next_hop: Postfix, recipients_home: Path) -> None:
    """Only whom the policy names."""
    next_hop.clear()
    content = CONTENT.replace(b"From: <rsa3072@example.com>", b"From: <other@example.com>")
    assert site.submit(content, ALICE, sender="other@example.com").is_accepted

    (delivered,) = next_hop.wait_for(1)
    assert "SIG" not in _read(recipients_home, delivered.content)[1]


def test_reload_with_a_key_that_is_nowhere_keeps_the_old_one(site: Site, next_hop: Postfix) -> None:
    """A bad configuration changes nothing, and says why."""
    good = site.relay.path.read_text()
    try:
        site.relay.reload(good.replace(KEY, "AB" * 20))
        site.relay.wait_for("config_refused")
    finally:
        site.relay.path.write_text(good)
    next_hop.clear()
    outcome = site.submit(CONTENT, ALICE, sender=SENDER)

    assert outcome.is_accepted, outcome
    assert "is in none of secret_keys" in str(site.relay.events("config_refused")[-1]["problem"])


def test_reload_goes_on_signing(site: Site, next_hop: Postfix, recipients_home: Path) -> None:
    """A new signer takes over, and the old one ends without a message lost."""
    before = len(site.relay.events("reloaded"))
    site.relay.reload(site.relay.path.read_text())
    site.relay.wait_for("reloaded", before + 1)
    next_hop.clear()
    assert site.submit(CONTENT, ALICE, sender=SENDER).is_accepted

    (delivered,) = next_hop.wait_for(1)
    assert "GOODSIG" in _read(recipients_home, delivered.content)[1]


def _revocation() -> bytes:
    key = pysequoia.Tsk.from_bytes(keys.secret(SIGNER))
    return bytes(pysequoia.Cert.from_bytes(bytes(key.extract_certificate())).revoke(key.certifier()))


def _revoke(site: Site) -> None:
    """Publishes the revocation in the home, or in the file."""
    config = site.relay.path.read_text()
    if found := re.search(r"type: gnupg, home: ([^}]+)}", config):
        gpg = [require("gpg"), "--homedir", found[1], "--batch", "--quiet"]
        subprocess.run([*gpg, "--import"], input=_revocation(), check=True, capture_output=True)
    else:
        secret = Path(re.search(r"type: file, path: ([^}]+)}", config)[1])  # type: ignore[index]  # one of both
        secret.write_bytes(keys.secret(SIGNER) + _revocation())


def test_reload_and_start_with_a_key_that_was_revoked_stop_the_mail_of_its_senders_alone(
    site: Site, next_hop: Postfix
) -> None:
    """The reload is adopted: the key signs no more, others send on; so after a restart. (The last test.)"""
    before = len(site.relay.events("reloaded"))
    _revoke(site)
    site.relay.reload(site.relay.path.read_text())
    site.relay.wait_for("reloaded", before + 1)
    next_hop.clear()
    refused = site.submit(CONTENT, ALICE, sender=SENDER)
    other = CONTENT.replace(b"From: <rsa3072@example.com>", b"From: <other@example.com>")

    assert (451, "4.7.5") == (refused.final.code, refused.final.status)
    assert f"the signing key {KEY} revoked on" in str(site.relay.events("signing_key_unusable")[-1])
    assert site.submit(other, ALICE, sender="other@example.com").is_accepted
    assert 1 == len(next_hop.wait_for(1))
    site.relay.stop()
    with site.relay:
        assert site.relay.events("signing_key_unusable")
        assert not site.relay.events("start_failed")
