"""Tests of `relay/server/users.py`."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import argon2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import LoginRefused, LoginUnavailable
from relay.message import Login
from relay.server.users import Users, load, with_password

_CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
HASH = _CHEAP.hash("secret")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.passwd"


def _write(file: Path, text: str) -> None:
    file.write_text(text)


async def _users(file: Path, text: str) -> Users:
    _write(file, text)
    return await asyncio.to_thread(load, file)


async def test_verify_of_the_right_password_is_the_login(file: Path) -> None:
    """Comments and blank lines are skipped; patterns become the login's senders."""
    users = await _users(file, f"# staff\n\nshop:{HASH}:a@b.example, *@shop.example\r\nany:{HASH}:*\n")

    assert Login("shop", ("a@b.example", "*@shop.example")) == await users.verify("shop", "secret")
    assert Login("any", None) == await users.verify("any", "secret")
    assert 2 == len(users)


async def test_verify_of_an_address_without_patterns_sends_as_itself(file: Path) -> None:
    """Nothing said about senders never means anything; the address is found in any letter case."""
    users = await _users(file, f"Alice@Example.com:{HASH}\n")

    expected = Login("Alice@Example.com", ("Alice@Example.com",))
    assert expected == await users.verify("alice@example.COM", "secret")


@pytest.mark.parametrize("name", ["ALICE", "bob", "", "alice ", "# c", f"alice:{HASH}"])
async def test_verify_of_an_unknown_name_is_refused(file: Path, name: str) -> None:
    """Names that are no address are compared exactly, and the answer is that for a wrong password."""
    users = await _users(file, f"# c\nalice:{HASH}:*\n")

    with pytest.raises(LoginRefused) as unknown:
        await users.verify(name, "secret")
    with pytest.raises(LoginRefused) as wrong:
        await users.verify("alice", "wrong")

    assert wrong.value.reply() == unknown.value.reply()


@pytest.mark.parametrize("password", ["", "Secret", "secret ", "secret\0", "\udcff"])
async def test_verify_of_a_wrong_password_is_refused(file: Path, password: str) -> None:
    """Nothing but the password itself is right, and odd ones raise nothing else."""
    users = await _users(file, f"alice:{HASH}:*\n")

    with pytest.raises(LoginRefused):
        await users.verify("alice", password)


async def test_verify_of_an_accented_password_takes_both_spellings(file: Path) -> None:
    """One system composes an accented letter, another does not."""
    users = await _users(file, f"alice:{_CHEAP.hash('é')}:*\n")

    assert "alice" == (await users.verify("alice", "e\u0301")).name


async def test_verify_never_blocks_the_event_loop(file: Path) -> None:
    """File and hash are worked on in threads, also when the file has changed (`_no_blocking` watches)."""
    users = await _users(file, f"alice:{HASH}:*\n")
    _write(file, f"bob:{HASH}:*\n")

    assert "bob" == (await users.verify("bob", "secret")).name


