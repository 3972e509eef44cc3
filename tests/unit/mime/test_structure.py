"""Tests of `relay.mime.structure`."""

from __future__ import annotations

import email
import email.policy
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime import contenttype, headers
from relay.mime.contenttype import Parameterised
from relay.mime.structure import MAX_PART_HEADER_BYTES, MAX_PARTS, Multipart, parts
from tests.mail import crlf

_MIXED = Parameterised("multipart/mixed", {"boundary": "b"})


def _parts(text: str, boundary: str = "b") -> Multipart | None:
    return parts(Parameterised("multipart/mixed", {"boundary": boundary}), crlf(text))


def _bodies(found: Multipart | None) -> list[bytes]:
    return [part.body for part in found.parts] if found else []


def test_parts_of_a_multipart_are_slices_with_their_places() -> None:
    """Header, body and offsets of each part are those of the octets; the rest is preamble and epilogue."""
    body = crlf("before\n--b\nA: 1\nB: 2\n c\n\none\n--b  \n\ntwo\n\n--b--\nbehind\n")

    found = parts(_MIXED, body)

    assert found is not None
    assert (b"before\r\n", b"behind\r\n", True) == (found.preamble, found.epilogue, found.complete)
    assert [b"one", b"two\r\n"] == [body[part.body_start : part.end] for part in found.parts]
    assert [b"one", b"two\r\n"] == _bodies(found)
    assert [b"A: 1\r\nB: 2\r\n c\r\n\r\n", b"\r\n"] == [part.header for part in found.parts]
    assert [["a", "b"], []] == [[field.name for field in part.fields] for part in found.parts]
    assert [body[part.start : part.body_start] for part in found.parts] == [p.header for p in found.parts]


def test_parts_of_one_field_are_found_by_its_name() -> None:
    """`Part.get` gives every field of a name, as `Message.get` does."""
    found = _parts("--b\nA: 1\nB: 2\na: 3\n\none\n--b--")

    assert found is not None
    assert [b"1", b"3"] == [field.value for field in found.parts[0].get("a")]


def test_parts_are_spliced_without_another_octet_changing() -> None:
    """A new body in the place of another leaves all other octets as they were."""
    body = crlf("before\n--b\nA: 1\n\none\n--b\nB: 2\n\ntwo\n--b--\nbehind\n")
    found = parts(_MIXED, body)

    assert found is not None
    first = found.parts[0]
    assert body.replace(b"one", b"1") == body[: first.body_start] + b"1" + body[first.end :]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--b\n\nx\n--bc\ny\n--b--", [b"x\r\n--bc\r\ny"]),
        ("--b\n\nx\n --b\ny\n--b--", [b"x\r\n --b\r\ny"]),
        ("--b\n\nx--b\ny\n--b--", [b"x--b\r\ny"]),
        ("--b\n\nx\n--b--y\n--b--", [b"x\r\n--b--y"]),
        ("--b\n\nx\n--b \t\n\ny\n--b-- \t\n", [b"x", b"y"]),
        ("--b\n\n\n--b--", [b""]),
        ("--b\nA: 1\n\n--b--", [b""]),
        ("--b\nA: 1\n\n\n--b--", [b""]),
        ("--b\n\n--b\n\nx\n--b--", [b"", b"x"]),
    ],
)
def test_parts_are_divided_at_delimiter_lines_alone(text: str, expected: list[bytes]) -> None:
    """A delimiter stands at the start of its line, with nothing but blanks behind it (RFC 2046 §5.1.1)."""
    assert expected == _bodies(_parts(text))


@pytest.mark.parametrize("boundary", ["x" * 70, "a b", "'()+_,-./:=?", "0", "--"])
def test_parts_of_every_legal_boundary_are_found(boundary: str) -> None:
    """What RFC 2046 §5.1.1 allows as a boundary is one."""
    assert [b"x"] == _bodies(_parts(f"--{boundary}\n\nx\n--{boundary}--\n", boundary))


@pytest.mark.parametrize("boundary", ["", "x" * 71, "a ", "a*b", "ü", "a\nb", 'a"b'])
def test_parts_of_an_illegal_boundary_are_in_doubt(boundary: str) -> None:
    """A boundary that some reader may take for another is none."""
    assert _parts(f"--{boundary}\n\nx\n--{boundary}--\n", boundary) is None


def test_parts_without_close_delimiter_are_not_complete() -> None:
    """A truncated multipart has its parts, and says that it is truncated."""
    found = _parts("--b\n\none\n--b\n\ntwo\n")

    assert found is not None
    assert ([b"one", b"two\r\n"], b"", False) == (_bodies(found), found.epilogue, found.complete)


