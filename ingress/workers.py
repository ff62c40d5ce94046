"""Several ingress processes on one port.

The parent holds the port (SO_REUSEPORT) and serves nothing; the kernel spreads connections over its children. A child
that ends is started again; one that refuses its configuration ends all.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import structlog
from prometheus_client import multiprocess

from pipeline import service
from pipeline.errors import ConfigError
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds between two looks at the children, and before a dead one is started again.
TICK, RESTART_PAUSE = 0.2, 1.0


async def main(settings: Settings, environ: Mapping[str, str]) -> None:
    """Run settings.ingress_workers children until SIGTERM or SIGINT; then let them drain.

    environ  what the children get, but for what is theirs alone

    Raises ConfigError if the port cannot be had, or if a child refuses to start.
    """
    stop = await service.stop_requested()
    with tempfile.TemporaryDirectory(prefix="postlog-ingress-") as folder, _reserved(settings) as port:
        env = {
            **environ,
            "INGRESS_WORKERS": "1",
            "INGRESS_PORT": str(port.getsockname()[1]),
            "PROMETHEUS_MULTIPROC_DIR": folder,
        }
        children = [_start(env) for _ in range(settings.ingress_workers)]
        try:
            while not stop.is_set():
                for number, child in enumerate(children):
                    children[number] = await _alive(child, env)
                await _wait(stop, TICK)
        finally:
            for child in children:
                child.terminate()
            # Longer than a child's own drain: it ends by itself unless it hangs.
            await asyncio.to_thread(_end, children, settings.ingress_drain_seconds + 5)


def _reserved(settings: Settings) -> socket.socket:
    """A bound socket that never listens: the port stays ours while children come and go."""
    held = socket.socket(socket.AF_INET6 if ":" in settings.ingress_host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((settings.ingress_host, settings.ingress_port))
    except OSError as error:
        held.close()
        raise ConfigError(
            f"cannot listen on {settings.ingress_host}:{settings.ingress_port}: {error.strerror}. "
            "Is it taken? Choose another INGRESS_PORT."
        ) from None
    return held


def _start(env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # In our process group: who ends the group of a parent that was killed ends them too.
    return subprocess.Popen([sys.executable, "-m", "ingress"], env=dict(env))


async def _alive(child: subprocess.Popen[bytes], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The child, or the one that takes its place."""
    code = child.poll()
    if code is None:
        return child
    multiprocess.mark_process_dead(child.pid, env["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]
    if code == service.REFUSED:
        raise ConfigError("an ingress process refused to start; its reason is in the line above")
    log.error("an ingress process ended, starting another", pid=child.pid, exit_code=code)
    await asyncio.sleep(RESTART_PAUSE)
    return _start(env)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def _end(children: Sequence[subprocess.Popen[bytes]], timeout: float) -> None:
    """Wait for children that were asked to stop; kill those that have not after `timeout` seconds together."""
    deadline = time.monotonic() + timeout
    for child in children:
        try:
            child.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            log.error("an ingress process did not stop in time, killing it", pid=child.pid)
            child.kill()
            child.wait()
