"""A process that writes to a store, for tests in which several do so at once or one is killed.

    python writer.py race NAME      pins its own key for each address, and prints what was pinned
    python writer.py endless NAME   writes until it is killed, and prints each address that was written

The settings are JSON in `STORE`. It opens the store, prints `ready` and waits for a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from relay.clock import SystemClock
from relay.store.database import Store
from relay.store.settings import StoreSettings
from tests.fakes import ListJournal
from tests.unit.store.values import FIRST, SECOND, entry, pin

ADDRESSES = [f"{number}@example.org" for number in range(25)]


@contextmanager
def started(settings: StoreSettings, task: str, name: str = "A" * 40) -> Iterator[subprocess.Popen[str]]:
    """Starts a writer; ends it at exit."""
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.store.writer", task, name],
        cwd=root,
        env=os.environ | {"STORE": json.dumps([settings.url, settings.password])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def _race(store: Store, name: str) -> None:
    pins = [await store.pins.pin_first(pin(name, each)) for each in ADDRESSES]
    print(json.dumps([each.fingerprint for each in pins]), flush=True)


async def _endless(store: Store, name: str) -> None:
    """Each address gets a pin, then another one, and a cache entry; only then it is printed."""
    for number in count():
        address = f"{number}@example.org"
        await store.pins.pin_first(pin(FIRST, address))
        await store.pins.replace_pin(FIRST, pin(SECOND, address))
        await store.cache.put(entry(key=address, address=address, certificates=(b"x" * 5000,)))
        print(address, flush=True)


async def _main(task: str, name: str) -> None:
    url, password = json.loads(os.environ["STORE"])
    async with Store(StoreSettings(url, password), SystemClock(), ListJournal()) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        await {"race": _race, "endless": _endless}[task](store, name)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