async def test_verify_of_an_unknown_user_costs_as_much(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name is compared with a hash of the same cost, so that time tells nothing."""
    compared: list[str] = []
    verify = argon2.PasswordHasher.verify

    def spy(self: argon2.PasswordHasher, hash: str, password: bytes) -> bool:
        compared.append(hash.rpartition("$")[0].rpartition("$")[0])
        return verify(self, hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", spy)
    users = await _users(file, f"alice:{HASH}:*\n")
    empty = await _users(file.with_name("empty"), "")

    for which in (users, empty):
        with pytest.raises(LoginRefused):
            await which.verify("nobody", "secret")

    assert [HASH.rpartition("$")[0].rpartition("$")[0], "$argon2id$v=19$m=65536,t=3,p=4"] == compared


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("alice", "not name:hash"),
        (f":{HASH}:*", "not name:hash"),
        (f" alice:{HASH}:*", "not name:hash"),
        (f"alice:{HASH}", "its senders"),
        (f"alice:{HASH}:", "no domain"),
        (f"alice:{HASH}:bob", "no domain"),
        (f"alice:{HASH}:*@", "domain"),
        (f"alice:{HASH}:*@*.example.com", "domain"),
        (f"alice@:{HASH}", "no domain"),
        ("alice:secret:*", "argon2id"),
        ("alice:" + HASH.replace("argon2id", "argon2i") + ":*", "argon2id"),
        ("alice:" + HASH.replace("m=64", "m=4194304") + ":*", "costs too much"),
        ("alice:$2b$12$abcdefghijklmnopqrstuv:*", "argon2id"),
    ],
)
async def test_load_with_a_bad_line_names_it(file: Path, line: str, reason: str) -> None:
    """Each bad line is told with its number, together with all others, and never quoted."""
    with pytest.raises(ValueError, match=rf"line 1: .*{reason}.*\nline 3: a second line for bob") as told:
        await _users(file, f"{line}\nbob:{HASH}:*\nbob:{HASH}:*\n")

    assert "secret" not in str(told.value)
    assert "$" not in str(told.value)


def test_load_of_a_line_that_is_not_utf8_names_it(file: Path) -> None:
    """Other encodings are refused instead of guessed."""
    file.write_bytes(b"ok@x.example:" + HASH.encode() + b"\n\xe4:x\n")

    with pytest.raises(ValueError, match="line 2: it is not UTF-8"):
        load(file)


def test_load_of_a_missing_file_is_an_oserror(file: Path) -> None:
    """A file that is not there is told as such, not as an empty one."""
    with pytest.raises(FileNotFoundError):
        load(file)


async def test_changed_file_counts_without_restart(file: Path) -> None:
    """A login that was taken away, or whose password changed, is refused at once."""
    users = await _users(file, f"alice:{HASH}:*\nbob:{HASH}:*\n")
    _write(file, f"alice:{_CHEAP.hash('other')}:*\n")

    assert "alice" == (await users.verify("alice", "other")).name
    for name in ("alice", "bob"):
        with pytest.raises(LoginRefused):
            await users.verify(name, "secret")


@pytest.mark.parametrize("breakage", ["missing", "bad line"])
async def test_broken_file_makes_logins_unavailable(file: Path, breakage: str) -> None:
    """While the file cannot be read nobody is let in and nobody is told that the password is wrong."""
    users = await _users(file, f"alice:{HASH}:*\n")
    if breakage == "missing":
        file.rename(file.with_name("gone"))
    else:
        _write(file, f"alice:{HASH}:*\nbroken\n")

    with pytest.raises(LoginUnavailable):
        await users.verify("alice", "secret")

    _write(file, f"alice:{HASH}:*\n")
    assert "alice" == (await users.verify("alice", "secret")).name


async def test_hashing_runs_in_two_threads_and_the_queue_is_bounded(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of logins takes the memory of two hashes; what does not fit in the queue is told to retry."""
    running, most, lock = 0, 0, threading.Lock()
    gate, both = threading.Event(), threading.Event()

    def slow(self: argon2.PasswordHasher, hash: str, password: bytes) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                both.set()
        gate.wait(10)
        with lock:
            running -= 1
        return True

    monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
    users = await _users(file, f"alice:{HASH}:*\n")
    waiting = [asyncio.create_task(users.verify("alice", "secret")) for _ in range(64)]
    await asyncio.sleep(0)

    with pytest.raises(LoginUnavailable):
        await users.verify("alice", "secret")
    await asyncio.to_thread(both.wait, 10)
    gate.set()
    logins = await asyncio.gather(*waiting)

    assert 64 == len(logins)
    assert 2 == most
    users.close()


async def test_with_password_keeps_every_other_line(file: Path) -> None:
    """Setting a password changes one line: comments, order and the login's senders stay."""
    before = f"# staff\nshop:{HASH}:*@shop.example\n\nbob:{HASH}:*".encode()

    changed = with_password(before, "shop", "new", ())
    added = with_password(changed, "carol@example.com", "hers", ("*@example.com",))
    users = await _users(file, added.decode())

    lines = added.decode().splitlines()
    assert ["# staff", "", f"bob:{HASH}:*"] == [lines[0], lines[2], lines[3]]
    assert Login("shop", ("*@shop.example",)) == await users.verify("shop", "new")
    assert Login("carol@example.com", ("*@example.com",)) == await users.verify("carol@example.com", "hers")


@pytest.mark.parametrize(
    "name", ["a:b@example.com", "#a@example.com", "a\nb@example.com", "", " a@example.com"]
)
def test_with_password_of_an_odd_name_is_refused(name: str) -> None:
    """No login name makes a second line, a comment, or a field."""
    with pytest.raises(ValueError, match=r"login|line"):
        with_password(b"", name, "secret", ("*",))


def test_with_password_without_senders_is_refused_unless_it_is_an_address() -> None:
    """The command cannot make a line that the server would refuse."""
    with pytest.raises(ValueError, match="its senders"):
        with_password(b"", "alice", "secret", ())

    assert with_password(b"", "alice@example.com", "secret", ()).startswith(b"alice@example.com:$argon2id$")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_load_of_any_content_is_users_or_valueerror(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """No content of the file raises anything else."""
    path = tmp_path_factory.getbasetemp() / "any.passwd"
    path.write_bytes(data)
    try:
        users = load(path)
    except ValueError:
        return

    assert 0 == len(users)
