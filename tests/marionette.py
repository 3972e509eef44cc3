"""Speaks to Mozilla programs through Marionette, their own remote control: JSON with its length, over TCP.

Every script runs in the program's own context, where it sees windows, folders and messages.
"""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

from tests.network import HOST, wait_for_port

_TIMEOUT_SECONDS = 60

_ASYNC = """\
const answer = arguments[arguments.length - 1];
(async (...args) => {{ {script} }})(...arguments).then(
    value => answer({{value}}), error => answer({{error: `${{error}} ${{error.stack}}`}}));
"""


class Marionette:
    """A session with the program that listens on a port of loopback; at exit the connection ends."""

    def __init__(self, port: int) -> None:
        wait_for_port(port)
        self._socket = socket.create_connection((HOST, port), timeout=_TIMEOUT_SECONDS)
        self._replies = self._socket.makefile("rb")
        self._count = 0

    def __enter__(self) -> Marionette:
        self._read()  # the greeting
        self._call("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {}}})
        self._call("WebDriver:SetTimeouts", {"script": _TIMEOUT_SECONDS * 1000})
        self._call("Marionette:SetContext", {"value": "chrome"})
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self._socket.close()

    def execute(self, script: str, *arguments: object) -> Any:
        """What the body of an async JavaScript function returns; it finds the arguments in `args`."""
        body = {"script": _ASYNC.format(script=script), "args": arguments}
        answer = self._call("WebDriver:ExecuteAsyncScript", body)["value"]
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def screenshot(self) -> bytes:
        """The window in front, as PNG."""
        return base64.b64decode(self._call("WebDriver:TakeScreenshot", {"full": False})["value"])

    def _call(self, command: str, parameters: dict[str, Any]) -> Any:
        self._count += 1
        request = json.dumps([0, self._count, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(request), request))
        _, number, error, result = self._read()
        assert (self._count, None) == (number, error), error
        return result

    def _read(self) -> Any:
        length = b""
        while (octet := self._replies.read(1)) != b":":
            assert octet, "the program has closed the connection"
            length += octet
        return json.loads(self._replies.read(int(length)))
