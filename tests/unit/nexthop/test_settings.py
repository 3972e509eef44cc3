"""Settings that can never work or would expose mail are refused when they are made."""

from __future__ import annotations

from typing import Any

import pytest

from relay.nexthop.settings import NextHopSettings, Timeouts, Tls

GOOD: dict[str, Any] = {"host": "mail.example.com", "port": 465, "hostname": "relay.example.com"}


@pytest.mark.parametrize(
    "change",
    [
        {"tls": Tls.NONE},
        {"tls": Tls.NONE, "host": "192.0.2.1"},
        {"tls": Tls.NONE, "host": "127.0.0.1.example.com"},
        {"tls": Tls.NONE, "host": "::ffff:192.0.2.1"},
        {"hostname": ""},
        {"hostname": "relay example"},
        {"hostname": "relay\r\nMAIL"},
        {"hostname": "rélay.example"},
        {"username": "relay"},
        {"password": "secret"},
        {"username": "relay", "password": ""},
        {"username": "re\0lay", "password": "secret"},
        {"username": "relay", "password": "secret", "client_login": True},
    ],
)
def test_settings_that_cannot_work_raise(change: dict[str, Any]) -> None:
    """Clear text is for loopback; a login has two parts; there is one kind of login."""
    with pytest.raises(ValueError):
        NextHopSettings(**(GOOD | change))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_settings_without_tls_on_loopback_are_good(host: str) -> None:
    """Loopback needs no TLS."""
    assert NextHopSettings(**(GOOD | {"host": host, "tls": Tls.NONE})).tls is Tls.NONE


def test_settings_show_no_password() -> None:
    """A password never appears where settings are printed."""
    shown = repr(NextHopSettings(**GOOD, username="relay", password="s3cret"))

    assert "s3cret" not in shown


def test_timeouts_before_content_fit_into_two_minutes_and_the_final_reply_has_ten() -> None:
    """A client hears within two minutes (RFC 6409 §5.3); the final reply has RFC 5321's ten minutes."""
    timeouts = Timeouts()

    assert timeouts.slot_seconds + timeouts.open_seconds + timeouts.command_seconds < 120
    assert timeouts.final_seconds >= 600
    assert timeouts.data_seconds >= 120
    assert timeouts.block_seconds >= 180
