"""What every service does around its work: serve health and metrics, stop on a signal, and exit with a code that
tells a supervisor what happened.

Exit codes: 0 stopped as asked · 1 an error, start me again · 2 refused to start, a person must mend the
configuration first.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import prometheus_client
import structlog
import uvloop
from aiohttp import web
from prometheus_client import multiprocess, values

from pipeline import listening, logs, masking, output, private, security
from pipeline import settings as environment
from pipeline.access import Access
from pipeline.errors import ConfigError, PostlogError, among
from pipeline.settings import Settings

# A creation time beside every counter helps nobody here and doubles the page.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

#: Exit codes.
FAILED, REFUSED = 1, 2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """What a service knows about itself: ok or not, and why, as JSON values."""

    ok: bool
    details: dict[str, Any]


T = TypeVar("T")
Check = Callable[[], Health]


def add_health_routes(
    app: web.Application, access: Access, *, live: Check, ready: Check, shared_metrics: bool = False
) -> None:
    """`GET /health/live`, `/health/ready` (200 or 503 with details) and `/metrics` (Prometheus text format).

    access          who sees details and metrics; whether it is live and ready everybody does
    live            false means restart me; ready false means send me no work yet
    shared_metrics  several processes answer on one port, and whichever does must answer for all of them
    """

    def answer(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            health = check()
            details = masking.value(health.details) if access.allows(request) else {}
            return web.json_response({"ok": health.ok, **details}, status=200 if health.ok else 503)

        return handler

    app.router.add_get("/health/live", answer(live))
    app.router.add_get("/health/ready", answer(ready))

    async def metrics(_: web.Request) -> web.StreamResponse:
        registry = prometheus_client.REGISTRY
        if shared_metrics:
            registry = prometheus_client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        text = prometheus_client.generate_latest(registry)
        return web.Response(body=text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    app.router.add_get("/metrics", access.guarded(metrics))


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    listener: socket.socket | None = None,
    service: str = "",
    make: Callable[..., web.AppRunner] = web.AppRunner,
    **options: Any,
) -> web.AppRunner:
    """Start serving; the caller awaits `runner.cleanup()` at the end. options go to the runner that `make` makes.

    listener  a socket that listens already, instead of a new one at host and port
    service   whose settings name host and port

    Raises ConfigError if the address cannot be had.
    """
    runner = make(app, access_log=None, handle_signals=False, **options)
    await runner.setup()
    try:
        site = web.SockSite(runner, listener) if listener else web.TCPSite(runner, host, port)
        await site.start()
    except (OSError, UnicodeError) as error:
        await runner.cleanup()
        raise listening.refused(host, port, error, *listening.settings_of(service)) from None
    bound = runner.addresses[0]
    log.info("listening", address=f"http://{bound[0]}:{bound[1]}")
    return runner


def collect_seldom(objects: int) -> None:
    """Let the garbage collector look for cycles only after so many new objects, and never among those there are now.

    Libraries and tables stay for as long as the process: each full collection walked all of them, and whoever waited
    for an answer then waited 20 ms more.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(objects, 50, 100)


async def stop_requested() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; it replaces what those signals did before."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work returns, or None as soon as a stop is requested; the work is cancelled then."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def takes_no_arguments(service: str) -> None:
    """Refuse whatever the command line says: a service is configured by its environment. `--help` says so."""
    output.never_fails()
    if sys.argv[1:]:
        print(  # noqa: T201
            f"usage: python -m {service}\n\nConfigured by environment variables alone: postlog settings lists them."
        )
        sys.exit(0 if sys.argv[1:] == ["--help"] else REFUSED)


def run(
    service: str, main: Callable[[Settings], Coroutine[Any, Any, None]], environ: Mapping[str, str] = os.environ
) -> NoReturn:
    """Run a service's coroutine on uvloop, with the settings of the environment, and end the process.

    An expected error is logged in one line, anything else with its traceback. When the coroutine is done so is the
    process: what libraries leave behind (a thread, a task that will not be cancelled) must not keep alive a service
    that has stopped or given up. What it writes is for its own user alone.

    main  imports what makes metrics only when it is called: before, nobody knows where they are to be kept
    """
    output.never_fails()
    private.from_now_on()
    loop = uvloop.new_event_loop()
    code = exit_code(service, lambda settings: loop.run_until_complete(main(settings)), environ)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def exit_code(service: str, start: Callable[[Settings], None], environ: Mapping[str, str] = os.environ) -> int:
    """Call start with the settings of the environment; 0, or the exit code that says what stopped it."""
    # A setting that is refused is told as all else is, so before the others are looked at.
    logs.configure(Settings(log_format="json" if environ.get("LOG_FORMAT") == "json" else "console"), service)
    try:
        settings = environment.load(environ)
        logs.configure(settings, service)
        _keep_metrics(settings)
        start(settings)
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        if refused := among(error, ConfigError):
            log.error("refused to start", service=service, error=str(refused))
            return REFUSED
        if denied := security.denied(error):
            log.error("refused by Kafka", service=service, error=str(denied))
            return REFUSED
        if known := among(error, PostlogError):
            log.error("stopped", service=service, error=f"{type(known).__name__}: {known}")
        else:
            log.exception("stopped by a bug", service=service)
        return FAILED
    return 0


def _keep_metrics(settings: Settings) -> None:
    """Keep metrics in memory, or in files that several processes share. Raises ConfigError if those cannot be had."""
    if settings.prometheus_multiproc_dir:
        folder = Path(settings.prometheus_multiproc_dir)
        if not folder.is_dir():
            raise ConfigError(
                f"PROMETHEUS_MULTIPROC_DIR is {settings.prometheus_multiproc_dir!r}, and there is no such folder: "
                "the ingress sets it for its own processes. Unset it."
            )
        private.folder(folder, "PROMETHEUS_MULTIPROC_DIR")
    else:
        # The library looks whether the variable is there. One that is empty is not set.
        values.ValueClass = values.MutexValue
