"""How long the lookup of a recipient takes whose key a discovered source has given before (aim: 50 µs).

In this process, with all that a message goes through: a folder that has nothing, a WKD source behind its
cache in SQLite, the judge and the pin. The source itself is asked once, before the clock runs.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

from relay import config, sources
from relay.address import parse_mailbox
from relay.clock import SystemClock
from relay.keys.cached import CachedKeys
from relay.lookup import KeyFinder
from relay.message import Address, Discovered, LookupResult
from relay.mime import packets
from relay.rule import Rule
from tests.fakes import ListJournal

_LOOKUPS, _WARM_UP = 5000, 200
_CONFIG = """\
hostname: relay.example.test
listen: [{address: "127.0.0.1:0", tls: none}]
auth: {type: none}
next_hop: {address: "127.0.0.1:25", tls: none}
keys: {folder: {type: directory, path: keys}, wkd: {type: wkd}}
policy: {default: {keys: [folder, wkd]}}
store: {url: "sqlite:///relay.db"}
"""


class _Answers:
    """In place of the web server."""

    def __init__(self, certificate: bytes) -> None:
        self.name = "wkd"
        self._certificates = tuple(packets.certificates(certificate, self.name))

    def cache_key(self, address: Address) -> str:
        return address.key

    async def discover(self, address: Address) -> Discovered:
        return Discovered(self._certificates)

    async def discover_fingerprint(self, fingerprint: str) -> Discovered:
        return Discovered()

    async def close(self) -> None:
        pass


def median_microseconds(folder: Path, recipient: str, certificate: bytes) -> float:
    """The median of some thousand lookups of a recipient with this certificate."""
    (folder / "keys").mkdir(parents=True)
    (folder / "relay.yaml").write_text(_CONFIG)
    return asyncio.run(_median(config.load(folder / "relay.yaml", os.environ), recipient, certificate))


async def _median(settings: config.Config, recipient: str, certificate: bytes) -> float:
    rule, address = Rule("policy.default", keys=("folder", "wkd")), parse_mailbox(recipient)
    async with sources.opened(settings, SystemClock(), ListJournal()) as made:
        await made.load(ListJournal())
        web = made.listed["wkd"].source
        assert isinstance(web, CachedKeys)
        web._asking._discovery = _Answers(certificate)
        finder = KeyFinder(made.listed, made.judge, SystemClock(), pins=made.pins)
        seconds = []
        for _ in range(_WARM_UP + _LOOKUPS):
            began = time.perf_counter()
            lookup = await finder.find(address, rule)
            seconds.append(time.perf_counter() - began)
            assert lookup.result is LookupResult.USABLE and lookup.pin, lookup
    return statistics.median(seconds[_WARM_UP:]) * 1e6
