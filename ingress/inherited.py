"""What an ingress process has from the one that started it: a socket that listens, and a pipe to say that it serves.

Both are numbers of open files. The parent in `workers` sets them; what a person sets is refused unless it is that.
"""

from __future__ import annotations

import fcntl
import os
import socket

from pipeline.errors import ConfigError
from pipeline.settings import Settings


def listener(settings: Settings) -> socket.socket | None:
    """The socket; None if this process makes its own. Raises ConfigError."""
    fd = settings.ingress_listen_fd
    if fd < 0:
        return None
    try:
        found = socket.socket(fileno=fd)
    except OSError:
        raise _refused("INGRESS_LISTEN_FD", fd) from None
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()  # Somebody else's: it is not ours to close.
        raise _refused("INGRESS_LISTEN_FD", fd)
    return found


def pipe(settings: Settings) -> int:
    """The pipe, -1 if nobody waits. Raises ConfigError."""
    fd = settings.ingress_started_fd
    if fd >= 0:
        try:
            writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        except OSError:
            writable = False
        if not writable:
            raise _refused("INGRESS_STARTED_FD", fd)
    return fd


def say_started(fd: int) -> None:
    """Tell whoever started this process that it serves."""
    if fd >= 0:
        os.write(fd, b"1")
        os.close(fd)


def _refused(variable: str, fd: int) -> ConfigError:
    return ConfigError(f"{variable} is {fd}: the ingress sets it for its own processes, and this is none. Unset it.")
