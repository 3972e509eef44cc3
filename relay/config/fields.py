"""The kinds of value that settings have: words, numbers, sizes, durations, addresses of hosts, paths.

Each kind is a pydantic type that takes the text of the file, so that nothing depends on what YAML or pydantic
would guess, and says in its error what would be right.
"""

from __future__ import annotations

import ipaddress
import pathlib
import re
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator, ValidationInfo

from relay.address import parse_domain
from relay.remembered import Trust
from relay.rule import Encrypt

_SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,15}) ?(|KiB|MiB|GiB)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9}) ?([smhd]?)")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_MAX_SOCKET_CHARS = 107
"""Of the path of a unix socket (`sun_path`)."""

LATER = "not available in this version"


def words(*known: str, later: tuple[str, ...] = ()) -> BeforeValidator:
    """Accepts these words; those in `later` are known, but not built yet."""

    def check(value: object) -> object:
        if value in later:
            raise ValueError(f"{value} is {LATER}; use {_either(known)}")
        if value not in known:
            raise ValueError(f"must be {_either(known)}, not {_shown(value)}")
        return value

    return BeforeValidator(check)


def _either(choices: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))


def _shown(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else "a list or mapping"


def _encrypt(value: object) -> Encrypt:
    if isinstance(value, str) and value in tuple(Encrypt):
        return Encrypt(value)
    if str(value).lower() in ("off", "no", "false", "on", "yes", "true"):
        raise ValueError(
            f"encrypt is a word: always, when-possible or never (YAML reads {value} as"
            f" {'false' if str(value).lower() in ('off', 'no', 'false') else 'true'})"
        )
    raise ValueError(f"must be always, when-possible or never, not {_shown(value)}")


EncryptWord = Annotated[Encrypt, BeforeValidator(_encrypt)]


def trust_words(*known: Trust) -> BeforeValidator:
    """Accepts the words of these, such as `third-party`."""

    def check(value: object) -> Trust:
        found = [trust for trust in known if value is trust or value == trust.word]
        if not found:
            raise ValueError(f"must be {_either(tuple(each.word for each in known))}, not {_shown(value)}")
        return found[0]

    return BeforeValidator(check)


def _flag(value: object) -> bool:
    if value in ("true", True):
        return True
    if value in ("false", False):
        return False
    raise ValueError(f"must be true or false, not {_shown(value)}")


Flag = Annotated[bool, BeforeValidator(_flag)]


def _not_built(value: object) -> NoReturn:
    raise ValueError(f"this setting is {LATER}; remove it")


NotBuilt = Annotated[None, BeforeValidator(_not_built)]
"""A setting of the schema that no code serves yet."""


def refused(reason: str) -> BeforeValidator:
    """Refuses a setting that exists elsewhere, and says why it must not exist here."""

    def check(value: object) -> NoReturn:
        raise ValueError(reason)

    return BeforeValidator(check)


def _off(value: object) -> bool:
    if _flag(value):
        raise ValueError(f"this setting is {LATER}; leave it false")
    return False


FlagNotBuilt = Annotated[bool, BeforeValidator(_off)]
"""A switch of the schema that cannot be switched on yet."""


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    raise ValueError(f"must be a whole number, not {_shown(value)}")


Count = Annotated[int, BeforeValidator(_count)]


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"must be a number of bytes, such as 52428800 or 50MiB, not {_shown(value)}")
    return int(match[1]) * _SIZES[match[2]]


Size = Annotated[int, BeforeValidator(_size)]
"""Bytes."""


def _duration(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"must be a time such as 30s, 10m, 24h or 7d, not {_shown(value)}")
    return int(match[1]) * _SECONDS[match[2]]


Duration = Annotated[int, BeforeValidator(_duration)]
"""Seconds."""


def _path(value: object, info: ValidationInfo) -> pathlib.Path:
    if isinstance(value, pathlib.Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"must be the path of a file or directory, not {_shown(value)}")
    context: Any = info.context
    return pathlib.Path(context["directory"] if context else ".") / value


FilePath = Annotated[pathlib.Path, BeforeValidator(_path)]
"""A relative path starts at the directory of the configuration file."""


def _hostname(value: object) -> str:
    try:
        name = parse_domain(str(value))
    except ValueError as exc:
        raise ValueError(f"must be a full host name such as relay.example.com: {exc}") from exc
    if name.startswith("["):
        raise ValueError("must be a full host name such as relay.example.com, not an IP address")
    return name


