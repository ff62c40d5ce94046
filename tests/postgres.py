"""A PostgreSQL server for tests: the one that POSTGRES_URL names, else one in a container, else a local process."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
from testcontainers.core.container import DockerContainer

from console import processes
from pipeline.errors import BrokerStartFailed
from tests.broker import engine_host

VARIABLE = "POSTGRES_URL"
IMAGE = "postgres:17-alpine"
#: Seconds a server has to answer.
PATIENCE = 60.0
#: postgres refuses to run as root, so root starts it as this user.
USER = "postgres"


@contextmanager
def open_postgres() -> Iterator[str]:
    """URL of a server that is there while the context lasts.

    Raises RuntimeError naming every way and what stopped it.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        yield given
        return
    with ExitStack() as stack:
        try:
            url = stack.enter_context(_in_container())
        except BrokerStartFailed as error:
            url = stack.enter_context(_local(str(error)))
        yield url


@contextmanager
def _in_container() -> Iterator[str]:
    host = engine_host()
    container = DockerContainer(IMAGE, env={"POSTGRES_HOST_AUTH_METHOD": "trust"}).with_exposed_ports(5432)
    with container:
        url = f"postgresql://{USER}@{host}:{container.get_exposed_port(5432)}/postgres"
        asyncio.run(_until_it_answers(url))
        yield url


@contextmanager
def _local(reason: str) -> Iterator[str]:
    folder = _binaries(reason)
    port = processes.free_port()
    root = os.geteuid() == 0
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--pdeathsig=INT"] if root else []
    # Another user must be able to come here, and no folder of a test run can promise that.
    with tempfile.TemporaryDirectory(prefix="postlog-postgres-") as name:
        home = Path(name)
        if root:
            account = pwd.getpwnam(USER)
            os.chown(home, account.pw_uid, account.pw_gid)
        data, env = home / "data", {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        initdb = [*become, folder / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([str(part) for part in initdb], env=env, cwd=home, check=True, capture_output=True)
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(home), "-F"]
        argv = [*become, str(folder / "postgres"), "-D", str(data), *options]
        server = processes.start(argv, env=env, output=home / "log")
        try:
            url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
            asyncio.run(_until_it_answers(url, server, home / "log"))
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # its "fast shutdown": it waits for no client
            processes.end(server, 20)


def _binaries(reason: str) -> Path:
    """Where the server's programs are."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not found:
        raise RuntimeError(
            f"no PostgreSQL for the tests: {VARIABLE} is not set, {reason}, and no server is installed here "
            "(Debian: apt-get install postgresql)"
        )
    return found[0]


async def _until_it_answers(url: str, server: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            if time.monotonic() > deadline or (server and server.poll() is not None):
                said = await asyncio.to_thread(log.read_text) if log else ""
                raise RuntimeError(f"PostgreSQL does not answer: {error}\n{said[-2000:]}") from error
            await asyncio.sleep(0.1)
        else:
            await connection.close()
            return
