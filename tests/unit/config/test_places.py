"""URLs, networks, resolvers, LDAP filters: what is right has one spelling, and nothing else comes in."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from relay.config import DaneSource, Dns, Endpoint, HkpsSource, LdapSource, Store, VksSource, WkdSource


def ldap(**fields: object) -> LdapSource:
    return LdapSource.model_validate(
        {"type": "ldap", "url": "ldaps://ldap.example.com", "base": "dc=example,dc=com", **fields}
    )


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://keys.openpgp.org", "https://keys.openpgp.org"),
        ("https://Keys.OpenPGP.org/", "https://keys.openpgp.org"),
        ("https://keys.example.com:8443/Sub/", "https://keys.example.com:8443/Sub"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://192.0.2.1", "https://192.0.2.1"),
    ],
)
def test_web_url_has_one_spelling(written: str, url: str) -> None:
    """Host in lower case, no slash at the end; the path keeps its letters."""
    assert url == VksSource(type="vks", url=written).url
    assert url == HkpsSource(type="hkps", url=written).url


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example.com",
        "HKP://keys.example.com",
        "keys.example.com",
        "//keys.example.com",
        "https:keys.example.com",
        "https://",
        "https://:443",
        "https://keys.example.com:",
        "https://keys.example.com:x",
        "https://[::1",
        "https://keys..example.com",
        "https://unix:/run/socket",
        "https://keys.example.com\t",
        "https://keys.exa\nmple.com",
        "https://@keys.example.com",
    ],
)
def test_web_url_of_another_shape_is_refused(url: str) -> None:
    """Neither another scheme nor parts that a URL parser would drop or move get through."""
    with pytest.raises(ValidationError):
        VksSource(type="vks", url=url)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("ldaps://ldap.example.com", "ldaps://ldap.example.com"),
        ("ldap://LDAP.example.com:3890/", "ldap://ldap.example.com:3890"),
    ],
)
def test_ldap_url_may_be_either_scheme(written: str, url: str) -> None:
    """ldap:// means StartTLS, so both are fine."""
    assert url == ldap(url=written).url


@pytest.mark.parametrize(
    "filter",
    [
        "(mail={address})",
        "(|(mail=x)(proxyAddresses=smtp:{address}))",
        r"(&(objectClass=person)(mail={address})(!(description=\28x\29)))",
    ],
)
def test_ldap_filter_with_one_address_is_taken(filter: str) -> None:
    """Any expression in which the address is once a value."""
    assert filter == ldap(filter=filter).filter


@pytest.mark.parametrize(
    "filter",
    ["", "{address}", "(mail={address}", "(mail={address}))", "(mail)({address}=x)", "(a=(b){address})"],
)
def test_ldap_filter_of_another_shape_is_refused(filter: str) -> None:
    """An address elsewhere than behind a =, or parentheses that do not match, would be another question."""
    with pytest.raises(ValidationError):
        ldap(filter=filter)


@pytest.mark.parametrize("attribute", ["pgpKey", "pgpKey;binary", "1.3.6.1.4.1.3401.8.2.11"])
def test_ldap_attribute_may_have_options_or_be_a_number(attribute: str) -> None:
    """What RFC 4512 §2.5 calls an attribute description."""
    assert attribute == ldap(attribute=attribute).attribute


@pytest.mark.parametrize("written", ["10.0.0.0/8", "192.0.2.1", "fd00::/8", "::1/128"])
def test_allowed_network_is_a_network(written: str) -> None:
    """Networks of both families, and single addresses."""
    source = WkdSource.model_validate({"type": "wkd", "allow_networks": (written,)})

    assert (ip_network(written),) == source.allow_networks


@pytest.mark.parametrize(
    ("written", "endpoint"),
    [("127.0.0.1:53", Endpoint("127.0.0.1", 53)), ("[::1]:5353", Endpoint("::1", 5353))],
)
def test_resolver_is_an_address_with_its_port(written: str, endpoint: Endpoint) -> None:
    """The same form for DANE and for the names of web servers."""
    assert endpoint == DaneSource.model_validate({"type": "dane", "resolver": written}).resolver
    assert endpoint == Dns.model_validate({"resolver": written}).resolver


@pytest.mark.parametrize("name", [".", "org.", "Example.com", "_x.example.com."])
def test_signed_name_is_a_name_of_the_dns(name: str) -> None:
    """The root, a top-level domain, any other."""
    assert name.lower() == DaneSource.model_validate({"type": "dane", "signed_name": name}).signed_name


@pytest.mark.parametrize("name", ["", "..", "a..example", ".example", "x" * 64, "bücher.example", "a b"])
def test_signed_name_that_is_no_name_is_refused(name: str) -> None:
    """Empty or long labels, and what DNS libraries would have to guess."""
    with pytest.raises(ValidationError):
        DaneSource.model_validate({"type": "dane", "signed_name": name})


@pytest.mark.parametrize(
    ("written", "url", "path"),
    [
        ("sqlite:////var/lib/relay/x.db", "sqlite:////var/lib/relay/x.db", "/var/lib/relay/x.db"),
        ("sqlite:///x.db", "sqlite:////etc/relay/x.db", "/etc/relay/x.db"),
        ("postgresql://relay@db.example.com/relay", "postgresql://relay@db.example.com/relay", None),
        ("postgresql://relay@[::1]:5433/relay", "postgresql://relay@[::1]:5433/relay", None),
        ("postgresql://relay@/relay?host=/run/pg", "postgresql://relay@/relay?host=/run/pg", None),
    ],
)
def test_store_url_names_a_file_or_a_database(written: str, url: str, path: str | None) -> None:
    """A relative SQLite path starts at the directory of the configuration file."""
    store = Store.model_validate({"url": written}, context={"directory": "/etc/relay"})

    assert (url, path) == (store.url, str(store.path) if store.path else None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:relay.db",
        "sqlite:////relay.db?mode=ro",
        "postgresql://db.example.com",
        "postgresql://db.example.com/",
        "postgresql://db.example.com/a/b",
        "postgresql:///relay",
        "postgresql://db.example.com/relay?sslmode=disable",
        "postgresql://db.example.com/relay?host=/run/pg",
        "postgresql:///relay?host=db.example.com",
        "postgresql:///relay?host=/run/pg&password=x",
        "postgresql+asyncpg://db.example.com/relay",
        "postgres://db.example.com/relay",
        "mysql://db.example.com/relay",
    ],
)
def test_store_url_of_another_shape_is_refused(url: str) -> None:
    """No other database, nothing that forgets, and no option that could switch TLS off."""
    with pytest.raises(ValidationError):
        Store.model_validate({"url": url}, context={"directory": "/etc/relay"})
