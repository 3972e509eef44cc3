"""Tests of `relay.mime.exempt.tlsreport`."""

from __future__ import annotations

import copy
import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from relay.mime.exempt.tlsreport import MAX_FREE_CHARS, MAX_JSON_BYTES, is_tls_report
from relay.mime.headers import parse
from tests.unit.mime.exempt.samples import SECRET, TLS_REPORT, changed, tls_report

_DATA = json.dumps(TLS_REPORT).encode()


def _is(content: bytes) -> bool:
    return is_tls_report(parse(content))


def _altered(change: Callable[[Any], object]) -> object:
    report = copy.deepcopy(TLS_REPORT)
    change(report)
    return report


def _first(report: Any) -> Any:
    return report["policies"][0]


def _set(where: Callable[[Any], Any], **members: object) -> Callable[[Any], object]:
    """A change of members; an underscore stands for a hyphen, None takes one away."""

    def change(report: Any) -> None:
        for name, value in members.items():
            where(report).pop(name.replace("_", "-"), None)
            if value is not None:
                where(report)[name.replace("_", "-")] = value

    return change


def _report(report: Any) -> Any:
    return report


def _policy(report: Any) -> Any:
    return _first(report)["policy"]


def _failure(report: Any) -> Any:
    return _first(report)["failure-details"][0]


_WRONG = {
    "unknown member": _set(_report, note=SECRET),
    "unknown member of a policy": _set(_policy, note=SECRET),
    "unknown member of an entry": _set(_first, note=SECRET),
    "unknown member of a failure": _set(_failure, note=SECRET),
    "no organization": _set(_report, organization_name=None),
    "no dates": _set(_report, date_range=None),
    "no contact": _set(_report, contact_info=None),
    "no id": _set(_report, report_id=None),
    "no policies": _set(_report, policies=None),
    "no policy": _set(_first, policy=None),
    "no summary": _set(_first, summary=None),
    "no policy type": _set(_policy, policy_type=None),
    "no policy domain": _set(_policy, policy_domain=None),
    "no result": _set(_failure, result_type=None),
    "prose as date": _set(lambda r: r["date-range"], start_datetime=SECRET),
    "prose as contact": _set(_report, contact_info=f"{SECRET}@google.example"),
    "contact of another": _set(_report, contact_info="a@other.example"),
    "prose as id": _set(_report, report_id=SECRET),
    "prose as type": _set(_policy, policy_type=SECRET),
    "prose as policy": _set(_policy, policy_string=[SECRET]),
    "policy is no list": _set(_policy, policy_string="version: STSv1"),
    "prose as domain": _set(_policy, policy_domain=SECRET),
    "prose as pattern": _set(_policy, mx_host=SECRET),
    "prose as result": _set(_failure, result_type=SECRET),
    "prose as address": _set(_failure, sending_mta_ip=SECRET),
    "scoped address": _set(_failure, sending_mta_ip="fe80::1%the-merger"),
    "prose as host": _set(_failure, receiving_mx_hostname=SECRET),
    "prose as link": _set(_failure, additional_information=SECRET),
    "long reason": _set(_failure, failure_reason_code="x" * 201),
    "reason of lines": _set(_failure, failure_reason_code="x\ny"),
    "number as a word": _set(_failure, failed_session_count="1"),
    "number as truth": _set(_failure, failed_session_count=True),
    "negative number": _set(_failure, failed_session_count=-1),
    "huge number": _set(_failure, failed_session_count=10**30),
    "fraction": _set(_failure, failed_session_count=1.5),
    "much free text": lambda r: _first(r).update(
        {
            "failure-details": [
                dict(_failure(r), **{"failure-reason-code": f"{n:0200}"})
                for n in range(MAX_FREE_CHARS // 200 + 1)
            ]
        }
    ),
    "object in the place of a word": _set(_report, organization_name={"a": SECRET}),
    "list in the place of an object": _set(_report, date_range=[SECRET]),
    "null": _set(_report, policies={"a": None}),
}


@pytest.mark.parametrize("change", _WRONG.values(), ids=_WRONG)
def test_is_tls_report_with_other_json_is_none(change: Callable[[Any], object]) -> None:
    """Each member is what RFC 8460 §4.4 says, and there is no other."""
    assert not _is(tls_report(_altered(change)))


_RIGHT = {
    "no failures": _set(_first, failure_details=None),
    "no policy string": _set(_policy, policy_string=None),
    "host as a word": _set(_policy, mx_host="*.example.com"),
    "no policies at all": _set(_report, policies=[]),
    "every optional member": _set(
        _failure, receiving_mx_helo="mx.example.com", additional_information="https://reports.example/1"
    ),
    "contact with a scheme": _set(_report, contact_info="mailto:tls@google.example"),
    "submitter above the contact": _set(_report, contact_info="tls@mail.google.example"),
    "many policies": _set(_report, policies=TLS_REPORT["policies"] * 100),
    "no policy found": _set(_policy, policy_type="no-policy-found", policy_string=[], mx_host=None),
}


@pytest.mark.parametrize("change", _RIGHT.values(), ids=_RIGHT)
def test_is_tls_report_of_a_legal_variant_is_one(change: Callable[[Any], object]) -> None:
    """What RFC 8460 leaves open, and what older reporters write, is a report."""
    assert _is(tls_report(_altered(change)))


def test_is_tls_report_of_a_host_of_the_contact_is_one() -> None:
    """The submitter may be a host below the domain of the contact."""
    below = "TLS-Report-Submitter: mail.google.example"

    assert _is(changed(tls_report(), "TLS-Report-Submitter: google.example", below))


@pytest.mark.parametrize(
    "data",
    {
        "prose": SECRET.encode(),
        "empty": b"",
        "list": b"[]",
        "word": b'"x"',
        "number": b"1",
        "not a number": b"NaN",
        "infinity": _DATA.replace(b"12", b"Infinity"),
        "member twice": _DATA.replace(b'"report-id"', b'"report-id": "The.merger", "report-id"'),
        "words behind": _DATA + SECRET.encode(),
        "comment": b"/* " + SECRET.encode() + b" */" + _DATA,
        "two reports": _DATA + _DATA,
        "not UTF-8": _DATA.replace(b"Google Inc.", b"\xff"),
        "too large": _DATA + b" " * MAX_JSON_BYTES,
        "deep": b"[" * 100_000,
    }.values(),
)
def test_is_tls_report_of_anything_but_one_json_object_is_none(data: bytes) -> None:
    """The content is read, packed or not; the label proves nothing."""
    assert not _is(tls_report(packed=data, kind="json"))
    assert not _is(tls_report(packed=gzip.compress(data, mtime=0)))


def _named(name: str) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=packed, mtime=0) as file:
        file.write(_DATA)
    return packed.getvalue()


