"""Asks whether key sources and the store fit each other and this machine."""

from __future__ import annotations

from relay.config.document import Document
from relay.config.machine import check_authorities, check_directory, check_gpg, check_writable, read_password
from relay.config.problems import Path
from relay.config.schema import (
    AutocryptSource,
    DaneSource,
    DirectorySource,
    GnupgSource,
    HkpsSource,
    KeySourceSettings,
    LdapSource,
    PolicySettings,
    Settings,
    Store,
    VksSource,
    WkdSource,
)
from relay.rule import Encrypt


def check_sources(document: Document, settings: Settings) -> None:
    """Adds every problem with a key source and with the store to the document."""
    for name, source in settings.keys.items():
        _check_source(document, ("keys", name), source)
        if isinstance(source, AutocryptSource) and settings.auth.type != "users":
            document.warn(
                ("keys", name),
                f"nothing is ever learned with auth.type {settings.auth.type}: only the logins of type users"
                " prove whose address stands in From",
            )
    _check_one_learns(document, settings)
    is_known = not any(problem.path.startswith("store") for problem in document.problems)
    if is_known and needs_store(settings):  # else this would be about the default, which nobody has chosen
        _check_store_opens(document, settings.store)
    _check_store(document, settings.store)


def _check_one_learns(document: Document, settings: Settings) -> None:
    """What messages teach is one thing, and would be kept by the first source alone."""
    _, *others = [name for name, each in settings.keys.items() if isinstance(each, AutocryptSource)] or [""]
    for name in others:
        document.add(("keys", name), "is a second source of type autocrypt, and there is only one; remove it")


def needs_store(settings: Settings) -> bool:
    """Whether the store is opened: only keys from outside of this machine are kept in it.

    Where mail may leave in clear, it is opened too if there is one already, though the last such source was
    removed: an address that has a pin gets nothing in clear, and no change of the settings is to undo that.
    """
    if any(source.discovered for source in settings.keys.values()):
        return True
    return _may_release(settings.policy) and _has_store(settings.store)


def _may_release(policy: PolicySettings) -> bool:
    """Whether some rule lets mail leave in clear where no key is found; under `never` no key is asked for."""
    entries = (*policy.domains.values(), *policy.addresses.values(), *policy.senders.values())
    return any(entry.encrypt is Encrypt.WHEN_POSSIBLE for entry in (policy.default, *entries))


def _has_store(store: Store) -> bool:
    """Whether something may be remembered. The default is a file, so a server was meant by somebody."""
    if store.path is None:
        return True
    try:
        store.path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # that it cannot be told is no reason to forget
        return True
    return True


def read_store_password(document: Document, settings: Settings) -> str | None:
    """The password of the database; None where there is none, or after a problem."""
    file = settings.store.password_file
    if file is None or settings.store.path or not needs_store(settings):
        return None
    return read_password(document, ("store", "password_file"), file)


def read_source_passwords(document: Document, settings: Settings) -> dict[str, str]:
    """The passwords of key sources by their names; those with a problem are missing."""
    found: dict[str, str] = {}
    for name, source in settings.keys.items():
        if isinstance(source, LdapSource) and source.password_file:
            password = read_password(document, ("keys", name, "password_file"), source.password_file)
            if password is not None:
                found[name] = password
    return found


def _check_source(document: Document, path: Path, source: KeySourceSettings) -> None:
    match source:
        case GnupgSource():
            check_directory(document, (*path, "home"), source.home)
            check_gpg(document, (*path, "type"))
        case DirectorySource():
            check_directory(document, (*path, "path"), source.path)
        case DaneSource():
            _check_resolver(document, (*path, "resolver"), source)
        case LdapSource():
            _check_bind(document, path, source)
            _check_filter(document, (*path, "filter"), source)
    if isinstance(source, WkdSource | VksSource | HkpsSource | LdapSource) and source.ca_file:
        check_authorities(document, (*path, "ca_file"), source.ca_file)


def _check_resolver(document: Document, path: Path, source: DaneSource) -> None:
    """What the resolver says of its validation is one bit that nothing protects (RFC 7672 §2.1.1)."""
    if not source.resolver.is_local and not source.trusted_network:
        document.add(
            path,
            "must be a loopback address: the answer that DNSSEC was validated (the AD bit) can be forged on"
            " the way from any other (RFC 7672 §2.1.1); run a validating resolver on this host, or set"
            " trusted_network: true where nobody else is in the network between",
        )


def _check_bind(document: Document, path: Path, source: LdapSource) -> None:
    if source.bind_dn is not None and source.password_file is None:
        # a bind without a password succeeds as nobody (RFC 4513 §5.1.2)
        document.add((*path, "password_file"), "is missing beside bind_dn")
    if source.password_file is not None and source.bind_dn is None:
        document.add((*path, "bind_dn"), "is missing beside password_file")


def _check_filter(document: Document, path: Path, source: LdapSource) -> None:
    """Asks the part that will send the filter whether it can."""
    from relay.keys.ldap import LdapKeys, LdapSettings

    try:
        LdapKeys("check", LdapSettings(source.url, source.base, source.filter, source.attribute))
    except ValueError:
        document.add(path, "is no LDAP filter (RFC 4515), such as (mail={address})")


def _check_store(document: Document, store: Store) -> None:
    if store.path is None:
        return
    for name in ("password_file", "ca_file"):
        if getattr(store, name) is not None:
            document.add(("store", name), "is not used with sqlite; remove it")


def _check_store_opens(document: Document, store: Store) -> None:
    if store.path is not None:
        check_writable(document, ("store", "url"), store.path)
    elif store.ca_file is not None:
        check_authorities(document, ("store", "ca_file"), store.ca_file)
