"""Answers in memory: bounded, dropped when they are reported as changed."""

from __future__ import annotations

from datetime import UTC, datetime

from relay.keys.memory import Kept, Memory
from relay.message import Certificate

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def _kept(key: str, octets: int = 0, name: str = "") -> Kept:
    certificate = Certificate(b"x" * octets, "", (), "wkd")
    return Kept(key, name or key, None, (certificate,), NOW)


def _keys(memory: Memory, *keys: str) -> list[str]:
    return [key for key in keys if memory.get(key) is not None]


def test_memory_over_its_count_forgets_the_longest_unused() -> None:
    """What was looked at lately stays."""
    memory = Memory(max_entries=2)
    memory.put(_kept("a"))
    memory.put(_kept("b"))
    memory.get("a")
    memory.put(_kept("c"))

    assert ["a", "c"] == _keys(memory, "a", "b", "c")
    assert 2 == len(memory)


def test_memory_over_its_octets_forgets_the_longest_unused() -> None:
    """Certificates are bounded by their size, however few they are."""
    memory = Memory(max_octets=100)
    memory.put(_kept("a", 40))
    memory.put(_kept("b", 60))
    memory.put(_kept("c", 50))

    assert ["c"] == _keys(memory, "a", "b", "c")
    assert 50 == memory.octets


def test_memory_does_not_keep_what_is_larger_than_all() -> None:
    """One giant certificate does not stay."""
    memory = Memory(max_octets=100)
    memory.put(_kept("a", 101))

    assert [] == _keys(memory, "a")
    assert 0 == memory.octets


def test_put_again_counts_once() -> None:
    """An entry that is replaced gives its octets back."""
    memory = Memory()
    memory.put(_kept("a", 70))
    memory.put(_kept("a", 50))

    assert (1, 50) == (len(memory), memory.octets)


def test_drop_forgets_every_key_of_the_name_and_no_other() -> None:
    """An address can have several keys, where the source tells letter case apart."""
    memory = Memory()
    memory.put(_kept("Bob@a.example", 1, "bob@a.example"))
    memory.put(_kept("bob@a.example", 1, "bob@a.example"))
    memory.put(_kept("carol@a.example", 1))
    memory.drop(["bob@a.example", "unknown@a.example"])

    assert ["carol@a.example"] == _keys(memory, "Bob@a.example", "bob@a.example", "carol@a.example")
    assert 1 == memory.octets


def test_drop_is_counted_even_if_nothing_was_kept() -> None:
    """What was being read when the change was reported must not be kept."""
    memory = Memory()
    memory.drop(["bob@a.example"])

    assert 1 == memory.drops


def test_drop_all_forgets_everything_and_counts_as_a_drop() -> None:
    """Where it cannot be told what changed; what is being read at that moment must not be kept either."""
    memory = Memory()
    memory.put(_kept("bob@a.example", 1))
    memory.drop_all()

    assert (0, 0, 1) == (len(memory), memory.octets, memory.drops)
