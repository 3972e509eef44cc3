"""Decides which recipients share a copy, and names how each copy leaves.

A ciphertext shows the key IDs of everybody who can read it. So only those share one who know of each other
anyway, because they stand in To or Cc; everybody else gets a copy and a transaction of their own.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from enum import Enum

from relay.message import Address, Admission
from relay.mime.packets import EncryptedMessage


def plan(admissions: tuple[Admission, ...], named: frozenset[str]) -> tuple[tuple[Admission, ...], ...]:
    """The recipients of each copy, in the order in which they were accepted.

    Args:
        admissions: the recipients to encrypt for.
        named: `Address.key` of everybody in To and Cc, as `recipients_named` reads them.
    """
    groups: dict[Hashable, list[Admission]] = {}
    for admission in admissions:
        key = admission.recipient.key
        # Two spellings of one mailbox are one person, who learns nothing from a shared copy.
        who = "named" if key in named else ("alone", key)
        groups.setdefault((who, *_shape(admission)), []).append(admission)
    return tuple(tuple(group) for group in groups.values())


def _shape(admission: Admission) -> tuple[Hashable, ...]:
    """What makes a copy look different, or readable for others: who differs in it cannot share one."""
    rule, also = admission.rule, admission.also
    readers = frozenset(verdict.certificate.fingerprint for verdict in also)
    return rule.headers, rule.format, rule.signing, readers


class Treatment(Enum):
    """How a copy leaves."""

    SEAL = "encrypted by the relay"
    KEEP = "encrypted by the client"
    RELEASE = "in clear"
    EXEMPT = "in clear, as the machines that read it need it"


@dataclass(frozen=True, slots=True)
class Share:
    """The recipients of one copy."""

    treatment: Treatment
    admissions: tuple[Admission, ...]
    encrypted: EncryptedMessage | None = None

    @property
    def recipients(self) -> tuple[Address, ...]:
        """Who gets it."""
        return tuple(admission.recipient for admission in self.admissions)


def owed(shares: list[Share], delivered: frozenset[str]) -> list[Share]:
    """Without recipients who have the message already, and without empty shares."""
    left = []
    for share in shares:
        rest = tuple(entry for entry in share.admissions if entry.recipient.key not in delivered)
        if rest:
            left.append(replace(share, admissions=rest))
    return left
