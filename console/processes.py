"""Child processes with an output of their own; they never outlive us (`pipeline.children`)."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import children, listening

#: Below the ports that systems hand to outgoing connections (Linux from 32768, others from 49152): a port found
#: free there could be somebody's own end of a connection by the time a server binds it.
_SERVER_PORTS = range(20_000, 32_000)


def start(
    argv: Sequence[str], *, env: Mapping[str, str], output: Path, keep_open: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a child with exactly this environment; both its outputs are appended to a file.

    keep_open  file descriptors that the child shares with us; a lock on one is held until both have ended

    Call it from the main thread: the kernel takes the end of the calling thread for the end of the parent.
    The child has a process group of its own, so that Ctrl-C in a terminal reaches us alone and we stop it in order.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as sink:
        return subprocess.Popen(  # noqa: S603 - our own command line, no shell
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            process_group=0,
            pass_fds=keep_open,
            preexec_fn=children.ends_with_us(),
        )


def stop(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Ask a child to stop, end it if it has not after `timeout` seconds; its exit code."""
    ask_to_stop(process)
    return end(process, timeout)


def ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, for a child that may be stopped with others at once; `end` waits for it."""
    if process.poll() is None:
        # A frozen process cannot hear SIGTERM; thawing one that runs does nothing.
        process.send_signal(signal.SIGCONT)
        process.terminate()


def end(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Wait for a child that was asked to stop, kill it after `timeout` seconds; its exit code."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        kill_children_of(process)


def kill_children_of(process: subprocess.Popen[bytes]) -> None:
    """Kill what a dead child left of its process group: workers of a killed ingress would keep its port."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    port = next((port for port in random.sample(_SERVER_PORTS, 100) if can_bind("127.0.0.1", port)), None)
    if port is not None:
        return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def can_bind(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError if it never could: there is no such address."""
    with socket.socket(listening.family(host)) as probe:
        # As servers do: connections that are only fading out do not hold a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True
