"""A small client of Chromium's DevTools protocol, over a pair of pipes: pages, their errors, their requests, keys.

Commands and events: https://chromedevtools.github.io/devtools-protocol/ (the domains Page, Runtime, Log, Network, Input
and Emulation). Needs a `chromium` in the PATH and nothing else.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 120  # seconds; a busy machine may stop the browser for a while
PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Puts the two ends of the pipes where Chromium looks for them, then becomes Chromium.
START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
KEYS = {"Tab": 9, "Enter": 13}


class Browser:
    """A headless Chromium; a context manager. No name resolves in it, so nothing can leave the machine."""

    def __init__(self):
        self._profile = tempfile.mkdtemp(prefix="convgrad-chromium-")
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        flags = [
            *FLAGS,
            f"--user-data-dir={self._profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        ]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(to_read), str(to_write), PROGRAM, *flags],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._rest, self._number, self._pages = b"", 0, {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._process.poll() is None:
            self._send("Browser.close", {})
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _send(self, method, parameters, session=None):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        return self._number

    def _receive(self, deadline):
        """The next message; events go to their page on the way."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium did not answer within {PATIENCE} s")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise RuntimeError("Chromium has ended")
            self._rest += data
        first, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(first)
        page = self._pages.get(message.get("sessionId"))
        if page is not None and "method" in message:
            page.take(message["method"], message["params"])
        return message

    def call(self, method, session=None, **parameters):
        """Run a command and return its result; RuntimeError with Chromium's words where it refuses."""
        number, deadline = self._send(method, parameters, session), time.monotonic() + PATIENCE
        while True:
            message = self._receive(deadline)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]

    def wait(self, condition):
        """Take in events until `condition()` is true."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self._receive(deadline)

    def page(self, width=1280, height=900, dark=False):
        """A new page of that width in CSS pixels; below 600 it passes for a phone."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        self._pages[session] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        return page


class Page:
    """One page: `errors` are its console errors, exceptions and failed loads, `requests` the addresses it asked for."""

    def __init__(self, browser, target, session):
        self._browser, self._target, self._session = browser, target, session
        self.errors, self.requests, self._loaded = [], [], False

    def call(self, method, **parameters):
        """Run a command of this page."""
        return self._browser.call(method, self._session, **parameters)

    def take(self, method, event):
        """Note an event."""
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
            self.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    def open(self, url):
        """Load an address and wait for everything it names."""
        self._loaded = False
        if "errorText" in self.call("Page.navigate", url=url):
            raise RuntimeError(f"cannot open {url}")
        self._browser.wait(lambda: self._loaded)
        return self

    def run(self, expression):
        """The value of a JavaScript expression, awaited where it is a promise."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"].get("exception", {}).get("description", expression))
        return done["result"].get("value")

    def until(self, expression):
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self._is_true(expression):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {expression}")
            time.sleep(0.05)

    def _is_true(self, expression):
        """Whether it is; not while the page makes way for another one."""
        try:
            return self.run(expression)
        except RuntimeError as error:
            if "navigated" in str(error):
                return False
            raise

    def press(self, key, times=1):
        """Press a key of KEYS, or type a character."""
        for _ in range(times):
            code = KEYS.get(key, ord(key[0].upper()))
            words = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            keys = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=words, **keys)
            self.call("Input.dispatchKeyEvent", type="keyUp", **keys)

    def screenshot(self, path, full=True):
        """Write a PNG of the page, all of it or what is in view."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=full)["data"]
        Path(path).write_bytes(base64.b64decode(picture))

    def close(self):
        """Close it."""
        self._browser.call("Target.closeTarget", targetId=self._target)
