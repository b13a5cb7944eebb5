"""Chromium without a window, driven over its DevTools pipe: standard library only."""

import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# As root there is no sandbox; the rest keeps the browser from talking to its maker.
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
)

# DevTools listens on descriptor 3 and answers on 4: ours are put there, by way of numbers that are neither.
_ON_3_AND_4 = """
import fcntl, os, sys
ours = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for wanted, number in zip((3, 4), ours):
    os.dup2(number, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One tab. `requests` holds every address that it asked for, `console` what it logged or threw."""

    def __init__(self, to_browser: int, from_browser: int):
        self._to, self._from = to_browser, from_browser
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        self.requests: list[str] = []
        self.console: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, *, seconds: float = 60, **params: Any) -> dict[str, Any]:
        """A DevTools command's result; events that come before it are noted."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium did not answer; its console: {self.console}")
            received = os.read(self._from, 2**20)
            if not received:
                raise RuntimeError("Chromium has ended")
            self._buffer += received
        content, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(content)
        event, params = message.get("method"), message.get("params", {})
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(each.get("value", "")) for each in params["args"]))
        elif event == "Log.entryAdded":
            self.console.append(params["entry"]["text"])
        return message

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression, which may be awaited."""
        answer = self.send(
            "Runtime.evaluate",
            expression=f"(async () => ({script}))()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def wait_for(self, condition: str, *, seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            # While a page loads, what is asked of it goes away with the one before.
            with contextlib.suppress(RuntimeError):
                if value := self.run(condition):
                    return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"{condition} did not come true; console: {self.console}")
            time.sleep(0.05)

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def press(self, key: str, code: int, text: str = "") -> None:
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)


@contextlib.contextmanager
def opened(flags: Sequence[str] = ()) -> Iterator[Page]:
    """A page of a new Chromium with an empty profile; it ends with the block."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser_reads, to_browser = os.pipe()
        from_browser, browser_writes = os.pipe()
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _ON_3_AND_4, str(browser_reads), str(browser_writes)),
                *(CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", *flags),
            ],
            pass_fds=(browser_reads, browser_writes),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(browser_reads)
        os.close(browser_writes)
        try:
            yield Page(to_browser, from_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            # Its helpers are of its own process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@contextlib.contextmanager
def hearing(recording: Path) -> Iterator[Page]:
    """An empty browser with a microphone that hears the recording over and over; skips where none is."""
    import pytest  # the rest of this module needs the standard library alone

    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, or Google Chrome")
    flags = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}",
    )
    with opened(flags) as page:
        yield page


def status(begins: str) -> str:
    """Whether the demo's page says something that begins so, as JavaScript."""
    return f"document.getElementById('status').textContent.startsWith({begins!r})"


# The least contrast of visible words to what is behind them, with the words.
LEAST_CONTRAST = """(() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = ([red, green, blue]) => [red, green, blue]
        .map((value) => value / 255)
        .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, k) => sum + value * [0.2126, 0.7152, 0.0722][k], 0);
    const behind = (each) => {
        for (let at = each; at; at = at.parentElement) {
            const colour = channels(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return luminance(colour);
        }
    };
    return [...document.querySelectorAll("body *")]
        .filter((each) => each.checkVisibility() && !each.closest("audio") &&
            [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
        .map((each) => {
            const style = getComputedStyle(each);
            const ink = luminance(channels(each.closest("svg") ? style.fill : style.color));
            const [low, high] = [ink, behind(each)].sort((a, b) => a - b);
            return [(high + 0.05) / (low + 0.05), each.textContent];
        })
        .sort((a, b) => a[0] - b[0])[0];
})()"""

# Words that are wider than what holds them.
OUTSIDE = """[...document.querySelectorAll("button, label, legend, h1, h2, h3, p, li span, dt, dd, summary")]
    .filter((each) => each.checkVisibility() && each.scrollWidth > each.clientWidth + 1 &&
        getComputedStyle(each).display !== "inline")
    .map((each) => each.outerHTML.slice(0, 80))"""
