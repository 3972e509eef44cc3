from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MessageRefused, MessageTooLarge, OverMemory, RelayError
from relay.server.data import DRAIN_FACTOR, DataReader

END = b"\r\n.\r\n"
# Octets that matter are frequent, so that every border between blocks falls into something.
ALPHABET = st.sampled_from(
    [b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"a", b"\0", b"\x0b", b"\x85"]
)
WIRE = st.lists(ALPHABET, max_size=60).map(b"".join)


def read(blocks: list[bytes], max_bytes: int = 1000, max_line: int = 500) -> tuple[object, ...]:
    """What the reader made of the blocks: result, end, and what is left for the command loop."""
    reader = DataReader(max_bytes, max_line)
    kept = 0
    for number, block in enumerate(blocks):
        kept += reader.feed(block)
        if reader.exhausted:
            return MessageTooLarge, "exhausted"
        if reader.ended:
            rest = reader.rest + b"".join(blocks[number + 1 :])
            return result_of(reader), rest
    return "unfinished", kept >= 0


def result_of(reader: DataReader) -> object:
    try:
        return reader.content()
    except RelayError as error:
        return type(error), str(error.reply())


def split(wire: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    return [wire[start:stop] for start, stop in itertools.pairwise(places)]


@settings(max_examples=100, deadline=None)
@given(WIRE, st.lists(st.integers(0, 10_000), max_size=10), st.integers(1, 80), st.integers(0, 40))
def test_reader_any_blocks_same_result(wire: bytes, cuts: list[int], limit: int, line: int) -> None:
    """Whole, octet by octet and in random blocks a message gives the same content, refusal and rest."""
    wire += END + b"NOOP\r\n"

    whole = read([wire], limit, line)

    assert whole == read([wire[i : i + 1] for i in range(len(wire))], limit, line)
    assert whole == read(split(wire, cuts), limit, line)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab.", max_size=5), max_size=20), st.integers(1, 7))
def test_reader_stuffed_message_comes_out_as_written(lines: list[str], size: int) -> None:
    """Dot-stuffing by RFC 5321 §4.5.2 is undone exactly, whatever the lines are."""
    message = "".join(f"{line}\r\n" for line in lines).encode()
    wire = "".join(f"{'.' if line.startswith('.') else ''}{line}\r\n" for line in lines).encode() + b".\r\n"

    assert (message, b"") == read([wire[i : i + size] for i in range(0, len(wire), size)])


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b"a\r\n..\r\n..b\r\n.\r\n", b"a\r\n.\r\n.b\r\n"),
        (b"\r\n..\r\n.\r\n", b"\r\n.\r\n"),
        (b"\x0b\x0c\x85\x1c\r\n.\r\n", b"\x0b\x0c\x85\x1c\r\n"),
    ],
)
def test_reader_message_is_unstuffed(wire: bytes, content: bytes) -> None:
    """Only the first dot of a line goes, and only CR LF makes a line."""
    assert (content, b"") == read([wire])


SMUGGLES = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r\n\x00.\r\n",
    b"\r\r\n.\r",
]


@pytest.mark.parametrize("smuggle", SMUGGLES)
def test_reader_other_end_of_data_is_refused_at_the_real_end(smuggle: bytes) -> None:
    """Nothing but CR LF . CR LF ends a message (M-01), and a message with something like it is refused."""
    wire = b"a" + smuggle + b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<x@example.com>\r\nDATA\r\nb" + END

    result, rest = read([wire + b"QUIT\r\n"])

    assert (MessageRefused, b"QUIT\r\n") == (result[0], rest)  # type: ignore[index]


@pytest.mark.parametrize("octets", [b"A\nB", b"A\rB", b"A\n", b"\nA", b"A\r", b"A\0B", b"\r\r\n\n"])
def test_reader_bare_line_end_or_nul_is_refused(octets: bytes) -> None:
    """A bare CR, a bare LF and a NUL are refused, not repaired (M-02, M-04)."""
    assert MessageRefused is read([octets + END])[0][0]  # type: ignore[index]


@pytest.mark.parametrize(("size", "fits"), [(10, True), (11, False)])
def test_reader_size_limit_counts_unstuffed_octets(size: int, fits: bool) -> None:
    """The limit is exact and counts what RFC 1870 §6 counts: no stuffing, no final dot."""
    wire = b".." + b"a" * (size - 3) + END

    assert fits is (read([wire], max_bytes=10)[0] == b"." + b"a" * (size - 3) + b"\r\n")


@pytest.mark.parametrize(("length", "fits"), [(10, True), (11, False)])
@pytest.mark.parametrize("before", [b"", b"x\r\n", b"x" * 9 + b"\r\n"])
@pytest.mark.parametrize("after", [b"", b"\r\ny"])
def test_reader_line_limit_is_exact(length: int, fits: bool, before: bytes, after: bytes) -> None:
    """A line of the limit passes, one octet more is refused, wherever it stands."""
    result = read([before + b"a" * length + after + END], max_line=10)[0]

    assert fits is isinstance(result, bytes)


@pytest.mark.parametrize(("second", "fits"), [(4, True), (5, False)])
def test_reader_line_limit_holds_over_blocks(second: int, fits: bool) -> None:
    """A line that came in two blocks is one line."""
    result = read([b"a" * 6, b"a" * second + b"\r\nb", END], max_line=10)[0]

    assert fits is isinstance(result, bytes)


def test_reader_endless_message_keeps_nothing_and_gives_up() -> None:
    """Past the limit nothing is kept, and past the drain the connection is given up."""
    reader = DataReader(1000)
    kept = [reader.feed(b"a" * 100) for _ in range(10 * DRAIN_FACTOR)]

    assert [100] * 10 + [0] * (10 * DRAIN_FACTOR - 10) == kept
    assert (False, True) == (reader.exhausted, reader.feed(b"a" * 10) == 0 and reader.exhausted)


def test_reader_refused_by_caller_reads_on_to_the_end() -> None:
    """A refusal for want of memory drops the message, finds its end and is what comes out."""
    reader = DataReader(1000)
    reader.feed(b"a\r\n")
    reader.refuse(OverMemory())

    assert 0 == reader.feed(b"b\r\n.\r\nNOOP\r\n")
    assert (True, b"NOOP\r\n") == (reader.ended, reader.rest)
    with pytest.raises(OverMemory):
        reader.content()


def cpu_ms(wire: bytes) -> float:
    def once() -> float:
        start = time.process_time()
        reader = DataReader(50_000_000)
        for place in range(0, len(wire), 65_536):
            reader.feed(wire[place : place + 65_536])
        reader.content()
        return (time.process_time() - start) * 1000

    return min(once() for _ in range(5))


@pytest.mark.parametrize(("line", "limit_ms"), [(b"y" * 76, 40), (b".." + b"word. " * 12, 80)])
def test_reader_ten_megabytes_cost_little(line: bytes, limit_ms: int) -> None:
    """10 MB cost no more than 40 ms of CPU, and twice that where every line is stuffed."""
    wire = (line + b"\r\n") * (10_000_000 // (len(line) + 2)) + b".\r\n"

    assert limit_ms > cpu_ms(wire)
