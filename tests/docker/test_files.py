"""The container files: they parse, fit each other, and keep what the documentation promises."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config import Config, DaneSource, load
from tests.network import Authority

DOCKER = Path(__file__).parents[2] / "docker"
README = (DOCKER / "README.md").read_text("utf-8")
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8")))


@pytest.fixture(scope="module")
def relay(compose: dict[str, Any]) -> dict[str, Any]:
    return dict(compose["services"]["relay"])


@pytest.fixture(scope="module")
def mailserver(compose: dict[str, Any]) -> dict[str, Any]:
    return dict(compose["services"]["mailserver"])


@pytest.fixture
def config(authority: Authority, tmp_path: Path) -> Config:
    """`docker/relay.yaml` with stand-ins for the files that a deployment mounts."""
    (tmp_path / "keys").mkdir()
    text = (DOCKER / "relay.yaml").read_text("utf-8")
    text = text.replace("/etc/relay/tls/fullchain.pem", str(authority.certificate))
    text = text.replace("/etc/relay/tls/privkey.pem", str(authority.key))
    text = text.replace("/etc/relay/keys", str(tmp_path / "keys"))
    # The volume of the store is there in the container only.
    (tmp_path / "relay.yaml").write_text(text + 'store: {url: "sqlite:///relay.db"}\n')
    return load(tmp_path / "relay.yaml", {})


def _published(service: dict[str, Any]) -> set[str]:
    return {str(port).rpartition(":")[2] for port in service["ports"]}


def test_config_loads_without_problems(config: Config) -> None:
    """The example beside the compose file is a valid configuration and uses the client's own login."""
    assert config.auth.type == "next-hop"
    assert config.next_hop.tls == "implicit"
    assert {465, 587} == {listener.address.port for listener in config.listen}


def test_compose_relay_reaches_the_mail_server_by_its_certificate_name(
    config: Config, mailserver: dict[str, Any]
) -> None:
    """The next hop's name is an alias of the mail server inside the network, and its host name."""
    assert [config.next_hop.address.host] == mailserver["networks"]["mail"]["aliases"]
    assert config.next_hop.address.host == mailserver["hostname"]


def test_compose_mail_server_publishes_no_submission_port(
    relay: dict[str, Any], mailserver: dict[str, Any]
) -> None:
    """Clients reach 465 and 587 at the relay alone."""
    assert {"465", "587"} == _published(relay)
    assert set() == _published(mailserver) & {"465", "587"}


def test_compose_relay_mounts_what_the_config_names(relay: dict[str, Any]) -> None:
    """Every path of the configuration is mounted, read-only; the one volume is that of the store."""
    [state] = [volume for volume in relay["volumes"] if not volume.endswith(":ro")]
    mounts = [volume.split(":") for volume in relay["volumes"] if volume != state]
    text = (DOCKER / "relay.yaml").read_text("utf-8")
    named = set(re.findall(r"/etc/relay/[a-z./]+", text)) | {"/etc/relay/relay.yaml"}

    assert "relay-state:/var/lib/relay" == state
    assert set() == {path for path in named if not any(path.startswith(there) for _, there, _ in mounts)}


def test_compose_relay_may_do_nothing_special(relay: dict[str, Any]) -> None:
    """Read-only, without capabilities, without new privileges, without swap and core dumps."""
    assert relay["read_only"] is True
    assert relay["cap_drop"] == ["ALL"]
    assert "cap_add" not in relay
    assert "no-new-privileges:true" in relay["security_opt"]
    assert relay["mem_limit"] == relay["memswap_limit"]
    assert relay["ulimits"]["core"] == 0
    assert [mount.partition(":")[0] for mount in relay["tmpfs"]] == ["/tmp"]


def test_compose_limits_fit_the_configuration(
    config: Config, relay: dict[str, Any], mailserver: dict[str, Any]
) -> None:
    """More memory than the budget, more time than the drain, and a hop that takes the largest mail."""
    hop_bytes = int(mailserver["environment"]["POSTFIX_MESSAGE_SIZE_LIMIT"])

    assert config.limits.memory_bytes * 1.5 <= int(relay["mem_limit"].removesuffix("g")) * 2**30
    assert config.limits.drain_seconds < int(relay["stop_grace_period"].removesuffix("s"))
    assert config.limits.message_bytes * 1.4 <= hop_bytes


def test_readme_names_the_relay_for_fail2ban(relay: dict[str, Any]) -> None:
    """The `ignoreip` line carries the address that the compose file gives the relay."""
    address = relay["networks"]["mail"]["ipv4_address"]

    assert f"ignoreip = 127.0.0.1/8 {address}\n" in README
    assert "fail2ban-jail.cf" in README


def test_readme_resolver_is_alone_with_the_relay(
    config: Config, compose: dict[str, Any], tmp_path: Path
) -> None:
    """The three snippets for DANE fit each other, and nobody else is in that network."""
    services, keys = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.+?)```", README, re.DOTALL))
    [pool] = services["networks"]["dns"]["ipam"]["config"]
    resolver = services["services"]["resolver"]["networks"]["dns"]["ipv4_address"]
    text = config.file.read_text("utf-8").replace("keys:\n", f"keys:\n  dane: {keys['keys']['dane']}\n", 1)
    (tmp_path / "dane.yaml").write_text(
        text.replace("True", "true").replace("[folder, wkd]", "[folder, dane]")
    )
    dane = load(tmp_path / "dane.yaml", {}).keys["dane"]

    assert isinstance(dane, DaneSource)
    assert resolver == dane.resolver.host
    assert ip_address(resolver) in ip_network(pool["subnet"])
    assert f"access-control: {pool['subnet']} allow" in README
    assert "dns" not in compose["networks"]
    assert set(services["services"]) == {"relay", "resolver"}


def test_readme_links_point_to_files() -> None:
    """No link of the page leads nowhere."""
    links = re.findall(r"\]\((?!http)([^)#]+)", README)

    assert [] == [link for link in links if not (DOCKER / link).exists()]


def test_dockerfile_is_plain() -> None:
    """No syntax that only BuildKit knows: podman and buildah build it as well."""
    assert not re.search(r"<<|--mount|--chmod|^# *syntax", DOCKERFILE, re.MULTILINE)


def test_dockerfile_runs_as_a_numbered_user() -> None:
    """The last USER is numeric and not root, and SIGTERM is what stops it."""
    users = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)

    assert [line for line in users if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", line)] == []
    assert users
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE


def test_dockerfile_copies_only_what_it_names() -> None:
    """No `COPY .`: what lies around in the folder, keys included, gets into no layer."""
    sources = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for word in line.split()
    ]

    assert {"pyproject.toml", "README.md", "LICENSE", "relay", "config/relay.yaml"} == set(sources)
    ignored = (DOCKER.parent / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    assert set(sources) == {line.removeprefix("!") for line in ignored if line.startswith("!")}
