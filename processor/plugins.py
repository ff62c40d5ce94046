"""Loads the handlers that users plugged in: installed entry points, and the modules that HANDLERS names."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import entry_points

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from processor.handler import Handler, Handlers

#: Entry points of this group are handlers, several of them, or callables that return some. One that takes an argument
#: gets the Settings; it raises ConfigError if they are not what it needs.
GROUP = "postlog.handlers"
#: The attribute of a module named in HANDLERS.
ATTRIBUTE = "handlers"
NAME = re.compile(r"[a-z0-9_.-]{1,64}")


def load(settings: Settings) -> Handlers:
    """The handlers of the installed entry points and of the modules in HANDLERS, by name.

    Raises ConfigError naming the module or entry point and what is wrong with it.
    """
    found = [
        (source := f"entry point {point.name}", _loaded(source, point.load)) for point in entry_points(group=GROUP)
    ]
    for name in filter(None, (part.strip() for part in settings.handlers.split(","))):
        source = f"HANDLERS: {name}"
        module = _loaded(source, partial(importlib.import_module, name))
        found.append((source, getattr(module, ATTRIBUTE, None)))
    handlers: dict[str, Handler] = {}
    for source, given in found:
        for handler in _several(source, given, settings):
            if handler.name in handlers:
                raise ConfigError(f"{source}: a handler named {handler.name!r} is there already; names are unique")
            handlers[handler.name] = handler
    return handlers


def _loaded(source: str, load: Callable[[], object]) -> object:
    try:
        return load()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{source} cannot be loaded: {error!r}") from error


def _maker(given: Callable[..., object], settings: Settings) -> Callable[[], object]:
    return partial(given, settings) if inspect.signature(given).parameters else given


def _several(source: str, given: object, settings: Settings) -> list[Handler]:
    made = _loaded(source, _maker(given, settings)) if callable(given) else given
    several = [made] if isinstance(made, Handler) else list(made) if isinstance(made, Iterable) else []
    if not several or not all(isinstance(handler, Handler) for handler in several):
        raise ConfigError(f"{source}: expected processor.handler.Handler values in `{ATTRIBUTE}`, got {given!r}")
    for handler in several:
        if problem := wrong(handler):
            raise ConfigError(f"{source}: handler {handler.name!r}: {problem}")
    return several


def _is_async(call: object) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


def wrong(handler: Handler) -> str | None:
    """What is wrong with a handler, None if nothing is."""
    if not NAME.fullmatch(handler.name):
        return "name: use 1 to 64 of a-z, 0-9, '_', '.', '-'"
    if not _is_async(handler.call):
        return f"call: expected `async def handle(event, suppression)`, got {handler.call!r}"
    if handler.timeout <= 0 or handler.concurrency < 1 or handler.retry.tries < 1 or handler.retry.base < 0:
        return "timeout must be above 0 s, concurrency and retry.tries at least 1, retry.base not negative"
    return None
