"""A Web Key Directory as files (draft-koch-openpgp-webkey-service-22 §3.1, advanced method).

Below the root of `openpgpkey.DOMAIN` stand `.well-known/openpgpkey/DOMAIN/hu/HASH`, one file for each
address, and `.well-known/openpgpkey/DOMAIN/policy`, which every directory must have (§4.5). A reader, or a
crash, sees each file old or new.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relay.address import parse_mailbox
from relay.files import replace_file
from relay.keys.trimming import only_user_id
from relay.keys.wkd import advanced_path
from relay.message import Certificate, Verdict
from relay.mime.packets import Malformed, certificates

if TYPE_CHECKING:
    from datetime import datetime

    from relay.seams import KeyJudge

_HASH = re.compile(r"[13-9a-km-uw-z]{32}")
"""32 characters of Z-Base-32 (RFC 6189 §5.1.6), which has no 0, 2, l and v: the names of our files."""


@dataclass(frozen=True, slots=True)
class Page:
    """What is to stand in the file of one address."""

    data: bytes
    """Certificates one after the other; empty: there is to be no file."""
    left_out: tuple[Verdict, ...]
    """Certificates of the address that are not published."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What `write` did."""

    written: int
    removed: int


def path_of(root: Path, address_key: str) -> Path:
    """The file of an address."""
    return root / advanced_path(parse_mailbox(address_key)).removeprefix("/")


def page(address_key: str, copies: list[Certificate], before: bytes, judge: KeyJudge, now: datetime) -> Page:
    """The certificates of an address as they are published: nobody else's User IDs, usable ones first.

    One that is not usable is published if it was before: whoever has fetched it must learn that it was
    revoked (§3.1 lets directories do so). It counts as usable only if what is left without the other User IDs
    is so too. All copies of a certificate are published: one may have a revocation that another lacks.

    Args:
        before: what stands in the file now; empty if there is none.
    """
    cut = [
        replace(copy, data=trimmed)
        for copy in copies
        if (trimmed := only_user_id(copy.data, address_key)) is not None
    ]
    address = parse_mailbox(address_key)
    whole = {verdict.certificate.fingerprint: verdict for verdict in judge.judge(copies, address, now)}
    verdicts = [
        verdict if not verdict.usable else whole[verdict.certificate.fingerprint]
        for verdict in judge.judge(cut, address, now)
    ]
    known = _fingerprints(before)
    chosen = [verdict for verdict in verdicts if verdict.usable or verdict.certificate.fingerprint in known]
    chosen.sort(key=lambda verdict: not verdict.usable)
    names = [verdict.certificate.fingerprint for verdict in chosen]
    data = {copy.data: None for name in names for copy in cut if copy.fingerprint == name}
    return Page(b"".join(data), tuple(verdict for verdict in verdicts if verdict not in chosen))


def _fingerprints(data: bytes) -> set[str]:
    try:
        return {known.fingerprint for known in certificates(data, "")} - {""} if data else set()
    except Malformed:  # not ours, or damaged: it is replaced
        return set()


def write(root: Path, domain: str, pages: Mapping[str, Page]) -> Changes:
    """Makes the directory of a domain what the pages say, and removes the files of other addresses.

    Args:
        pages: by `Address.key`, all of this domain.

    Raises:
        OSError: something cannot be written; what was written before it is complete.
    """
    base = root / ".well-known" / "openpgpkey" / domain
    _make_folder(base / "hu")
    if not (base / "policy").exists():
        replace_file(base / "policy", b"", mode=0o644)
    wanted = {path_of(root, key): page.data for key, page in pages.items() if page.data}
    written = [path for path, data in wanted.items() if _write(path, data)]
    return Changes(len(written), _remove_others(base / "hu", set(wanted)))


def read(path: Path) -> bytes:
    """What a file holds; nothing if there is none. Raises OSError."""
    return path.read_bytes() if path.is_file() else b""


def _write(path: Path, data: bytes) -> bool:
    """Whether anything had to be written."""
    if path.is_symlink():  # what it leads to is none of ours
        path.unlink()
    if read(path) == data:
        return False
    replace_file(path, data, mode=0o644)
    return True


def _remove_others(folder: Path, wanted: set[Path]) -> int:
    stale = [
        path
        for path in folder.iterdir()
        if _HASH.fullmatch(path.name) and path not in wanted and path.is_file()
    ]
    for path in stale:
        path.unlink()
    return len(stale)


def _make_folder(path: Path) -> None:
    """Readable for the web server whatever the umask; folders that are there stay as they are."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir()
    path.chmod(0o755)
