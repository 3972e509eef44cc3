"""Key sources and the store: what they mean, what the machine must have for them, what is secret."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import get_args

import pytest

from relay.config import Config, Endpoint, KeySourceSettings, LdapSource, WkdSource
from relay.remembered import Trust
from tests.configs import MINIMAL, Load, problems, write_secret

STORE = 'store: {url: "sqlite:///relay.db"}\n'
USERS = 'auth: {type: users, users: {file: "${FILES}/users.passwd"}}\n'
LDAP = 'ldap: {type: ldap, url: "ldaps://ldap.example.com", base: "dc=example,dc=com"'


def with_source(source: str, more: str = STORE, name: str = "found") -> str:
    """The smallest configuration with a second source, which its rule asks."""
    text = MINIMAL.replace("keys: {folder", f"keys: {{{name}: {source}, folder")
    return text.replace("keys: [folder]", f"keys: [folder, {name}]") + more


def warnings(config: Config) -> list[tuple[str, str]]:
    """Path and message of each warning, except that nobody can log in to MINIMAL."""
    return [(each.path, each.message) for each in config.warnings if each.path != "listen[0].tls"]


@pytest.fixture
def gpg(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GnuPG is installed."""
    monkeypatch.setenv("PATH", str(files / "bin"))


@pytest.mark.usefixtures("gpg")
@pytest.mark.parametrize(
    ("source", "trust", "discovered"),
    [
        ("directory, path: keys", Trust.MANUAL, False),
        ("gnupg, home: keys", Trust.MANUAL, False),
        ("dane", Trust.DNSSEC, True),
        ("wkd", Trust.WKD, True),
        ('vks, url: "https://keys.example.com"', Trust.THIRD_PARTY, True),
        ('hkps, url: "https://keys.example.com"', Trust.THIRD_PARTY, True),
        ('ldap, url: "ldaps://l.example", base: "dc=x"', Trust.THIRD_PARTY, True),
        ('ldap, url: "ldaps://l.example", base: "dc=x", trust: manual', Trust.MANUAL, True),
        ("autocrypt", Trust.LEARNED, True),
    ],
)
def test_load_source_has_its_trust(source: str, trust: Trust, discovered: bool, loaded: Load) -> None:
    """Each type is believed as far as documented, and what comes from outside needs the store."""
    config = loaded(with_source(f"{{type: {source}}}"))

    assert (trust, discovered) == (config.keys["found"].trust, config.keys["found"].discovered)
    assert discovered == config.needs_store


def test_load_sources_are_all_in_the_test_above() -> None:
    """A new type of source is given a trust on purpose."""
    types = {get_args(model.model_fields["type"].annotation)[0] for model in get_args(KeySourceSettings)}

    assert {"directory", "gnupg", "dane", "wkd", "vks", "hkps", "ldap", "autocrypt"} == types


