"""The kinds of value that say where keys are asked for and where answers are kept: URLs, networks, LDAP.

No error here repeats what was written: a URL may hold a password that somebody has put there by mistake.
"""

from __future__ import annotations

import ipaddress
import pathlib
import re
from typing import Annotated, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import BeforeValidator, ValidationInfo

from relay.config.fields import Endpoint, parse_endpoint

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SQLITE = "sqlite:///"
_LDAP_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*(?:;[A-Za-z0-9-]+)*|[0-9]+(?:\.[0-9]+)+")
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"\.|(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_SECRET = "holds a user name or password; remove it"  # noqa: S105 - an error text


def _network(value: object) -> Network:
    try:
        network = ipaddress.ip_network(str(value), strict=True)
    except ValueError as exc:
        raise ValueError('must be a network such as "10.0.0.0/8" or "fd00::/8", without host bits') from exc
    if network.prefixlen == 0:
        raise ValueError("would allow every address; name the networks of your own that are meant")
    return network


AllowedNetwork = Annotated[Network, BeforeValidator(_network)]
"""In which addresses may lie that are otherwise refused: private, loopback, link-local."""


def _resolver(value: object) -> Endpoint:
    wrong = ValueError('must be the IP address and port of a resolver, such as "127.0.0.1:53"')
    try:
        endpoint = parse_endpoint(value)
        ipaddress.ip_address(endpoint.host)
    except ValueError as exc:
        raise wrong from exc
    if not endpoint.port:
        raise wrong
    return endpoint


ResolverAddress = Annotated[Endpoint, BeforeValidator(_resolver)]
"""An IP address: a resolver cannot be found by asking a resolver."""


def _dns_name(value: object) -> str:
    if not isinstance(value, str) or not _DNS_NAME.fullmatch(value):
        raise ValueError('must be a name of the DNS, such as "." or example.com')
    return value.lower()


DnsName = Annotated[str, BeforeValidator(_dns_name)]


# --------------------------------------------------------------------------- URLs


def _split(value: object, like: str) -> SplitResult:
    """The parts of a URL. Raises ValueError."""
    # urlsplit would drop tabs and line ends without a word
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"must be a URL such as {like}, of ASCII characters without spaces")
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError as exc:
        raise ValueError(f"must be a URL such as {like}; a port is a number up to 65535") from exc
    return parts


def _url(parts: SplitResult, like: str) -> str:
    """The URL in one spelling. Raises ValueError where it has more than scheme, host, port and path."""
    if "@" in parts.netloc:
        raise ValueError(_SECRET)
    if parts.query or parts.fragment:
        raise ValueError(f"must end with the host or a path, as in {like}; nothing may follow ? or #")
    _check_host(parts, like)
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _check_host(parts: SplitResult, like: str) -> None:
    netloc = parts.netloc.rpartition("@")[2]
    try:
        endpoint = parse_endpoint(netloc if parts.port is not None else f"{netloc}:443")
    except ValueError as exc:
        raise ValueError(f"must name a host, as in {like}") from exc
    if not endpoint.port or endpoint.path:
        raise ValueError(f"must name a host and a port that exists, as in {like}")


def _web_url(value: object) -> str:
    like = "https://keys.example.com"
    parts = _split(value, like)
    if parts.scheme == "hkps":
        raise ValueError("must start with https://, which is what hkps:// means")
    if parts.scheme != "https":
        raise ValueError("must start with https://; without TLS anybody on the way could give another key")
    return _url(parts, like)


WebUrl = Annotated[str, BeforeValidator(_web_url)]
"""https, without a slash at the end."""


def _ldap_url(value: object) -> str:
    like = "ldaps://ldap.example.com"
    parts = _split(value, like)
    if parts.scheme not in ("ldaps", "ldap"):
        raise ValueError("must start with ldaps://, or with ldap:// for StartTLS; both are verified")
    if parts.path.strip("/"):
        raise ValueError("must end with the host; where to search stands in base")
    return _url(parts, like)


LdapUrl = Annotated[str, BeforeValidator(_ldap_url)]


# --------------------------------------------------------------------------- LDAP


def _distinguished_name(value: object) -> str:
    if not isinstance(value, str) or "=" not in value or not value.isprintable():
        raise ValueError("must be a distinguished name such as ou=people,dc=example,dc=com")
    return value


DistinguishedName = Annotated[str, BeforeValidator(_distinguished_name)]


def _ldap_filter(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if text.count("{address}") != 1 or not set(text.replace("{address}", "")).isdisjoint("{}"):
        raise ValueError("must hold {address} exactly once, as in (mail={address}), and no other braces")
    before = text.partition("{address}")[0]
    if "=" not in before.rpartition("(")[2]:
        raise ValueError("{address} must stand behind a =, as in (mail={address})")
    if not _is_balanced(text):
        raise ValueError("must be one expression in balanced parentheses, as in (mail={address})")
    return text


def _is_balanced(text: str) -> bool:
    """Whether the first parenthesis closes at the very end; in values RFC 4515 §3 writes them `\\28`."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth <= 0 and at < len(text) - 1:
            return False
    return text.endswith(")") and depth == 0


LdapFilter = Annotated[str, BeforeValidator(_ldap_filter)]


def _ldap_attribute(value: object) -> str:
    if not isinstance(value, str) or not _LDAP_ATTRIBUTE.fullmatch(value):
        raise ValueError("must be the name of one attribute, such as pgpKey")
    return value


LdapAttribute = Annotated[str, BeforeValidator(_ldap_attribute)]


# --------------------------------------------------------------------------- the store


def _store_url(value: object, info: ValidationInfo) -> str:
    like = '"sqlite:////var/lib/relay/relay.db" or "postgresql://relay@db.example.com/relay"'
    if isinstance(value, str) and value.startswith("sqlite:"):
        return _sqlite(value, info.context)
    parts = _split(value, like)
    if parts.scheme != "postgresql":
        raise ValueError(f"must be {like}")
    if parts.password is not None:
        raise ValueError("must not hold the password; put it into a file and name that in password_file")
    if parts.path.count("/") != 1 or parts.path == "/" or parts.fragment:
        raise ValueError(
            "must end with the name of the database, as in postgresql://relay@db.example.com/relay"
        )
    _check_postgresql_host(parts)
    return str(value)


def _sqlite(url: str, context: Any) -> str:
    path = url.removeprefix(SQLITE)
    if path == url or not path or path == ":memory:":
        raise ValueError(
            "must name a file: sqlite:////absolute/path.db, or sqlite:///path.db beside this file"
        )
    if not set(path).isdisjoint("?#\0"):
        raise ValueError("must end with the path of the file; nothing may follow ? or #")
    return f"{SQLITE}{pathlib.Path(context['directory'] if context else '.') / path}"


def _check_postgresql_host(parts: SplitResult) -> None:
    """A host, or `?host=/directory` of a unix socket; anything else in the query could switch TLS off."""
    like = "postgresql://relay@db.example.com/relay"
    if not parts.query:
        _check_host(parts, like)
        return
    query = parse_qsl(parts.query, keep_blank_values=True)
    is_socket = len(query) == 1 and query[0][0] == "host" and query[0][1].startswith("/")
    if not is_socket or parts.hostname:
        raise ValueError(
            "only ?host=/directory may follow the database, for a unix socket in place of a host"
        )


StoreUrl = Annotated[str, BeforeValidator(_store_url)]
"""For SQLite with the path behind `sqlite:///`, which starts at the directory of the configuration file."""
