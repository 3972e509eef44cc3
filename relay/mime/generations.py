"""Keeps version 2 of encrypted data for those who need it: a message is of one version (RFC 9580 §10.3.2.1).

A copy that somebody with an old key shares is version 1 for all. That takes nothing from most; but owners of
version 6 or post-quantum keys chose them for what version 1 lacks. So they get a copy apart, together with
everybody else who can read it. Where nobody needs it, nobody pays for a second copy.
"""

from __future__ import annotations

from relay.message import Admission, Verdict


def split(group: tuple[Admission, ...]) -> tuple[tuple[Admission, ...], ...]:
    """The recipients of one copy as those of one or two, each in the order given.

    Whoever else reads the copy of a recipient (`Admission.also`) counts as well.
    """
    if not any(verdict.needs_v2 for admission in group for verdict in _keys(admission)):
        return (group,)
    newer = tuple(admission for admission in group if _allows_v2(admission))
    older = tuple(admission for admission in group if not _allows_v2(admission))
    return tuple(part for part in (newer, older) if part)


def _keys(admission: Admission) -> tuple[Verdict, ...]:
    return admission.chosen + admission.also


def _allows_v2(admission: Admission) -> bool:
    return all(verdict.allows_v2 for verdict in _keys(admission))
