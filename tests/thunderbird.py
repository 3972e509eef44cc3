"""A real Thunderbird in a virtual X display, with one folder of mail and no account, network or user.

with thunderbird.running(folder, messages, secret=…, signers=…) as client:
    shown = client.open("id@example.com", expected)
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import mailbox
from tests.mailbox import Shown
from tests.marionette import Marionette
from tests.network import HOST, free_ports
from tests.programs import require

_DISPLAY = ("-screen", "0", "1280x900x24", "-nolisten", "tcp")
_START_SECONDS = 30
_STOP_SECONDS = 20

_PREFERENCES: dict[str, object] = {
    # Local Folders are the only account, with mail in maildirs.
    "mail.accountmanager.accounts": "account1",
    "mail.accountmanager.localfoldersserver": "server1",
    "mail.account.account1.server": "server1",
    "mail.server.server1.type": "none",
    "mail.server.server1.name": "Local Folders",
    "mail.server.server1.hostname": "Local Folders",
    "mail.server.server1.userName": "nobody",
    "mail.server.server1.directory-rel": "[ProfD]Mail/Local Folders",
    "mail.server.server1.storeContractID": "@mozilla.org/msgstore/maildirstore;1",
    # Nothing stands before the mail at the first start.
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.shell.checkDefaultClient": False,
    "mail.rights.version": 1,
    "mail.spotlight.firstRunDone": True,
    "mail.inappnotifications.enabled": False,
    "mailnews.start_page.enabled": False,
    "mailnews.start_page_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "app.donation.eoy.version.viewed": 999,
    # It would ask the network for news, updates and more: no name is resolved, nobody listens on that port.
    "network.dns.disabled": True,
    "network.proxy.type": 1,
    "network.proxy.socks": HOST,
    "network.proxy.socks_port": 9,
    "network.proxy.socks_remote_dns": True,
    "app.update.enabled": False,
    "toolkit.telemetry.enabled": False,
    "services.settings.server": "data:,#remote-settings.dummy/v1",
}

_IMPORT = """
    const { EnigmailCore } = ChromeUtils.importESModule("chrome://openpgp/content/modules/core.sys.mjs");
    const { RNP } = ChromeUtils.importESModule("chrome://openpgp/content/modules/RNP.sys.mjs");
    const [secret, signers] = args;
    await EnigmailCore.init?.();
    const results = [await RNP.importSecKeyBlockImpl(null, null, false, secret)];
    for (const key of signers) {
        results.push(await RNP.importPubkeyBlockAutoAcceptImpl(null, key, "verified"));
    }
    return results.map(result => result.importedKeys.length);
"""

_FOLDER = """
    const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
    const folder = MailServices.accounts.localFoldersServer.rootFolder.getChildNamed("Inbox");
    const tabs = Services.wm.getMostRecentWindow("mail:3pane")?.document.getElementById("tabmail");
    const list = tabs?.currentAbout3Pane;
"""

_LIST = f"""{_FOLDER}
    if (!folder || !list?.displayFolder) return 0;
    if (list.gFolder?.URI !== folder.URI) await list.displayFolder(folder.URI);
    return list.gDBView?.rowCount ?? 0;
"""

_SELECT = f"{_FOLDER} list.selectMessage(folder.msgDatabase.getMsgHdrForMessageID(args[0]));"

_LOOK = f"""{_FOLDER}
    const header = folder.msgDatabase.getMsgHdrForMessageID(args[0]);
    const shown = tabs.currentAboutMessage?.document;
    const text = selector => [...shown?.querySelectorAll(selector) ?? []].map(found => found.textContent);
    const icon = shown?.getElementById("signedHdrIcon");
    return {{
        subject: text("#expandedsubjectBox .header-value, #expandedsubjectBox").pop() ?? "",
        listed: list.gDBView.cellTextForColumn(list.gDBView.findIndexOfMsgHdr(header, false), "subjectCol"),
        text: shown?.getElementById("messagepane")?.contentDocument?.body?.innerText ?? "",
        attachments: text("#attachmentView:not([collapsed]) .attachmentcell-name").map(
            (name, at) => name + text("#attachmentView .attachmentcell-extension")[at]),
        signature: icon && !icon.hidden ? icon.src : "",
        notices: [...shown?.querySelectorAll("notification-message") ?? []].map(
            notice => notice.getAttribute("value")),
    }};
"""


@dataclass(frozen=True, slots=True)
class Thunderbird:
    """A running Thunderbird that shows its folder."""

    session: Marionette

    def open(self, message_id: str, expected: Shown) -> Shown:
        """Selects a message as a click does, and reads the window; see `mailbox.MailClient`.

        The signature is `verified`, `mismatch` … as its icon is called, or `nested` where Thunderbird says
        only that some parts of the message may be signed.
        """
        self.session.execute(_SELECT, message_id)
        shown = mailbox.wait_for(expected, lambda: _read(self.session.execute(_LOOK, message_id)))
        mailbox.picture("thunderbird", message_id, ".png").write_bytes(self.session.screenshot())
        return shown


def _read(window: dict[str, Any]) -> Shown:
    icon, notices = str(window["signature"]), window["notices"]
    signature = icon.rpartition("message-signed-")[2].removesuffix(".svg")
    return Shown(
        subject=str(window["subject"]).removeprefix("Subject:").strip(),
        listed=str(window["listed"]),
        text="\n".join(line for line in str(window["text"]).splitlines() if line.strip()),
        attachments=tuple(window["attachments"]),
        signature=signature or ("nested" if "hasNestedSignedParts" in notices else ""),
    )


@contextmanager
def running(
    home: Path, messages: Sequence[bytes], *, secret: str, signers: Sequence[str] = ()
) -> Iterator[Thunderbird]:
    """Starts Thunderbird with a profile in `home`, and ends it at exit.

    Args:
        messages: what its folder holds.
        secret: the reader's own secret key, in armour.
        signers: certificates, in armour, that the reader has verified.
    """
    program = require("thunderbird")
    [port] = free_ports(1)
    mailbox.write(home / "Mail" / "Local Folders" / "Inbox", messages)
    preferences = _PREFERENCES | {"marionette.port": port}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
    (home / "user.js").write_text("".join(lines))
    command = [program, "--profile", str(home), "--no-remote", "--marionette", "--remote-allow-system-access"]
    with _display() as display, _program(command, home, display), Marionette(port) as session:
        assert [1] * (1 + len(signers)) == session.execute(_IMPORT, secret, list(signers))
        _wait_for_list(session, len(messages))
        yield Thunderbird(session)


def _wait_for_list(session: Marionette, count: int) -> None:
    """Opens the folder, of which Thunderbird reads the files first, and waits for all its messages."""
    deadline = time.monotonic() + _START_SECONDS
    while (listed := session.execute(_LIST)) != count:
        assert time.monotonic() < deadline, f"Thunderbird lists {listed} of {count} messages"
        time.sleep(0.05)


@contextmanager
def _display() -> Iterator[str]:
    """A virtual X display with a number of its own choice."""
    answer, number = os.pipe()
    command = [require("Xvfb"), "-displayfd", str(number), *_DISPLAY]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=[number]) as process:
        os.close(number)
        try:
            with os.fdopen(answer) as lines:
                display = lines.readline().strip()
            assert display, "Xvfb has ended"
            yield f":{display}"
        finally:
            _stop(process)


@contextmanager
def _program(command: Sequence[str], home: Path, display: str) -> Iterator[None]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "DISPLAY": display, "LC_ALL": "C.UTF-8"}
    with (
        (home / "thunderbird.log").open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        ) as process,
    ):
        try:
            yield
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
