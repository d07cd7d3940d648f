"""Drives Chromium by the DevTools protocol over pipes, without further packages."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
Scheme = Literal["light", "dark"]


class Browser:
    """A page in a running browser.

    Attributes:
        problems: messages of the console and the log, such as violations of the content policy.
        requests: the addresses that have been requested.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = os.fdopen(answers, "rb")
        self._count = 0
        self._session: str | None = None
        self._is_loaded = False
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Calls a method of the protocol and returns its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._count:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def show(self, path: Path, width: int, scheme: Scheme = "light", media: str = "") -> None:
        """Loads a page, in a window of a width, with a color scheme and a medium."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        preference = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", media=media, features=[preference])
        self._is_loaded = False
        self.call("Page.navigate", url=path.as_uri())
        while not self._is_loaded:
            self._read()

    def value(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression. The policy of the page does not apply."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press_tab(self) -> None:
        """Presses the Tab key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Tab",
                code="Tab",
                windowsVirtualKeyCode=9,
            )

    def picture(self, *, whole: bool = False) -> bytes:
        """Returns a PNG image of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])

    def close(self) -> None:
        """Closes the pipes, which ends the browser."""
        os.close(self._commands)
        self._answers.close()

    def _read(self) -> dict[str, Any]:
        """Returns the next message, and keeps what it says about the page."""
        text = bytearray()
        while (character := self._answers.read(1)) != b"\0":
            assert character, "the browser has ended"
            text += character
        message: dict[str, Any] = json.loads(text)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._is_loaded = True
            case "Log.entryAdded":
                self.problems.append(parameters["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.problems.append(json.dumps(parameters))
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
        return message


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Starts Chromium, which reads commands from descriptor 3 and answers on descriptor 4."""
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    # A shell moves the pipes to these descriptors, which subprocess cannot do.
    script = f'exec "$0" "$@" 3<&{read_commands} 4>&{write_answers}'
    command = [
        "bash",
        "-c",
        script,
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
    ]
    command += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        command,
        pass_fds=(read_commands, write_answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    browser = Browser(commands, answers)
    try:
        yield browser
    finally:
        browser.close()
        process.terminate()
        process.wait(30)


if __name__ == "__main__":  # PAGE FOLDER: pictures of a page, to look at
    page, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    with open_browser(folder / "profile") as shown:
        for width in (375, 1280):
            for scheme in ("light", "dark"):
                shown.show(page, width, scheme)
                (folder / f"{width}-{scheme}.png").write_bytes(shown.picture(whole=True))
