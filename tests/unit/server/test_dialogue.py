from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.message import Offers
from relay.server.settings import Tls
from tests.fakes import RecordingLine
from tests.unit.server.conftest import MakeEdge
from tests.unit.server.edge import Edge, Peer

FOLDER = Path(__file__).parents[2] / "data" / "smtp"


class Player:
    """Plays one dialogue file; see `tests/data/smtp/README.md`."""

    def __init__(self, edge: Edge, peer: Peer) -> None:
        self.edge = edge
        self.peer = peer
        self.pending: list[str] = []

    async def play(self, step: str) -> None:
        word, _, rest = step.partition(" ")
        match word:
            case "->":
                await self.peer.send(f"{rest}\r\n".encode())
            case "=>":
                await self.peer.send(
                    rest.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
                )
            case "<-":
                await self.hear(rest)
            case "tls":
                await self.peer.upgrade(self.edge.client_context)
            case "closed":
                assert await self.peer.closed()
            case "calls":
                assert [call.replace("␠", " ") for call in rest.split()] == self.edge.line.calls
            case "message":
                assert rest.encode().decode("unicode_escape").encode("latin-1") == self.edge.line.messages[-1]
            case _:
                raise ValueError(step)

    async def hear(self, expected: str) -> None:
        if not self.pending:
            self.pending = (await self.peer.reply()).split("\n")
        pattern = re.escape(expected).replace("…", ".*")
        assert re.fullmatch(pattern, heard := self.pending.pop(0)), f"{heard!r} instead of {expected!r}"


def settings_of(steps: list[str]) -> dict[str, str]:
    line = next(step for step in steps if step.startswith("!"))
    return dict(word.split("=") for word in line.split()[1:])


DIALOGUES = {
    path.name: path.read_text(encoding="utf-8").splitlines() for path in sorted(FOLDER.glob("*.txt"))
}


@pytest.mark.parametrize("name", DIALOGUES)
async def test_dialogue_file_is_played_as_written(name: str, make_edge: MakeEdge) -> None:
    """The edge answers every line of the dialogue as the file says."""
    steps = DIALOGUES[name]
    chosen = settings_of(steps)
    size = int(chosen["size"]) if "size" in chosen else None
    edge = make_edge(line=RecordingLine(Offers(size_bytes=size, smtputf8="smtputf8" in chosen)))
    port = await edge.listen(Tls(chosen["tls"]), auth=chosen["auth"] == "on")
    player = Player(edge, await edge.dial(port, tls=chosen["tls"] == "implicit"))

    for number, step in enumerate(steps, 1):
        if step and step[0] not in "#!":
            try:
                await player.play(step)
            except AssertionError as exc:
                raise AssertionError(f"{name}:{number}: {exc}") from exc
