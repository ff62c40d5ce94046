"""Several ingress processes on one port.

The parent holds a listening socket per child, all on one port (SO_REUSEPORT), and serves nothing; the kernel spreads
connections over the sockets. They stay open when a child goes: a connection that it has not accepted waits for the
next one instead of being reset. A child that ends is started again; one that refuses its configuration ends all; and
all drain and end when the parent is gone, however that went.
SIGHUP replaces them one after the other, for a new release: each by one that listens before it goes.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import structlog
from prometheus_client import multiprocess

from pipeline import children, listening, service
from pipeline.errors import ConfigError
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds between two looks at the children, and before a dead one is started again.
TICK, RESTART_PAUSE = 0.2, 1.0
#: Seconds that a child may take to end, besides those for what is in flight.
STOP_SECONDS = 5.0
#: Connections that may wait for a child to accept them.
BACKLOG = 1024


@dataclass(slots=True)
class Slot:
    """One socket on the port, and the child that takes its connections."""

    listener: socket.socket
    child: subprocess.Popen[bytes]


async def main(settings: Settings, environ: Mapping[str, str]) -> None:
    """Run settings.ingress_workers children until SIGTERM or SIGINT; then let them drain.

    environ  what the children get, but for what is theirs alone

    Raises ConfigError if the port cannot be had, or if a child refuses to start.
    """
    stop = await service.stop_requested()
    replace = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, replace.set)
    with tempfile.TemporaryDirectory(prefix="postlog-ingress-") as folder, ExitStack() as open_sockets:
        env = {**environ, "INGRESS_WORKERS": "1", "PROMETHEUS_MULTIPROC_DIR": folder}
        sockets = [open_sockets.enter_context(listener) for listener in listeners(settings)]
        slots = [Slot(listener, _start(env, listener)) for listener in sockets]
        try:
            while not stop.is_set():
                for slot in slots:
                    await _keep_alive(slot, env)
                if replace.is_set():
                    replace.clear()
                    await _replace(slots, env, settings, stop)
                await _wait(stop, TICK)
        finally:
            for slot in slots:
                slot.child.terminate()
            # Longer than a child's own drain: it ends by itself unless it hangs.
            seconds = settings.ingress_drain_seconds + STOP_SECONDS
            await asyncio.to_thread(_end, [slot.child for slot in slots], seconds)


async def _replace(slots: Sequence[Slot], env: Mapping[str, str], settings: Settings, stop: asyncio.Event) -> None:
    """Replace the children one after the other. Where a new one does not start, the rest stay."""
    for slot in slots:
        former = slot.child
        if settings.ingress_spool_dir:
            # What it has spooled goes to who takes its place.
            await _stopped(former, settings)
        new = await _started(env, slot.listener, stop)
        if new is None:
            return
        slot.child = new
        await _stopped(former, settings)
        _forget(former, env)
        log.info("ingress process replaced", former=former.pid, pid=new.pid)


async def _stopped(child: subprocess.Popen[bytes], settings: Settings) -> None:
    child.terminate()
    await asyncio.to_thread(_end, [child], settings.ingress_drain_seconds + STOP_SECONDS)


async def _started(
    env: Mapping[str, str], listener: socket.socket, stop: asyncio.Event
) -> subprocess.Popen[bytes] | None:
    """A new child that listens; None if it ends before it does, or we are asked to stop."""
    ours, theirs = os.pipe()
    child = _start({**env, "INGRESS_STARTED_FD": str(theirs)}, listener, theirs)
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


def listeners(settings: Settings) -> Iterator[socket.socket]:
    """A listening socket for each child, all on one port."""
    host, port = settings.ingress_host, settings.ingress_port
    for _ in range(settings.ingress_workers):
        try:
            listener = socket.create_server(
                (host, port), family=listening.family(host), backlog=BACKLOG, reuse_port=True
            )
        except (OSError, UnicodeError) as error:
            raise listening.refused(host, port, error, *listening.settings_of("ingress")) from None
        port = listener.getsockname()[1]
        yield listener


def _start(env: Mapping[str, str], listener: socket.socket, *keep_open: int) -> subprocess.Popen[bytes]:
    fd = listener.fileno()
    env = {**env, "INGRESS_LISTEN_FD": str(fd)}
    # In our process group: who ends the group of a parent that was killed ends them too.
    return subprocess.Popen(
        [sys.executable, "-m", "ingress"],
        env=env,
        pass_fds=(fd, *keep_open),
        preexec_fn=children.ends_with_us(),
    )


async def _keep_alive(slot: Slot, env: Mapping[str, str]) -> None:
    """Start another child where one has ended."""
    code = slot.child.poll()
    if code is None:
        return
    _forget(slot.child, env)
    if code == service.REFUSED:
        raise ConfigError("an ingress process refused to start; its reason is in the line above")
    log.error("an ingress process ended, starting another", pid=slot.child.pid, exit_code=code)
    await asyncio.sleep(RESTART_PAUSE)
    slot.child = _start(env, slot.listener)


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
