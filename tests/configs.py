"""What tests of the configuration share: a small one, the files that others point at, how to load a text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import argon2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay.config import Config, ConfigInvalid, load

MINIMAL = """\
hostname: relay.example.com
listen: [{address: "127.0.0.1:0", tls: none}]
next_hop: {address: "mail.example.com:465"}
keys: {folder: {type: directory, path: keys}}
policy: {default: {keys: [folder]}}
"""

Load = Callable[..., Config]


def make_files(directory: Path) -> Path:
    """Fills the directory with certificates, secrets, logins and a program that is called gpg."""
    key = ec.generate_private_key(ec.SECP256R1())
    (directory / "cert.pem").write_bytes(certificate(key))
    write_secret(directory / "key.pem", pem(key))
    write_secret(directory / "other-key.pem", pem(ec.generate_private_key(ec.SECP256R1())))
    write_secret(directory / "encrypted-key.pem", pem(key, serialization.BestAvailableEncryption(b"secret")))
    write_secret(directory / "password", b"correct horse\n")
    write_secret(directory / "empty", b"")
    hash = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")
    write_secret(directory / "users.passwd", f"alice@example.com:{hash}\n".encode())
    write_secret(directory / "bad.passwd", b"alice@example.com:secret\n\nbob\n")
    (directory / "keys").mkdir()
    (directory / "bin").mkdir()
    (directory / "bin" / "gpg").write_text("#!/bin/sh\n")
    (directory / "bin" / "gpg").chmod(0o755)
    return directory


def write_secret(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example.com")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=3650))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(
    key: ec.EllipticCurvePrivateKey,
    encryption: serialization.KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )


def loader(directory: Path, files: Path) -> Load:
    """Loads a text as `relay.yaml` in the directory, which gets an empty `keys`; `${FILES}` is `files`."""
    (directory / "keys").mkdir()

    def of(text: str, **environ: str) -> Config:
        file = directory / "relay.yaml"
        file.write_text(text)
        return load(file, {"FILES": str(files), **environ})

    return of


def problems(loaded: Load, text: str, **environ: str) -> list[tuple[int, str, str]]:
    """Line, setting and message of each problem of the text."""
    with pytest.raises(ConfigInvalid) as caught:
        loaded(text, **environ)
    return [(problem.line, problem.path, problem.message) for problem in caught.value.problems]
