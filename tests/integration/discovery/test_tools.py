"""The administrator's commands beside a running relay, with real servers behind it and GnuPG as the judge."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.clients import Answer
from tests.integration.conftest import Site, entity
from tests.integration.discovery import world as worlds
from tests.integration.discovery.people import Person, letter, path_of, person, stranger
from tests.integration.discovery.world import Settings, World
from tests.postfix import Postfix
from tests.programs import require

pytestmark = pytest.mark.system

_SECONDS = 60

_POLICY = f"    {worlds.WKD}: {{keys: [folder, wkd, learned]}}"

_IN_NAMESPACE = 'mount --bind "$0" /etc/hosts && mount --bind "$1" "$2" && shift 2 && exec "$@"'
"""What GnuPG takes from the system, for one process alone: the names of hosts, and the authorities."""
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="module")
def office(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running relay. Every test asks it about strangers of its own."""
    site = world.relay(tmp_path_factory.mktemp("office") / "relay", Settings(policy=_POLICY))
    with site.relay:
        yield site


def relay(site: Site, *arguments: str, stdin: str = "", code: int = 0) -> str:
    """What a command with the configuration of this relay prints, after checking its exit code."""
    command = [sys.executable, "-m", "relay", *arguments]
    environ = {"RELAY_CONFIG": str(site.relay.path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, input=stdin, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert code == done.returncode, done.stderr + done.stdout
    return done.stdout


def rows(output: str) -> list[list[str]]:
    """Names and values of what a command prints in two columns."""
    return [line.strip().split(maxsplit=1) for line in output.splitlines() if line.strip()]


def send(site: Site, inbox: Postfix, reader: Person) -> Answer:
    """The reply to mail for somebody, who can read it if it was accepted."""
    inbox.clear()
    content = letter(reader.address)
    outcome = site.submit(content, reader.address)
    if outcome.is_accepted:
        (delivered,) = inbox.wait_for(1)
        assert entity(content) == reader.reads(delivered.content)
    return outcome.final


# --------------------------------------------------------------------------- lookup


def test_lookup_shows_the_answer_of_every_source_with_its_time_and_its_verdict(
    world: World, office: Site
) -> None:
    """Also of one that no rule names for the address; what the rule makes of it stands at the end."""
    known = stranger(worlds.WKD)
    world.publish(known)

    text, found = (relay(office, "keys", "lookup", *more, known.address) for more in ((), ("--json",)))

    sources = {each["name"]: each for each in json.loads(found)["sources"]}
    assert {"folder": 0, "wkd": 1, "dane": 0, "vks": 0, "corp": 0, "learned": 0} == {
        name: each["found"] for name, each in sources.items()
    }
    assert [(known.fingerprint, "usable")] == [
        (each["fingerprint"], each["sentence"]) for each in sources["wkd"]["certificates"]
    ]
    assert all(0 <= each["milliseconds"] < 1000 * _SECONDS for each in sources.values())
    assert ["certificate", known.fingerprint] in rows(text)
    assert ["outcome", f"encrypted to {known.fingerprint}"] == rows(text)[-1]
    assert re.search(r"source +wkd \(trust wkd, \d+ ms\)", text)
    assert re.search(r"source +dane \(trust dnssec, \d+ ms; the rule does not name it\)", text)


def test_lookup_with_a_source_that_cannot_be_asked_shows_the_others(office: Site) -> None:
    """The zone of this domain is broken: what fails is told with its reason, and the exit code is 1."""
    output = relay(office, "keys", "lookup", "--json", f"anybody@{worlds.BROKEN}", code=1)

    failures = {each["name"]: each["failure"] for each in json.loads(output)["sources"]}
    assert {"wkd", "dane"} == {name for name, failure in failures.items() if failure}
    assert "SERVFAIL" in failures["wkd"]


# --------------------------------------------------------------------------- refresh and expiring


def _ending_in(owner: Person, days: int) -> bytes:
    """The certificate of somebody as it is if they have let it end then."""
    until = datetime.now(UTC) + timedelta(days=days)
    return bytes(owner.secret.extract_certificate().set_expiration(until, owner.secret.certifier()))


def test_certificate_that_ends_is_listed_until_its_extension_is_fetched(
    world: World, office: Site, inbox: Postfix
) -> None:
    """`expiring` warns, the owner extends it, `refresh` says what changed, and `expiring` is silent."""
    owner = stranger(worlds.WKD)
    place = (f"openpgpkey.{worlds.WKD}", path_of(owner.address))
    world.web.put(*place, _ending_in(owner, 10))
    sent = send(office, inbox, owner)
    warned = relay(office, "keys", "expiring", "--days", "30", code=1)
    soon = relay(office, "keys", "expiring", "--days", "5")
    world.web.put(*place, _ending_in(owner, 730))
    refreshed = relay(office, "keys", "refresh", owner.address)
    after = relay(office, "keys", "expiring", "--days", "30")

    assert 250 == sent.code
    assert warned.startswith(f"{owner.address} {owner.fingerprint} wkd: expires on 20")
    assert ["", ""] == [soon, after]
    assert refreshed.startswith(f"{owner.address} wkd: changed {owner.fingerprint}: usable until 20")


def test_refresh_of_a_replaced_key_tells_of_both(world: World, office: Site) -> None:
    """The relay itself would not have asked again for a day."""
    old = stranger(worlds.WKD)
    new = old.with_new_key()
    world.publish(old)
    relay(office, "keys", "lookup", old.address)
    world.publish(new)

    output = relay(office, "keys", "refresh", old.address)

    assert [
        f"{old.address} wkd: gone {old.fingerprint}",
        f"{old.address} wkd: new {new.fingerprint}: usable",
    ] == output.splitlines()[:2]


# --------------------------------------------------------------------------- export and forget


def _gpg(home: Path, *arguments: str, stdin: str = "") -> str:
    command = [require("gpg"), "--homedir", str(home), "--batch", "--with-colons", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def gpg_home() -> Iterator[Path]:
    """An empty home for GnuPG; in a short folder, as its sockets end at 107 characters."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as folder:
        yield Path(folder)
        subprocess.run([require("gpgconf"), "--homedir", folder, "--kill", "all"], check=True)


def test_export_is_imported_by_gnupg_and_by_another_relay(
    world: World, office: Site, gpg_home: Path, tmp_path: Path
) -> None:
    """What was found on the web becomes a key of one's own."""
    owner = stranger(worlds.WKD)
    world.publish(owner)
    relay(office, "keys", "lookup", owner.address)
    second = world.relay(tmp_path / "second", Settings(policy=_POLICY))
    second.relay.path.write_text(second.relay.config)

    exported = relay(office, "keys", "export", owner.address)
    _gpg(gpg_home, "--import", stdin=exported)
    relay(second, "keys", "import", "--into", "folder", "-", stdin=exported)

    assert f"fpr:::::::::{owner.fingerprint}:" in _gpg(gpg_home, "--list-keys", owner.address)
    assert [owner.address, owner.fingerprint, "folder", "usable"] == (
        relay(second, "keys", "list").splitlines()[1].split()
    )


def test_forget_lets_the_running_relay_begin_anew(world: World, office: Site, inbox: Postfix) -> None:
    """The recipient has lost the old key, and the new one holds the mail; after `forget` it is used."""
    old = stranger(worlds.WKD)
    new = old.with_new_key()
    world.publish(old)
    first = send(office, inbox, old)
    world.publish(new)
    relay(office, "keys", "refresh", old.address)
    held = send(office, inbox, old)
    forgotten = relay(office, "keys", "forget", old.address)
    after = send(office, inbox, new)
    again = relay(office, "keys", "forget", "nobody@nowhere.test", code=1)

    assert [250, 451, 250] == [reply.code for reply in (first, held, after)]
    assert forgotten.startswith(f"forgot the pinned key {old.fingerprint}, since ")
    assert f"forgot the waiting key {new.fingerprint} from wkd\n" in forgotten
    assert "" == again


# --------------------------------------------------------------------------- explain


def test_explain_shows_source_trust_pin_and_age(world: World, office: Site, inbox: Postfix) -> None:
    """Of a key that was found, used, and kept since."""
    owner = stranger(worlds.WKD)
    world.publish(owner)
    send(office, inbox, owner)

    output = relay(office, "explain", owner.address)
    [found] = json.loads(relay(office, "explain", "--json", owner.address))["recipients"]

    assert re.search(r"source +wkd: 1 certificate \(trust wkd, it answered \d+ s ago\)", output)
    assert re.search(rf"pin +{owner.fingerprint}, since 20[0-9-]+, from wkd \(trust wkd\)", output)
    source = next(each for each in found["sources"] if each["name"] == "wkd")
    assert ("wkd", 1) == (source["trust"], source["found"])
    assert 0 <= source["age_seconds"] < 10 * _SECONDS
    assert (owner.fingerprint, "wkd", "wkd") == tuple(
        found["pin"][name] for name in ("fingerprint", "source", "trust")
    )


# --------------------------------------------------------------------------- wkd-hash and publish


def _wks_client() -> str:
    folder = subprocess.run(
        [require("gpgconf"), "--list-dirs", "libexecdir"], capture_output=True, text=True, check=True
    )
    return require(f"{folder.stdout.strip()}/gpg-wks-client")


@pytest.mark.parametrize(
    "address", ["Joe.Doe@Example.ORG", "a+b@x.example", "o'neil@x.example", "jürgen@x.example", "İ@x.example"]
)
def test_wkd_hash_is_that_of_gnupg(address: str, office: Site) -> None:
    """Letter case, marks, and letters beyond ASCII, which stay as they are (K-01)."""
    theirs = subprocess.run(
        [_wks_client(), "--print-wkd-hash", address], capture_output=True, text=True, check=True
    )

    assert theirs.stdout.split()[0] == relay(office, "keys", "wkd-hash", address).split()[1]


@pytest.fixture
def published(world: World, tmp_path: Path) -> Iterator[tuple[Person, World]]:
    """Somebody of `MORTAL`, whose domain's web server serves what `relay keys publish` has written."""
    owner = person(f"Owner.Of-the.Key+{stranger(worlds.MORTAL).address}")
    publisher = world.relay(tmp_path / "publisher")
    publisher.relay.path.write_text(publisher.relay.config)
    (publisher.relay.home / "keys" / "owner.pgp").write_bytes(owner.certificate)
    with world.mortal_web(tmp_path / "web") as web:
        root = web.root(f"openpgpkey.{worlds.MORTAL}")
        output = relay(publisher, "keys", "publish", "--wkd", str(root), "--domain", worlds.MORTAL)
        assert f"{worlds.MORTAL}: addresses published: 1; files written: 1, removed: 0\n" == output
        assert (root / ".well-known" / "openpgpkey" / worlds.MORTAL / "policy").is_file()
        yield owner, world


def test_published_tree_is_found_by_gnupg(
    published: tuple[Person, World], gpg_home: Path, tmp_path: Path
) -> None:
    """GnuPG knows nothing but the address: it asks the web server by name, at port 443, over verified TLS."""
    owner, world = published
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{world.hosts[worlds.MORTAL]} openpgpkey.{worlds.MORTAL}\n")
    (gpg_home / "dirmngr.conf").write_text("standard-resolver\n")
    program = [require("gpg"), "--homedir", str(gpg_home), "--batch", "--with-colons"]
    locate = [*program, "--auto-key-locate", "clear,wkd", "--locate-keys", owner.address]

    namespace = [require("unshare"), "--mount", "--propagation", "private", "sh", "-c", _IN_NAMESPACE]
    files = [str(hosts), str(world.authority.ca_file), _AUTHORITIES]
    found = subprocess.run([*namespace, *files, *locate], capture_output=True, text=True, check=False)

    assert 0 == found.returncode, found.stderr
    assert f"fpr:::::::::{owner.fingerprint}:" in found.stdout


def test_published_tree_is_found_by_another_relay(
    published: tuple[Person, World], tmp_path: Path, inbox: Postfix
) -> None:
    """Which has never heard of the address, and encrypts the first mail."""
    owner, world = published
    second = world.relay(tmp_path / "second")
    with second.relay:
        reply = send(second, inbox, owner)

    assert 250 == reply.code
