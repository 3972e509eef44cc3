"""Makes the key fixtures of this folder. Needs gpg 2.2, faketime and the project's virtual environment.

    .venv/bin/python tests/data/keys/make.py

Keys of GnuPG and pysequoia are random: running it again gives other fingerprints and the same verdicts. Those
that are written by hand (`tests/forge.py`) come out the same each time. See README.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from relay.mime.packets import PUBLIC_KEY, PUBLIC_SUBKEY  # noqa: E402 - the path is set above
from relay.openpgp.signatures import encode  # noqa: E402
from tests import keys  # noqa: E402
from tests.forge import MDC_ONLY, SEIPD2, Owner, Owner6, at, raw, subpacket  # noqa: E402

GPG = [
    "gpg", "--batch", "--quiet", "--no-random-seed-file", "--no-auto-key-locate", "--no-permission-warning",
    "--pinentry-mode", "loopback", "--passphrase", "", "--yes",
]  # fmt: skip
MADE = "20240301T120000"


class Keyring:
    """A GnuPG home of its own with a clock of its own."""

    def __init__(self, home: Path) -> None:
        self._env = os.environ | {"GNUPGHOME": str(home), "LC_ALL": "C"}

    def run(self, *arguments: str, when: str = MADE, stdin: bytes = b"") -> bytes:
        command = [*GPG, "--faked-system-time", f"{when}!", *arguments]
        return subprocess.run(command, check=True, env=self._env, input=stdin, capture_output=True).stdout

    def primary(
        self, user_id: str, algorithm: str, usage: str, expire: str = "never", *options: str, when: str = MADE
    ) -> str:
        self.run(*options, "--quick-generate-key", user_id, algorithm, usage, expire, when=when)
        listing = self.run("--list-keys", "--with-colons", user_id).decode()
        found = re.search(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)
        assert found
        return found[1]

    def subkey(
        self, primary: str, algorithm: str, expire: str = "never", *options: str, when: str = MADE
    ) -> None:
        self.run(*options, "--quick-add-key", primary, algorithm, "encr", expire, when=when)

    def keep(self, name: str, primary: str) -> None:
        """Writes the certificate and its secret keys."""
        write(name, self.run("--export", primary), self.run("--export-secret-keys", primary))

    def edit(self, primary: str, *answers: str, when: str) -> None:
        self.run(
            "--command-fd", "0", "--expert", "--edit-key", primary,
            when=when, stdin="".join(f"{answer}\n" for answer in answers).encode(),
        )  # fmt: skip


def write(name: str, public: bytes, secret: bytes = b"") -> None:
    (HERE / f"{name}.pgp").write_bytes(public)
    if secret:
        (HERE / f"{name}.secret.pgp").write_bytes(secret)


def mailbox(name: str) -> str:
    return f"{name} <{name}@example.com>"


def with_gnupg(ring: Keyring) -> None:
    for name, primary, mail in [
        ("rsa3072", "rsa3072", "rsa3072"),
        ("rsa2048", "rsa2048", "rsa2048"),
        ("rsa1024", "rsa1024", "rsa1024"),
        ("curve25519", "ed25519", "cv25519"),
        ("p256", "nistp256", "nistp256"),
        ("dsa-elgamal", "dsa2048", "elg2048"),
        ("weak-subkey", "ed25519", "rsa1024"),
        ("elgamal-subkey", "ed25519", "elg2048"),
    ]:
        key = ring.primary(mailbox(name), primary, "sign,cert")
        ring.subkey(key, mail)
        ring.keep(name, key)

    key = ring.primary(mailbox("primary-for-mail"), "rsa2048", "cert,sign,encr")
    ring.keep("primary-for-mail", key)

    key = ring.primary(mailbox("expired-primary"), "ed25519", "sign,cert", "1y")
    ring.subkey(key, "cv25519")
    ring.keep("expired-primary", key)

    key = ring.primary(mailbox("expired-subkey"), "ed25519", "sign,cert")
    ring.subkey(key, "cv25519", "30d")
    ring.keep("expired-subkey", key)

    key = ring.primary(mailbox("extended"), "ed25519", "sign,cert", "1y")
    ring.subkey(key, "cv25519", "1y")
    ring.run("--quick-set-expire", key, "0", when="20250101T120000")
    ring.run("--quick-set-expire", key, "0", "*", when="20250101T120000")
    ring.keep("extended", key)

    key = ring.primary(mailbox("revoked-primary"), "ed25519", "sign,cert")
    ring.subkey(key, "cv25519")
    ring.keep("revoked-primary-before", key)
    ring.edit(key, "revkey", "y", "1", "", "y", "save", when="20250102T120000")
    ring.keep("revoked-primary", key)

    key = ring.primary(mailbox("revoked-subkey"), "ed25519", "sign,cert")
    ring.subkey(key, "cv25519")
    ring.edit(key, "key 1", "revkey", "y", "3", "", "y", "save", when="20250102T120000")
    ring.keep("revoked-subkey", key)

    key = ring.primary("other <other@example.com>", "ed25519", "sign,cert")
    ring.subkey(key, "cv25519")
    ring.run("--quick-add-uid", key, mailbox("revoked-user-id"))
    ring.run("--quick-revoke-uid", key, mailbox("revoked-user-id"), when="20250102T120000")
    ring.keep("revoked-user-id", key)

    key = ring.primary(mailbox("sign-only"), "ed25519", "sign,cert")
    ring.keep("sign-only", key)

    key = ring.primary("somebody <not-wrong-user-id@example.com>", "ed25519", "sign,cert")
    ring.subkey(key, "cv25519")
    ring.keep("wrong-user-id", key)

    key = ring.primary("bare-address@example.com", "ed25519", "sign,cert")
    ring.subkey(key, "cv25519")
    ring.keep("bare-address", key)

    key = ring.primary(mailbox("two-subkeys-one-expired"), "ed25519", "sign,cert")
    ring.subkey(key, "cv25519", "30d")
    ring.subkey(key, "cv25519", when="20240501T120000")
    ring.keep("two-subkeys-one-expired", key)

    key = ring.primary(mailbox("two-subkeys"), "ed25519", "sign,cert")
    ring.subkey(key, "cv25519")
    ring.subkey(key, "cv25519", when="20240501T120000")
    ring.keep("two-subkeys", key)

    sha1 = ("--cert-digest-algo", "SHA1")
    key = ring.primary(mailbox("sha1"), "ed25519", "sign,cert", "never", *sha1)
    ring.subkey(key, "cv25519", "never", *sha1)
    ring.keep("sha1", key)

    for name, when in [("several-1", MADE), ("several-2", "20250301T120000")]:
        key = ring.primary(f"{name} <several@example.com>", "ed25519", "sign,cert", when=when)
        ring.subkey(key, "cv25519", when=when)
        ring.keep(name, key)


def with_pysequoia() -> None:
    """Version 6 exists in pysequoia only; faketime sets its clock."""
    script = (
        "import sys, pysequoia as s\n"
        "suite = getattr(s.CipherSuite, sys.argv[3])\n"
        "tsk = s.Tsk.generate(sys.argv[1], profile=s.Profile.RFC9580, cipher_suite=suite)\n"
        "open(sys.argv[2] + '.secret.pgp', 'wb').write(bytes(tsk))\n"
        "open(sys.argv[2] + '.pgp', 'wb').write(bytes(tsk.extract_certificate()))\n"
    )
    for name, suite in [("v6", "Cv25519"), ("pqc", "MLDSA65_Ed25519")]:
        subprocess.run(
            ["faketime", "-f", "2024-03-01 12:00:00", sys.executable, "-c", script,
             mailbox(name), str(HERE / name), suite],
            check=True, env=os.environ | {"TZ": "UTC"},
        )  # fmt: skip
    packets = raw((HERE / "v6.pgp").read_bytes())
    write("v6-without-direct-key", b"".join([packets[0], *packets[2:]]))


def by_hand() -> None:
    def keep(owner: Owner, certificate: bytes, *labels: str) -> None:
        write(owner.name, certificate, owner.secret(certificate, *labels) if labels else b"")

    owner = Owner("storage-only")
    keep(owner, owner.start() + owner.bind(owner.sign(0x18, owner.subkey(), flags=b"\x08")), "mail")

    owner = Owner("storage-beside-mail")
    storage = owner.bind(owner.sign(0x18, owner.subkey("disk"), flags=b"\x08"), label="disk")
    mail = owner.bind(owner.sign(0x18, owner.subkey(), flags=b"\x04"))
    keep(owner, owner.start() + storage + mail, "disk", "mail")

    owner = Owner("long-key-flags")
    keep(
        owner,
        owner.start() + owner.bind(owner.sign(0x18, owner.subkey(), flags=b"\x0c\x04\x00\x00")),
        "mail",
    )

    owner = Owner("future", created=at(2040))
    keep(owner, owner.start() + owner.bind())

    owner = Owner("no-key-flags")
    keep(owner, owner.start() + owner.bind(owner.sign(0x18, owner.subkey())))

    owner = Owner("no-features")
    start = owner.start(owner.sign(0x13, owner.user_id, flags=b"\x01", claims=b""))
    keep(owner, start + owner.bind(), "mail")

    owner = Owner("old-version")
    body = b"\x03" + owner.created.to_bytes(4) + b"\x00\x00\x01" + b"\x00\x08\x80" + b"\x00\x02\x03"
    keep(owner, encode(PUBLIC_KEY, body) + owner.start()[len(encode(PUBLIC_KEY, owner.primary)) :])

    owner = Owner("librepgp")
    body = b"\x05" + owner.primary[1:6] + len(owner.primary[6:]).to_bytes(4) + owner.primary[6:]
    keep(owner, encode(PUBLIC_KEY, body) + owner.start()[len(encode(PUBLIC_KEY, owner.primary)) :])


def generations() -> None:
    """What owners say of the containers and ciphers that they can read."""

    def keep(name: str, claims: bytes, hints: bytes = b"") -> None:
        owner = Owner(name)
        issuer = subpacket(16, bytes.fromhex(owner.fingerprint[-16:]))
        on_name = owner.sign(0x13, owner.user_id, flags=b"\x01", claims=claims, hints=issuer + hints)
        certificate = owner.start(on_name) + owner.bind()
        write(name, certificate, owner.secret(certificate, "mail"))

    keep("features-7", subpacket(30, b"\x07"))
    keep("features-9", SEIPD2)
    keep("features-unhashed", b"", SEIPD2)
    keep("aes128-only", MDC_ONLY + subpacket(11, b"\x07"))

    owner = Owner6("v6-no-features")
    certificate = owner.certificate(features=b"")
    write(owner.name, certificate, owner.secret(certificate))


def forged() -> None:
    month, decade = 30 * 86400, 3650 * 86400

    owner = Owner("forged-newer-binding")
    honest = owner.sign(0x18, owner.subkey(), flags=b"\x0c", key_lasts=month)
    patched = owner.sign(0x18, owner.subkey(), on=at(2026), flags=b"\x0c", key_lasts=decade, genuine=False)
    write(owner.name, owner.start() + owner.bind(honest, patched))

    owner, stranger = Owner("grafted-subkey"), Owner("stranger")
    graft = encode(PUBLIC_SUBKEY, stranger.subkey())
    claimed = owner.sign(0x18, stranger.subkey(), on=at(2026), flags=b"\x0c", genuine=False)
    theirs = stranger.sign(0x18, stranger.subkey(), flags=b"\x0c", hints=b"")
    certificate = owner.start() + owner.bind()
    write(owner.name, certificate + graft + claimed + theirs, owner.secret(certificate, "mail"))

    owner = Owner("only-grafted-subkey")
    claimed = owner.sign(0x18, stranger.subkey(), flags=b"\x0c", genuine=False)
    write(owner.name, owner.start() + graft + claimed)

    owner = Owner("forged-features")
    honest = owner.sign(
        0x13,
        owner.user_id,
        flags=b"\x01",
        hints=subpacket(16, bytes.fromhex(owner.fingerprint[-16:])) + SEIPD2,
    )
    patched = owner.sign(0x13, owner.user_id, on=at(2026), flags=b"\x01", claims=SEIPD2, genuine=False)
    certificate = owner.start(honest, patched) + owner.bind()
    write(owner.name, certificate, owner.secret(certificate, "mail"))

    owner = Owner("forged-key-flags")
    honest = owner.sign(0x18, owner.subkey(), flags=b"\x08")
    patched = owner.sign(0x18, owner.subkey(), on=at(2026), flags=b"\x0c", genuine=False)
    write(owner.name, owner.start() + owner.bind(honest, patched))

    owner = Owner("forged-user-id")
    real = owner.start(user_id=b"real <real@example.com>")
    false_name = raw(owner.start(owner.sign(0x13, owner.user_id, flags=b"\x01", genuine=False)))
    write(owner.name, real + b"".join(false_name[1:]) + owner.bind())


def main() -> None:
    for old in HERE.glob("*.pgp"):
        old.unlink()
    home = Path(tempfile.mkdtemp(prefix="fixture"))
    try:
        with_gnupg(Keyring(home))
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
        shutil.rmtree(home)
    with_pysequoia()
    by_hand()
    generations()
    forged()
    for fixture in keys.UNUSABLE:
        (HERE / f"{fixture.name}.secret.pgp").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