def test_load_wkd_has_every_setting(loaded: Load, files: Path) -> None:
    """Networks, authorities and the waiver reach the source."""
    config = loaded(
        with_source(
            '{type: wkd, ca_file: "${FILES}/cert.pem", allow_networks: ["10.0.0.0/8", "::1/128"],'
            " unreachable_means: none}"
        )
    )

    networks = (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert (
        WkdSource(type="wkd", ca_file=files / "cert.pem", allow_networks=networks, unreachable_means="none")
        == config.keys["found"]
    )


def test_load_ldap_has_every_setting(loaded: Load, files: Path) -> None:
    """The settings reach the source, and its password stands apart and in no repr."""
    source = (
        LDAP.removeprefix("ldap: ") + ', filter: "(uid={address})", attribute: key, bind_dn: "cn=relay",'
        ' password_file: "${FILES}/password", ca_file: "${FILES}/cert.pem", trust: dnssec,'
        " unreachable_means: none}"
    )
    config = loaded(with_source(source))

    assert (
        LdapSource(
            type="ldap",
            url="ldaps://ldap.example.com",
            base="dc=example,dc=com",
            filter="(uid={address})",
            attribute="key",
            bind_dn="cn=relay",
            password_file=files / "password",
            ca_file=files / "cert.pem",
            trust=Trust.DNSSEC,
            unreachable_means="none",
        )
        == config.keys["found"]
    )
    assert {"found": "correct horse"} == config.key_passwords
    assert "correct horse" not in repr(config)


def test_load_times_of_the_cache_are_seconds(loaded: Load) -> None:
    """Every time of the cache, the budget of lookups and the resolver reach the configuration."""
    config = loaded(
        MINIMAL + "cache: {keep: 2h, keep_none: 5m, retry_failed: 1s, stale_if_error: 0}\n"
        'limits: {lookup_seconds: 60}\ndns: {resolver: "[::1]:53"}\n'
    )

    cache = config.cache
    assert (7200, 300, 1, 0) == (cache.keep, cache.keep_none, cache.retry_failed, cache.stale_if_error)
    assert (60, Endpoint("::1", 53)) == (config.limits.lookup_seconds, config.dns.resolver)


# --------------------------------------------------------------------------- dane


@pytest.mark.parametrize(
    "more",
    [
        "",
        ', resolver: "127.0.0.53:53"',
        ', resolver: "[::1]:53"',
        ', resolver: "192.0.2.1:53", trusted_network: true',
    ],
)
def test_load_dane_resolver_is_local_or_in_a_trusted_network(more: str, loaded: Load) -> None:
    """Loopback needs no words; any other address needs the admin's."""
    assert [] == warnings(loaded(with_source(f"{{type: dane{more}}}")))


# --------------------------------------------------------------------------- the store


def test_load_store_without_discovered_source_is_not_looked_at(loaded: Load) -> None:
    """A relay with local files alone needs no database: its directory and secrets may be missing."""
    config = loaded(MINIMAL + 'store: {url: "sqlite:////missing/relay.db"}\n')
    assert (False, None) == (config.needs_store, config.store_password)

    config = loaded(
        MINIMAL
        + "store: {url: postgresql://relay@db.example.com/relay, password_file: gone, ca_file: gone}\n"
    )
    assert (False, None) == (config.needs_store, config.store_password)


WHEN_POSSIBLE = MINIMAL.replace("keys: [folder]}", "keys: [folder], encrypt: when-possible}")


@pytest.mark.parametrize(
    ("text", "exists", "expected"),
    [
        (WHEN_POSSIBLE, True, True),
        (WHEN_POSSIBLE, False, False),
        (MINIMAL, True, False),
        (
            MINIMAL.replace("[folder]}}", "[folder]}, domains: {a.example: {encrypt: when-possible}}}"),
            True,
            True,
        ),
        (
            MINIMAL.replace("[folder]}}", "[folder]}, senders: {a@b.example: {encrypt: when-possible}}}"),
            True,
            True,
        ),
        (MINIMAL.replace("[folder]}}", "[folder]}, domains: {a.example: {encrypt: never}}}"), True, False),
    ],
)
def test_load_store_that_is_there_is_needed_where_mail_may_leave_in_clear(
    text: str, exists: bool, expected: bool, loaded: Load, tmp_path: Path
) -> None:
    """Whoever removes the last source outside of this machine does not release what has a pin."""
    if exists:
        (tmp_path / "relay.db").write_bytes(b"")

    assert expected == loaded(text + STORE).needs_store


def test_load_store_of_a_server_is_needed_where_mail_may_leave_in_clear(loaded: Load) -> None:
    """A server was meant by somebody, and whether there are pins in it cannot be seen from here."""
    store = 'store: {url: "postgresql://relay@db.example.com/relay", password_file: "${FILES}/password"}\n'
    config = loaded(WHEN_POSSIBLE + store)

    assert (True, "correct horse") == (config.needs_store, config.store_password)


def test_load_store_that_cannot_be_looked_for_is_needed(
    loaded: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it cannot be told whether there is a database is no reason to do without."""
    stat = Path.stat

    def forbidden(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path == tmp_path / "relay.db":
            raise PermissionError(13, "Permission denied")
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", forbidden)  # root may look everywhere

    assert loaded(WHEN_POSSIBLE + STORE).needs_store


def test_load_store_path_starts_at_the_file(loaded: Load, tmp_path: Path) -> None:
    """Three slashes are relative, and a database that is there already is fine."""
    (tmp_path / "relay.db").write_bytes(b"")

    config = loaded(with_source("{type: wkd}"))
    assert (tmp_path / "relay.db", True) == (config.store.path, config.needs_store)
    assert f"sqlite:///{tmp_path}/relay.db" == config.store.url


def test_load_store_in_a_read_only_directory_is_a_problem(
    loaded: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite needs the directory for its journal, not only the file."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK | os.X_OK)  # root may write anywhere

    [(line, path, message)] = problems(loaded, with_source("{type: wkd}"))
    assert (6, "store.url") == (line, path)
    assert f"{tmp_path} cannot be written by this user, or is on a read-only file system" in message


def test_load_default_store_must_exist_where_it_is_needed(
    loaded: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is a path of this machine; it is checked like one that was written."""
    monkeypatch.setattr(os.path, "isdir", lambda path: os.fspath(path) != "/var/lib/relay")

    [(_, path, message)] = problems(loaded, with_source("{type: wkd}", ""))
    assert "store.url" == path
    assert message.startswith("/var/lib/relay is not a directory; the database of found keys lies there")


def test_load_store_password_is_read_and_never_shown(loaded: Load) -> None:
    """The password of the database stands apart and in no repr."""
    store = (
        'store: {url: "postgresql://relay@db.example.com/relay", password_file: "${FILES}/password",'
        ' ca_file: "${FILES}/cert.pem"}\n'
    )
    config = loaded(with_source("{type: wkd}", store))

    assert ("correct horse", None) == (config.store_password, config.store.path)
    assert "correct horse" not in repr(config)


@pytest.mark.parametrize(
    "text",
    [
        with_source('{type: vks, url: "https://relay:hunter2@keys.example.com"}'),
        with_source('{type: vks, url: "http://relay:hunter2@keys.example.com:hunter2"}'),
        with_source('{type: ldap, url: "ldaps://cn=relay:hunter2@l.example", base: "dc=x"}'),
        with_source("{type: wkd}", 'store: {url: "postgresql://relay:hunter2@db.example.com/relay"}\n'),
        with_source("{type: wkd}", 'store: {url: "postgresql://db.example.com/relay?password=hunter2"}\n'),
        with_source("{type: wkd}", 'store: {url: "postgres://relay:hunter2@db.example.com/relay"}\n'),
        with_source("{type: wkd, password: hunter2}"),
        MINIMAL + "store: {password: hunter2}\n",
    ],
)
def test_load_password_in_a_url_is_refused_and_not_repeated(text: str, loaded: Load) -> None:
    """What somebody puts into a URL by mistake does not reach the terminal or the log."""
    found = problems(loaded, text)

    assert found
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("setting", ["store", "ldap"])
def test_load_world_readable_secret_is_a_warning(setting: str, loaded: Load, tmp_path: Path) -> None:
    """The other secrets are watched like that of the next hop."""
    write_secret(tmp_path / "secret", b"x")
    (tmp_path / "secret").chmod(0o644)
    store = 'store: {url: "postgresql://relay@db.example.com/relay", password_file: secret}\n'
    ldap = with_source(LDAP.removeprefix("ldap: ") + ', bind_dn: "cn=x", password_file: secret}')

    config = loaded(ldap if setting == "ldap" else with_source("{type: wkd}", store))
    expected = "store.password_file" if setting == "store" else "keys.found.password_file"
    assert [expected] == [path for path, _ in warnings(config)]


# --------------------------------------------------------------------------- autocrypt


@pytest.mark.parametrize(("auth", "count"), [(USERS, 0), ("auth: {type: none}\n", 1), ("", 1)])
def test_load_autocrypt_without_users_is_a_warning(auth: str, count: int, loaded: Load) -> None:
    """Only a file of users says whose address stands in From, so only then something is learned."""
    found = warnings(loaded(with_source("{type: autocrypt}", STORE + auth)))

    assert ["keys.found"] * count == [path for path, _ in found]
    assert all("nothing is ever learned" in message for _, message in found)