_PACKED = gzip.compress(_DATA, mtime=0)


@pytest.mark.parametrize(
    "packed",
    {
        "not packed": _DATA,
        "beginning alone": _PACKED[:3],
        "prose": SECRET.encode(),
        "second member": _PACKED + gzip.compress(SECRET.encode()),
        "words behind": _PACKED + SECRET.encode(),
        "zeros behind": _PACKED + b"\0" * 100,
        "cut off": _PACKED[:-1],
        "wrong checksum": _PACKED[:-8] + b"abcd" + _PACKED[-4:],
        "comment": _PACKED[:3] + b"\x10" + _PACKED[4:10] + SECRET.encode() + b"\0" + _PACKED[10:],
        "extra field": _PACKED[:3]
        + b"\x04"
        + _PACKED[4:10]
        + b"\x05\x00"
        + SECRET.encode()[:5]
        + _PACKED[10:],
        "long name": _named("x" * 400),
    }.values(),
)
def test_is_tls_report_in_an_odd_file_is_none(packed: bytes) -> None:
    """The file is one gzip member with a name at most (RFC 1952 §2.3)."""
    assert not _is(tls_report(packed=packed))


def test_is_tls_report_in_a_file_with_a_name_is_one() -> None:
    """Programs write the name of the file into it."""
    assert _is(tls_report(packed=_named("google.example!example.com!1!2.json")))


@pytest.mark.parametrize(
    "attack",
    [
        ("TLS-Report-Domain: example.com\n", ""),
        ("TLS-Report-Submitter: google.example\n", ""),
        ("TLS-Report-Domain: example.com\n", "TLS-Report-Domain: example.com\n" * 2),
        ("TLS-Report-Domain: example.com\n", f"TLS-Report-Domain: {SECRET}\n"),
        ("TLS-Report-Submitter: google.example", "TLS-Report-Submitter: other.example"),
        ("report-type=tlsrpt", "report-type=delivery-status"),
        ("; report-type=tlsrpt", ""),
        ("multipart/report", "multipart/mixed"),
        ("This is an aggregate", f"{SECRET}\n" * 200 + "This is an aggregate"),
        ("Content-Type: text/plain", "Content-Type: text/html"),
        ("application/tlsrpt+gzip", "application/gzip"),
        ("application/tlsrpt+gzip", "application/tlsrpt+json"),
        ("Content-Transfer-Encoding: base64\n", ""),
        ("Content-Transfer-Encoding: base64\n\n", "Content-Transfer-Encoding: base64\n\n!!!"),
    ],
)
def test_is_tls_report_with_an_odd_message_around_it_is_none(attack: tuple[str, str]) -> None:
    """Header fields, type, text and encoding are those of RFC 8460 §5.3."""
    assert _is(tls_report())
    assert not _is(changed(tls_report(), *attack))