HostName = Annotated[str, BeforeValidator(_hostname)]
"""Fully qualified, A-labels."""


def _fingerprint(value: object) -> str:
    digits = str(value).replace(" ", "").upper()
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError("must be a full fingerprint: 40 hex digits (64 for version 6 keys), never a key ID")
    return digits


Fingerprint = Annotated[str, BeforeValidator(_fingerprint)]
"""Of a primary key, upper-case hex without spaces."""


def word_set(*known: str) -> BeforeValidator:
    """Accepts a list of these words, each at most once; a single word may stand without the list."""

    def check(value: object) -> object:
        found = _listed(value)
        for each in found:
            if each not in known:
                raise ValueError(f"knows {', '.join(known)}, not {_shown(each)}")
        if len(set(map(str, found))) < len(found):
            raise ValueError("names something twice")
        return tuple(found)

    return BeforeValidator(check)


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _reader(value: object) -> tuple[str, ...]:
    found = [each if each == "sender" else _reader_key(each) for each in _listed(value)]
    if len(set(found)) < len(found):
        raise ValueError("names somebody twice")
    return tuple(str(each) for each in found)


def _reader_key(value: object) -> str:
    try:
        return _fingerprint(value)
    except ValueError as exc:
        raise ValueError("must be sender, or full fingerprints (40 hex digits, 64 for version 6)") from exc


Readers = Annotated[tuple[str, ...], BeforeValidator(_reader)]
"""`sender` and fingerprints of primary keys."""


def _tag(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[!-<>@-~]{1,30}", value):
        raise ValueError("must be 1 to 30 ASCII characters such as [encrypt], no blank, = or ? among them")
    return value


Tag = Annotated[str, BeforeValidator(_tag)]
"""Of a Subject."""


def _field_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[Xx]-[A-Za-z0-9-]{1,60}", value):
        raise ValueError("must be the name of a header field that begins with X-, such as X-Encrypt")
    return value


FieldName = Annotated[str, BeforeValidator(_field_name)]
"""Of a header field of our own."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens: a host and port, or the path of a unix socket."""

    host: str = ""
    """An IP address without brackets, or a name; empty for a unix socket."""
    port: int = 0
    path: str = ""
    """Of a unix socket; empty otherwise."""

    @property
    def is_local(self) -> bool:
        """Whether nobody outside of this machine can be at the other end: loopback or a unix socket."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(value: object) -> Endpoint:
    """`host:port`, `[IPv6]:port` or `unix:/path`. Raises ValueError."""
    if isinstance(value, Endpoint):
        return value
    text = value if isinstance(value, str) else ""
    if text.startswith("unix:"):
        return _socket(text[5:])
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError('must be "host:port", "[IPv6 address]:port" or "unix:/path", in quotes')
    if host.startswith("[") and host.endswith("]"):
        return Endpoint(str(_ip(host[1:-1])), int(port))
    if not _HOST.fullmatch(host):
        raise ValueError(
            f"{_shown(host)} is not a host name or IP address (IPv6 addresses stand in brackets)"
        )
    if host.rpartition(".")[2].isdigit():
        return Endpoint(str(_ip(host)), int(port))  # resolvers would read `12` as 0.0.0.12
    return Endpoint(host.lower(), int(port))


def _socket(path: str) -> Endpoint:
    if not path.startswith("/") or len(path.encode()) > _MAX_SOCKET_CHARS:
        raise ValueError(f"the path of a unix socket starts with / and has at most {_MAX_SOCKET_CHARS} bytes")
    return Endpoint(path=path)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as exc:
        raise ValueError(f"{_shown(text)} is not an IP address") from exc


def _listen_address(value: object) -> Endpoint:
    endpoint = parse_endpoint(value)
    if endpoint.host and endpoint.host != "localhost":
        _ip(endpoint.host)  # a name could come to mean another interface
    return endpoint


def _host_address(value: object) -> Endpoint:
    endpoint = parse_endpoint(value)
    if endpoint.path:
        raise ValueError(f"a unix socket as next hop is {LATER}")
    if not endpoint.port:
        raise ValueError("port 0 is not a port of a server")
    return endpoint


ListenAddress = Annotated[Endpoint, BeforeValidator(_listen_address)]
"""An IP address of this machine or a unix socket; port 0 takes any free port."""

HostAddress = Annotated[Endpoint, BeforeValidator(_host_address)]
"""A host name or IP address with its port."""
