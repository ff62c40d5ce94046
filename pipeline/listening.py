"""What stands in the way of a server that cannot listen, and what mends it."""

from __future__ import annotations

import errno
import socket

from pipeline.errors import ConfigError


def family(host: str) -> socket.AddressFamily:
    """The kind of socket for an address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def settings_of(service: str) -> tuple[str, str]:
    """The settings of a service that say where it listens: its host, its port."""
    return f"{service.upper()}_HOST", f"{service.upper()}_PORT"


def refused(host: str, port: int, error: Exception, named: str, numbered: str) -> ConfigError:
    """What to raise for it: the reason, and which setting to change.

    error            what the system said: an OSError, or a UnicodeError for a name that DNS cannot write
    named, numbered  the settings of the host and of the port
    """
    reason = getattr(error, "strerror", None) or str(error)
    cure = f"correct {named} or {numbered}"
    if isinstance(error, socket.gaierror | UnicodeError):
        reason, cure = "nobody knows that name", f"correct {named}"
    else:
        match getattr(error, "errno", None):
            case errno.EADDRINUSE:
                reason, cure = "another process has that port", f"stop it, or set {numbered} to another one"
            case errno.EADDRNOTAVAIL:
                reason, cure = "this machine has no such address", f"set {named} to one of its own"
            case errno.EACCES:
                reason, cure = "this user may not have that port", f"set {numbered} to one above 1023"
    return ConfigError(f"cannot listen on {host}:{port}: {reason}: {cure}.")
