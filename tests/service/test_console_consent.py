"""The question before something is changed, asked on a real terminal, from inside an event loop as commands do."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

ASKS = """
import asyncio
from console import consent
from console.__main__ import Failed
from pipeline.errors import PostlogError

async def ask():
    consent.require("Do it?", yes=False)
    print("done")

try:
    asyncio.run(ask())
except PostlogError as error:
    raise SystemExit(Failed(error).exit_code)
"""


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1), (signal.SIGINT, 130)])
def test_only_a_yes_is_one_and_the_first_ctrl_c_is_heard(answer: bytes | signal.Signals, code: int) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ASKS], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr
        said = b""
        while not said.endswith(b"[y/N]:"):
            some = os.read(process.stderr.fileno(), 1)
            assert some, said
            said += some
        if isinstance(answer, signal.Signals):
            process.send_signal(answer)
        else:
            os.write(ours, answer)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert (process.returncode, out.strip()) == (code, b"done" if code == 0 else b"")
