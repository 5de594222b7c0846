"""Drive a headless Chromium by the DevTools protocol, over a small WebSocket client.

Only the standard library; `found()` says which browser there is, if any.
"""

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60.0


def found() -> str:
    """Return the path of a browser, or ""."""
    return next(filter(None, map(shutil.which, NAMES)), "")


class Socket:
    """Speak WebSocket (RFC 6455) to a server on this machine, as a client, texts alone."""

    def __init__(self, port: int, path: str) -> None:
        self.wire = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        self.wire.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.file = self.wire.makefile("rb")
        if b" 101 " not in self.file.readline():
            raise ConnectionError("the browser speaks no WebSocket")
        while self.file.readline().strip():
            pass

    def send(self, text: str) -> None:
        """Send a text, masked as clients must."""
        data, mask = text.encode(), os.urandom(4)
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 0x81, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x81, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
        stream = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
        self.wire.sendall(head + mask + masked.to_bytes(size, "big"))

    def receive(self) -> str:
        """Return the next whole text."""
        parts = []
        while True:
            first, second = self._exactly(2)
            size = second & 127
            if size == 126:
                (size,) = struct.unpack("!H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._exactly(8))
            data = self._exactly(size)
            kind = first & 15
            if kind == 8:
                raise ConnectionError("the browser closed the connection")
            if kind < 3:
                parts.append(data)
                if first & 128:
                    return b"".join(parts).decode()

    def _exactly(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            raise ConnectionError("the browser is gone")
        return data

    def close(self) -> None:
        """Hang up."""
        self.file.close()
        self.wire.close()


class Page:
    """Drive one page.

    Args:
        wire: to the page's own address.
    """

    def __init__(self, wire: Socket) -> None:
        self.wire, self.number = wire, 0
        self.told: list[dict[str, Any]] = []

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """Call a method of the protocol; events that come meanwhile go to `told`."""
        self.number += 1
        self.wire.send(json.dumps({"id": self.number, "method": method, "params": values}))
        while True:
            reply = json.loads(self.wire.receive())
            if reply.get("id") == self.number:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                return dict(reply["result"])
            self.told.append(reply)

    def value(self, script: str) -> Any:
        """Evaluate an expression, awaited, and return its value."""
        reply = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in reply:
            raise RuntimeError(str(reply["exceptionDetails"]))
        return reply["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + SECONDS
        while not (value := self.value(script)):
            if time.monotonic() > end:
                raise TimeoutError(script)
            time.sleep(0.02)
        return value

    def give(self, selector: str, path: Path) -> None:
        """Pick a file in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def drop(self, path: Path, across: int = 100, down: int = 100) -> None:
        """Drag a file from outside onto a point of the page, and let it go."""
        data = {"items": [], "files": [str(path.resolve())], "dragOperationsMask": 1}
        for step in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=step, x=across, y=down, data=data)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def tab_to(self, name: str) -> None:
        """Press Tab until the element of this id has the focus."""
        for _ in range(20):
            self.press("Tab", 9)
            if self.value("document.activeElement.id") == name:
                return
        raise LookupError(f"the Tab key does not come to {name}")

    def choose(self, path: Path) -> None:
        """Press Enter on what has the focus, and pick a file in the chooser that opens."""
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        asked = len(self.told)
        self.press("Enter", 13, "\r")
        end = time.monotonic() + SECONDS
        while not (opened := self.events("Page.fileChooserOpened", asked)):
            if time.monotonic() > end:
                raise TimeoutError("no file chooser opened")
            self.value("0")
        self.call(
            "DOM.setFileInputFiles",
            backendNodeId=opened[0]["backendNodeId"],
            files=[str(path.resolve())],
        )

    def events(self, method: str, since: int = 0) -> list[dict[str, Any]]:
        """Return what was told by one method of the protocol."""
        return [one["params"] for one in self.told[since:] if one["method"] == method]

    def requests(self) -> list[str]:
        """Return every address that the page asked for."""
        return [one["request"]["url"] for one in self.events("Network.requestWillBeSent")]

    def problems(self) -> list[Any]:
        """Return exceptions that nobody caught, and errors of the log."""
        logged = [one["entry"] for one in self.events("Log.entryAdded")]
        errors = [one for one in logged if one["level"] == "error"]
        return [*self.events("Runtime.exceptionThrown"), *errors]

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark` colours."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def photograph(self, path: Path) -> None:
        """Save what the page looks like as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page the screen of a desktop or a phone."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """Open an address in a browser of its own, which ends with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            found(),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-quic",
            "--disable-component-update",
            "--disable-sync",
            "--disable-background-networking",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}",
            "about:blank",
        ]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with _page(Path(folder)) as page:
                for part in ("Page", "Runtime", "Log", "Network", "DOM"):
                    page.call(f"{part}.enable")
                page.call("Page.navigate", url=address)
                page.until("document.readyState === 'complete'")
                yield page
        finally:
            browser.terminate()
            with suppress(subprocess.TimeoutExpired):
                browser.wait(10)
            browser.kill()
            browser.wait()


@contextmanager
def _page(folder: Path) -> Iterator[Page]:
    """Find the browser's only page."""
    end, port = time.monotonic() + SECONDS, folder / "DevToolsActivePort"
    while not (port.exists() and port.read_text("utf-8").count("\n")):
        if time.monotonic() > end:
            raise TimeoutError("the browser did not start")
        time.sleep(0.05)
    number, path = port.read_text("utf-8").split()
    browser = Page(Socket(int(number), path))
    targets: list[Mapping[str, Any]] = browser.call("Target.getTargets")["targetInfos"]
    target = next(one["targetId"] for one in targets if one["type"] == "page")
    page = Page(Socket(int(number), f"/devtools/page/{target}"))
    try:
        yield page
    finally:
        page.wire.close()
        browser.wire.close()
