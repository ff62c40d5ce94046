"""Several ingress processes on one port.

The parent holds the port (SO_REUSEPORT) and serves nothing; the kernel spreads connections over its children. A child
that ends is started again; one that refuses its configuration ends all. SIGHUP replaces them one after the other, for
a new release: each by one that listens before it goes.
"""

from __future__ import annotations

import asyncio
import os
import signal
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
#: Seconds that a child may take to end, besides those for what is in flight.
STOP_SECONDS = 5.0


async def main(settings: Settings, environ: Mapping[str, str]) -> None:
    """Run settings.ingress_workers children until SIGTERM or SIGINT; then let them drain.

    environ  what the children get, but for what is theirs alone

    Raises ConfigError if the port cannot be had, or if a child refuses to start.
    """
    stop = await service.stop_requested()
    replace = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, replace.set)
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
                if replace.is_set():
                    replace.clear()
                    await _replace(children, env, settings, stop)
                await _wait(stop, TICK)
        finally:
            for child in children:
                child.terminate()
            # Longer than a child's own drain: it ends by itself unless it hangs.
            await asyncio.to_thread(_end, children, settings.ingress_drain_seconds + STOP_SECONDS)


async def _replace(
    children: list[subprocess.Popen[bytes]], env: Mapping[str, str], settings: Settings, stop: asyncio.Event
) -> None:
    """Replace the children one after the other. Where a new one does not start, the rest stay."""
    for number, former in enumerate(children):
        if settings.ingress_spool_dir:
            # What it has spooled goes to who takes its place.
            await _stopped(former, settings)
        new = await _started(env, stop)
        if new is None:
            return
        children[number] = new
        await _stopped(former, settings)
        _forget(former, env)
        log.info("ingress process replaced", former=former.pid, pid=new.pid)


async def _stopped(child: subprocess.Popen[bytes], settings: Settings) -> None:
    child.terminate()
    await asyncio.to_thread(_end, [child], settings.ingress_drain_seconds + STOP_SECONDS)


async def _started(env: Mapping[str, str], stop: asyncio.Event) -> subprocess.Popen[bytes] | None:
    """A new child that listens; None if it ends before it does, or we are asked to stop."""
    ours, theirs = os.pipe()
    child = _start({**env, "INGRESS_STARTED_FD": str(theirs)}, theirs)
    os.close(theirs)
    try:
        # The pipe is closed when the child ends: then there is nothing to read.
        if await service.unless_stopped(stop, asyncio.to_thread(os.read, ours, 1)):
            return child
    finally:
        os.close(ours)
    child.terminate()
    await asyncio.to_thread(_end, [child], STOP_SECONDS)
    _forget(child, env)
    if not stop.is_set():
        log.error("a new ingress process did not start, the former ones stay", exit_code=child.returncode)
    return None


def _forget(child: subprocess.Popen[bytes], env: Mapping[str, str]) -> None:
    multiprocess.mark_process_dead(child.pid, env["PROMETHEUS_MULTIPROC_DIR"])  # type: ignore[no-untyped-call]


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


def _start(env: Mapping[str, str], *keep_open: int) -> subprocess.Popen[bytes]:
    # In our process group: who ends the group of a parent that was killed ends them too.
    return subprocess.Popen([sys.executable, "-m", "ingress"], env=dict(env), pass_fds=keep_open)


async def _alive(child: subprocess.Popen[bytes], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The child, or the one that takes its place."""
    code = child.poll()
    if code is None:
        return child
    _forget(child, env)
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
