"""A peer that serves HTTP: started, waited for, stopped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from console import processes
from tests.e2e.system import until


@asynccontextmanager
async def listening(argv: Sequence[str], folder: Path, **env: str) -> AsyncIterator[tuple[str, int]]:
    """Its URL and process id; PORT, and `{port}` in its command line, are where it has to listen."""
    port, log = processes.free_port(), folder / "peer.log"
    whole = {"PATH": os.environ["PATH"], "TMPDIR": str(folder), "PORT": str(port), **env}
    process = processes.start([word.replace("{port}", str(port)) for word in argv], env=whole, output=log)

    async def listens() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"{argv[-1]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listens, f"{argv[-1]} listens")
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        processes.stop(process, 10)
