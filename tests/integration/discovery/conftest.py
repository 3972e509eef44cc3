"""The world outside, started once, and a relay in it for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postfix
from tests.integration.conftest import Site
from tests.integration.discovery import situations
from tests.integration.discovery import world as worlds
from tests.integration.discovery.people import stranger
from tests.network import HOST, Authority


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, next_hop: postfix.Postfix
) -> Iterator[worlds.World]:
    """Every server, each with one stranger's key."""
    domains = (worlds.WKD, worlds.DANE, worlds.VKS, worlds.LDAP)
    people = {domain: [stranger(domain)] for domain in domains}
    hop = (f"{HOST}:{next_hop.plain_port}", ", tls: none")
    with worlds.running(tmp_path_factory.mktemp("world"), authority, hop, people) as made:
        yield made


@pytest.fixture(scope="session")
def stage(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, next_hop: postfix.Postfix
) -> Iterator[situations.Stage]:
    """Every situation, with servers of its own."""
    hop = (f"{HOST}:{next_hop.plain_port}", ", tls: none")
    with situations.running(tmp_path_factory.mktemp("stage"), authority, hop) as made:
        yield made


@pytest.fixture
def site(world: worlds.World, tmp_path: Path, inbox: postfix.Postfix) -> Iterator[Site]:
    """A relay with default settings."""
    found = world.relay(tmp_path / "relay")
    with found.relay:
        yield found
