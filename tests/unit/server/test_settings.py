from __future__ import annotations

from dataclasses import asdict

from relay.server.settings import Limits, Timers


def test_limits_default_to_the_documented_values() -> None:
    """The edge on its own has the limits of the shipped configuration (S-37: 100 recipients)."""
    documented = {
        "message_bytes": 52_428_800,
        "recipients": 100,
        "connections": 1000,
        "connections_per_client": 50,
    }

    assert documented == {name: value for name, value in asdict(Limits()).items() if name in documented}


def test_timers_are_not_shorter_than_rfc_5321_asks() -> None:
    """Five minutes for a command and three for a block of DATA (RFC 5321 §4.5.3.2, S-26)."""
    timers = Timers()

    assert (True, True) == (timers.command_seconds >= 300, timers.block_seconds >= 180)
