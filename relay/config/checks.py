"""Asks whether the settings fit each other and this machine: files, certificates, programs, loopback."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path as FilePath

from relay.budget import PEAK_FACTOR
from relay.config.document import Document
from relay.config.machine import can_read, check_authorities, check_gpg, check_secrecy
from relay.config.problems import Path
from relay.config.schema import Limits, Listener, NextHop, Settings, TlsFiles
from relay.config.sources import check_sources


def check(document: Document, settings: Settings) -> None:
    """Adds every problem to the document."""
    _check_required(document, settings)
    _check_listeners(document, settings)
    _check_auth(document, settings)
    if settings.tls:
        _check_tls(document, settings.tls)
    if settings.next_hop:
        _check_next_hop(document, settings.next_hop)
        _check_login(document, settings.next_hop, settings.auth.type)
    check_sources(document, settings)
    if settings.engine == "gnupg":
        check_gpg(document, ("engine",))
    _check_limits(document, settings.limits)


def _check_required(document: Document, settings: Settings) -> None:
    if settings.hostname is None and "hostname" not in document.data:
        document.add(("hostname",), "is missing; the full name of this host, such as relay.example.com")
    if settings.next_hop is None and "next_hop" not in document.data:
        document.add(("next_hop",), "is missing; the mail server that takes the mail, with its address")


def _listeners(document: Document, settings: Settings) -> Iterator[tuple[int, Listener]]:
    """The listeners that are well-formed, with their index."""
    if document.is_broken(("listen",)):
        return
    for index, listener in enumerate(settings.listen):
        if listener is not None:
            yield index, listener


def _check_listeners(document: Document, settings: Settings) -> None:
    if not settings.listen:
        document.add(("listen",), "is empty, so no client could connect; remove it to get 465 and 587")
    seen: dict[str, int] = {}
    needs_tls = False
    for index, listener in _listeners(document, settings):
        path: Path = ("listen", index)
        address = str(listener.address)
        first = seen.setdefault(address, index)
        if first != index and (listener.address.port or listener.address.path):
            document.add((*path, "address"), f"{address} is taken by listen[{first}] already")
        if listener.tls == "none" and not listener.address.is_local:
            document.add(
                (*path, "tls"), "none is for loopback addresses and unix sockets; use starttls or implicit"
            )
        if listener.address.path and not FilePath(listener.address.path).parent.is_dir():
            document.add((*path, "address"), "the directory of this socket does not exist")
        needs_tls = needs_tls or listener.tls != "none"
    if needs_tls and settings.tls is None and "tls" not in document.data:
        document.add(("tls",), "is missing; the listeners need certificate and key, or tls: none on loopback")


def _check_auth(document: Document, settings: Settings) -> None:
    auth = settings.auth
    outside = [str(each.address) for _, each in _listeners(document, settings) if not each.address.is_local]
    if auth.type == "none" and outside:
        document.add(
            ("auth", "type"),
            f"none would let anybody send through {outside[0]}; it is for loopback and unix sockets only",
        )
    for index, listener in _listeners(document, settings):
        if listener.tls == "none" and auth.type != "none":
            document.warn(
                ("listen", index, "tls"),
                f"nobody can send here: AUTH needs encryption and auth.type is {auth.type}, not none",
            )
    if auth.type == "users" and auth.users is None:
        document.add(("auth", "users"), "is missing; type users needs users: {file: users.passwd}")
    if auth.type != "users" and auth.users is not None:
        document.add(("auth", "users"), f"is not used with type {auth.type}; remove it or set type: users")
    if auth.type == "users" and auth.users and can_read(document, ("auth", "users", "file"), auth.users.file):
        check_secrecy(document, ("auth", "users", "file"), auth.users.file)
        _check_users(document, auth.users.file)


def _check_users(document: Document, file: FilePath) -> None:
    from relay.server import users

    try:
        users.load(file).close()
    except ValueError as exc:
        for message in str(exc).splitlines():
            document.add(("auth", "users", "file"), f"{file}: {message}")


def _check_tls(document: Document, tls: TlsFiles) -> None:
    readable = [
        can_read(document, ("tls", "certificate"), tls.certificate),
        can_read(document, ("tls", "key"), tls.key),
    ]
    if not all(readable):
        return
    check_secrecy(document, ("tls", "key"), tls.key)
    try:
        # an empty password: OpenSSL would otherwise ask for one on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            document.add(("tls", "key"), "does not belong to the certificate")
        else:
            reason = f" ({exc.reason})" if exc.reason else ""
            document.add(
                ("tls",), f"certificate and key cannot be loaded; both must be unencrypted PEM{reason}"
            )


def _check_next_hop(document: Document, hop: NextHop) -> None:
    if hop.tls == "none" and not hop.address.is_local:
        document.add(("next_hop", "tls"), "none is for loopback addresses only; use implicit or starttls")
    if hop.connections_per_message > hop.connections:
        document.add(("next_hop", "connections_per_message"), "must not be larger than connections")
    if hop.ca_file is None:
        return
    if hop.tls == "none":
        document.add(("next_hop", "ca_file"), "is not used with tls: none; remove it")
    else:
        check_authorities(document, ("next_hop", "ca_file"), hop.ca_file)


def _check_login(document: Document, hop: NextHop, auth_type: str) -> None:
    if auth_type == "next-hop":
        for name in ("username", "password_file"):
            if getattr(hop, name) is not None:
                document.add(
                    ("next_hop", name),
                    "is not used with auth.type next-hop, where each client logs in for itself; remove it",
                )
        return
    if hop.username is not None and hop.password_file is None:
        document.add(("next_hop", "password_file"), "is missing beside username")
    if hop.password_file is not None and hop.username is None:
        document.add(("next_hop", "username"), "is missing beside password_file")


def _check_limits(document: Document, limits: Limits) -> None:
    needed = PEAK_FACTOR * limits.message_bytes
    if limits.memory_bytes < needed:
        document.add(
            ("limits", "memory_bytes"),
            f"must be at least {PEAK_FACTOR} times message_bytes, here {needed}; a large message never fits",
        )
    if limits.connections_per_client > limits.connections:
        document.add(("limits", "connections_per_client"), "must not be larger than connections")
