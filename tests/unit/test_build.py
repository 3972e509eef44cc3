"""Tests of `relay/build.py`: each configured kind of part becomes the right one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme

from relay import build, config
from relay.authenticators import FileAuth, NextHopAuth, NoAuth
from relay.keys.directory import DirectorySource
from relay.keys.gnupg import GnupgSource
from relay.nexthop.settings import Tls
from relay.server import users
from tests.fakes import FixedClock, ListJournal

CONFIG = """\
hostname: relay.example.com
listen: [{{address: "127.0.0.1:0", tls: none}}]
auth: {auth}
next_hop: {{address: "127.0.0.1:25", tls: none, connections: 7, connections_per_message: 2{more}}}
keys:
  folder: {{type: directory, path: keys}}
  ring: {{type: gnupg, home: home}}
policy: {{default: {{keys: [folder, ring]}}}}
"""


def _load(tmp_path: Path, auth: str = "{type: none}", more: str = "") -> config.Config:
    for name in ("keys", "home"):
        (tmp_path / name).mkdir()
    users.write(tmp_path / "users.passwd", "a@example.com", "secret")
    (tmp_path / "relay.yaml").write_text(CONFIG.format(auth=auth, more=more))
    return config.load(tmp_path / "relay.yaml", os.environ)


def test_build_keys_makes_every_source_by_its_type(tmp_path: Path) -> None:
    """Names are kept, because rules list them."""
    sources = build.build_keys(_load(tmp_path), FixedClock(), ListJournal())

    assert {"folder": DirectorySource, "ring": GnupgSource} == {
        name: type(source) for name, source in sources.items()
    }
    assert ["folder", "ring"] == [source.name for source in sources.values()]


@pytest.mark.parametrize(
    ("auth", "kind", "client_login"),
    [
        ("{type: none}", NoAuth, False),
        ("{type: users, users: {file: users.passwd}}", FileAuth, False),
        ("{type: next-hop}", NextHopAuth, True),
    ],
)
def test_build_authenticator_follows_auth_type(
    auth: str, kind: type, client_login: bool, tmp_path: Path
) -> None:
    """Who judges logins is what the configuration says, and the next hop knows whose login it gets."""
    loaded = _load(tmp_path, auth)

    assert kind is type(build.build_authenticator(loaded))
    assert client_login == build.next_hop_settings(loaded).client_login


def test_next_hop_settings_carry_every_setting(tmp_path: Path) -> None:
    """Nothing that was configured is dropped on the way."""
    settings = build.next_hop_settings(_load(tmp_path))

    assert ("127.0.0.1", 25, "relay.example.com", Tls.NONE, 7, 2, False) == (
        settings.host,
        settings.port,
        settings.hostname,
        settings.tls,
        settings.max_connections,
        settings.connections_per_message,
        settings.client_login,
    )


def test_next_hop_settings_carry_the_own_login(tmp_path: Path) -> None:
    """The relay's own login is the one of the configuration, its password read from its file."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)

    settings = build.next_hop_settings(_load(tmp_path, more=", username: relay, password_file: secret"))

    assert ("relay", "hunter2") == (settings.username, settings.password)


def test_next_hop_settings_carry_the_trusted_authorities(tmp_path: Path) -> None:
    """A private CA is what the next hop's certificate is verified against."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    loaded = _load(tmp_path)
    (tmp_path / "relay.yaml").write_text(
        CONFIG.format(auth="{type: none}", more=", ca_file: ca.pem").replace(
            '25", tls: none', '465", tls: implicit'
        )
    )

    settings = build.next_hop_settings(config.load(loaded.file, os.environ))

    assert (Tls.IMPLICIT, tmp_path / "ca.pem") == (settings.tls, settings.ca_file)
