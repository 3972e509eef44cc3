"""relay.store.settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.store.settings import PostgresServer, SqliteFile, StoreSettings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/relay/relay.db", SqliteFile(Path("/var/lib/relay/relay.db"))),
        ("sqlite:///relay.db", SqliteFile(Path("relay.db"))),
        ("sqlite:////srv/a%20b.db", SqliteFile(Path("/srv/a b.db"))),
        (
            "postgresql://relay@db.example.com/keys",
            PostgresServer("db.example.com", 5432, "relay", "keys"),
        ),
        ("postgresql://a%40b@[2001:db8::1]:6432/keys", PostgresServer("2001:db8::1", 6432, "a@b", "keys")),
        (
            "postgresql://relay@/keys?host=/run/postgresql",
            PostgresServer("/run/postgresql", 5432, "relay", "keys"),
        ),
    ],
)
def test_place_valid_url_names_the_database(url: str, expected: SqliteFile | PostgresServer) -> None:
    """Every form of URL that is documented is understood."""
    assert expected == StoreSettings(url).place


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://relay@db/keys", "begins with sqlite:/// or postgresql://"),
        ("/var/lib/relay.db", "begins with sqlite:/// or postgresql://"),
        ("sqlite://relay.db", "sqlite:////absolute/path"),
        ("sqlite:///relay.db?mode=memory", "sqlite:////absolute/path"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////var/lib/", "names no file"),
        ("postgresql://relay:secret@db/keys", "password_file"),
        ("postgresql://relay:@db/keys", "password_file"),
        ("postgresql://db/keys", "needs a user"),
        ("postgresql://relay@/keys", "a host"),
        ("postgresql://relay@db", "a database"),
        ("postgresql://relay@/keys?sslmode=disable", "the only option"),
        ("postgresql://relay@db/keys?sslmode=disable", "one host and no options"),
        ("postgresql://relay@db/keys?host=/run/postgresql", "one host and no options"),
        ("postgresql://relay@/keys?host=other.example.com", "the only option"),
        ("postgresql://relay@a,b/keys", "one host"),
        ("postgresql://relay@db:99999/keys", "port of the store"),
        ("postgresql://relay@db:secret/keys", "port of the store"),
    ],
)
def test_settings_unusable_url_is_refused(url: str, reason: str) -> None:
    """What is not safe, or would remember nothing, is refused with a reason, before anything connects."""
    with pytest.raises(ValueError, match=reason) as caught:
        StoreSettings(url)
    assert "secret" not in str(caught.value)


def test_settings_password_for_a_file_is_refused() -> None:
    """Nobody believes that a file is protected by a password that is not used."""
    with pytest.raises(ValueError, match="for PostgreSQL"):
        StoreSettings("sqlite:///relay.db", password="secret")


def test_settings_shown_do_not_hold_the_password() -> None:
    """Settings may be logged."""
    assert "secret" not in repr(StoreSettings("postgresql://relay@db/keys", password="secret"))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("/run/postgresql", True),
        ("10.0.0.1", False),
        ("db.example.com", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_is_local_knows_what_stays_on_the_machine(host: str, expected: bool) -> None:
    """Only loopback and sockets go without TLS."""
    assert expected == PostgresServer(host, 5432, "relay", "keys").is_local
