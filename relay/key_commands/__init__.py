"""`relay keys …`: everything that an administrator does with certificates, also while the relay runs.

`listing`, `importing` and `exporting` work on what is there; `asking` and `refreshing` ask the sources;
`expiry` looks ahead; `pinning` decides about changed keys; `publishing` writes a Web Key Directory with
`wkdtree`. `opening` gives all of them their sources, `collection` and `finding` what is known without
asking; `rows` shows lists.
"""

from __future__ import annotations

from relay.key_commands.asking import lookup
from relay.key_commands.expiry import expiring
from relay.key_commands.exporting import export
from relay.key_commands.importing import import_
from relay.key_commands.listing import list_, show
from relay.key_commands.pinning import approve, forget, pending, reject
from relay.key_commands.publishing import publish, wkd_hash
from relay.key_commands.refreshing import refresh

COMMANDS = (
    *(list_, show, import_, export),
    *(lookup, refresh, expiring),
    *(pending, approve, reject, forget),
    *(wkd_hash, publish),
)
"""What hangs below `relay keys`."""

__all__ = ["COMMANDS"]
