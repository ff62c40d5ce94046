"""A service that only answers health checks: `python fake_service.py PORT EVENTS [WHAT...]`.

EVENTS  a file to which it appends `started NAME` and `stopped NAME`
WHAT    die=SECONDS and code=N: exit with N after being ready that long · refuse: exit at once with 2
        stubborn: ignore SIGTERM · slow=SECONDS: take that long to stop · sick: say after a moment that it is not live
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

PORT, EVENTS, *WHAT = sys.argv[1:]
OPTIONS = dict(option.partition("=")[::2] for option in WHAT)
STARTED = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    """200 on everything; a sick one answers 503 on /health/live after half a second."""

    def do_GET(self) -> None:
        sick = "sick" in OPTIONS and self.path == "/health/live" and time.monotonic() - STARTED > 0.5
        self.send_response(503 if sick else 200)
        self.end_headers()
        self.wfile.write(b'{"ok": true}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def say(word: str) -> None:
    """Append to the file of events."""
    with Path(EVENTS).open("a") as file:
        file.write(f"{word} {OPTIONS.get('name', PORT)}\n")


def stop(*_: object) -> None:
    """What SIGTERM does."""
    if "stubborn" not in OPTIONS:
        time.sleep(float(OPTIONS.get("slow", "0")))
        say("stopped")
        sys.exit(0)


def main() -> None:
    """Serve until told to stop."""
    say("started")
    if "refuse" in OPTIONS:
        sys.stderr.write("[error] refused to start: FAKE_SETTING is not set\n")
        sys.exit(2)
    signal.signal(signal.SIGTERM, stop)
    server = HTTPServer(("127.0.0.1", int(PORT)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if "die" in OPTIONS:
        time.sleep(float(OPTIONS["die"]))
        sys.stderr.write("something broke\n\n")
        sys.exit(int(OPTIONS.get("code", "1")))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