@pytest.mark.parametrize(
    "text",
    {
        "nothing": "",
        "no delimiter": "one\n",
        "close alone": "--b--\n",
        "no room between two": "--b\n--b--\n",
        "delimiter behind the close": "--b\n\none\n--b--\n--b\n\ntwo\n--b--\n",
        "close twice": "--b\n\none\n--b--\n--b--\n",
        "cut off in a delimiter": "--b\n\none\n--b",
        "header without end": "--b\nA: 1\n--b--\n",
        "line that is no field": "--b\none\n\ntwo\n--b--\n",
        "begins with a folded line": "--b\n one\n\ntwo\n--b--\n",
        "header too large": "--b\nA: " + "x" * MAX_PART_HEADER_BYTES + "\n\none\n--b--\n",
        "header alone, too large": "--b\n" + "A: 1\n" * (MAX_PART_HEADER_BYTES // 6 + 1) + "\n--b--\n",
        "octets instead of a header": "--b\nx\n--b--\n",
        "many blanks": f"--b{' ' * 201}\n\nx\n--b--\n",
        "many blanks before words": f"--b\n\nx\n--b{' ' * 201}x\n--b--\n",
        "many blanks behind the close": f"--b\n\nx\n--b--{' ' * 201}\n",
        "too many lines that begin so": "--b\n\n" + "--bx\n" * (10 * MAX_PARTS + 1) + "--b--\n",
        "too many parts": "--b\n\nx\n" * (MAX_PARTS + 1) + "--b--\n",
    }.values(),
)
def test_parts_in_doubt_are_none(text: str) -> None:
    """What two readers could divide differently is not divided."""
    assert _parts(text) is None


def test_parts_up_to_the_limit_are_divided() -> None:
    """The limit of parts is one that can be reached."""
    assert MAX_PARTS == len(_bodies(_parts("--b\n\nx\n" * MAX_PARTS + "--b--\n")))


def test_parts_of_another_type_are_none() -> None:
    """Only a multipart has parts, whatever boundary the type names."""
    assert parts(Parameterised("text/plain", {"boundary": "b"}), b"--b\r\n\r\nx\r\n--b--") is None
    assert parts(Parameterised("multipart/mixed", {}), b"--b\r\n\r\nx\r\n--b--") is None


_LINES = st.sampled_from(["--b", "--b--", "--bc", "", "A: 1", "x", " --b", "--b ", "--c", "--c--"])


@given(st.lists(_LINES, max_size=15), st.booleans())
@settings(max_examples=500, deadline=None)
def test_parts_are_those_that_another_parser_sees(lines: list[str], ends: bool) -> None:
    """Where there is no doubt, Python's `email` divides a complete multipart as we do."""
    body = "\r\n".join(lines).encode() + (b"\r\n" if ends else b"")

    found = parts(_MIXED, body)

    if found is None or not found.complete:
        return
    parsed = email.message_from_bytes(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body, policy=email.policy.SMTP
    )
    assert [part.body for part in found.parts] == [
        part.get_payload(decode=True)
        for part in parsed.get_payload()
        if isinstance(part, email.message.Message)
    ]


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_parts_of_any_bytes_account_for_every_octet(data: bytes) -> None:
    """Nothing is raised, and slices lie in order inside of the body."""
    body = data.replace(b"x", b"\r\n--b").replace(b"y", b"\r\n\r\n").replace(b"\0", b"A: 1\r\n")

    found = parts(_MIXED, body)

    places = [len(found.preamble)] if found else []
    for part in found.parts if found else ():
        places += [part.start, part.body_start, part.end]
    assert sorted(places) == places
    assert all(place <= len(body) for place in places)


def test_parts_with_few_blanks_and_many_almost_delimiters_are_divided() -> None:
    """The limits of what stands behind a boundary are ones that can be reached (A3)."""
    almost = "--bx\n" * (9 * MAX_PARTS)

    assert 1 == len(_bodies(_parts(f"--b{' ' * 200}\n\n{almost}--b--{' ' * 200}\n")))


def test_parts_are_found_across_the_pieces_in_which_they_are_searched() -> None:
    """A delimiter is one wherever it stands in a large body."""
    for size in range((1 << 20) - 12, (1 << 20) + 2):
        body = b"--b\r\n\r\n" + b"x" * size + b"\r\n--b--\r\n"
        found = parts(_MIXED, body)

        assert found is not None
        assert [size] == [part.size for part in found.parts]


def test_parts_of_fifty_megabytes_of_almost_delimiters_take_bounded_time() -> None:
    """Blanks without end and lines that begin with the boundary are given up early (A3)."""
    hostile = [b"--b" + b" " * 50_000_000 + b"x\r\n", b"--bx\r\n" * 8_000_000]
    start = time.perf_counter()

    found = [parts(_MIXED, body) for body in hostile]

    assert [None] * 2 == found
    assert time.perf_counter() - start < 0.5


def test_parts_of_a_megabyte_of_delimiters_take_bounded_time() -> None:
    """Neither many delimiters, nor many almost, nor long blanks behind one cost more than their length."""
    hostile = [b"--b\r\n" * 200_000, b"\r\n--b" * 200_000, b"--b" + b" \t" * 500_000, b"\r\n--bx" * 170_000]
    start = time.perf_counter()

    found = [parts(_MIXED, body) for body in hostile]

    assert [None] * 4 == found
    assert time.perf_counter() - start < 2


def test_parts_of_a_real_message_are_read_with_its_own_fields() -> None:
    """The type that `contenttype` reads and the body that `headers` cuts are what it takes."""
    message = headers.parse(crlf('Content-Type: multipart/mixed; boundary="b"\n\n--b\n\none\n--b--\n'))
    kind = contenttype.parse(message.get("content-type")[0].value)

    assert kind is not None
    assert [b"one"] == _bodies(parts(kind, message.body))
