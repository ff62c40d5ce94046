"""Services that keep an incident open until it is resolved: its beginning and its end share a key.

A shell over apprise's plugins, which have a word each for that key. apprise resolves on a success if its action is
`map`, which is the default here. What always holds: the key follows from the installation and the incident alone, so
a restart, or another alerter, resolves what the former one opened.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import apprise
import requests
from apprise.plugins.jira import JIRA_API_LOOKUP
from apprise.plugins.opsgenie import OPSGENIE_API_LOOKUP

from alerter.message import Message

#: By scheme, the plugin's attribute that holds the key.
_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "firehydrant": "dedup",
        "goalert": "dedup",
        "goalerts": "dedup",
        "ilert": "dedup",
        "incidentio": "dedup",
        "jira": "alias",
        "opsgenie": "alias",
        "opsimate": "dedup",
        "opsimates": "dedup",
        "pagerduty": "dedup",
        "pagertree": "thirdparty",
        "signl4": "external_id",
        "splunk": "entity_id",
        "squadcast": "dedup",
        "victorops": "entity_id",
    }
)
#: Where alerts are closed by their alias. apprise would name the id of the request that made the alert, which is not
#: the alert's, and knows it only until a restart.
_ALIASED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"jira": JIRA_API_LOOKUP, "opsgenie": OPSGENIE_API_LOOKUP}
)
_ACTION = re.compile(r"[?&]action=")


@dataclass(frozen=True, slots=True)
class Incidents:
    """How one service keeps incidents; its methods belong into the one thread that sends for it.

    attribute  of the plugin, holds the key; None: the URL has a key of its own for all
    alerts     where the alerts of the service are; None if apprise itself can resolve them
    """

    service: Any
    installation: str
    attribute: str | None
    alerts: str | None

    def name(self, text: Message) -> None:
        """Let the next notification be about this message's incident."""
        if self.attribute:
            setattr(self.service, self.attribute, key(self.installation, text.about))

    def closer(self, text: Message) -> Callable[[], bool] | None:
        """What closes the message's incident instead of apprise, None if apprise does."""
        closes = text.over and self.service.action == "map"
        mapping = getattr(self.service, "mapping", {})
        if not (self.alerts and closes and mapping.get(apprise.NotifyType.SUCCESS) == "close"):
            return None
        url = f"{self.alerts}/{quote(self.service.alias, safe='')}/close"
        payload = {"source": self.service.app_desc, "note": text.body}
        return lambda: bool(self.service._fetch(requests.post, url, payload, {"identifierType": "alias"})[0])


def of(url: str, scheme: str, service: apprise.NotifyBase, installation: str) -> Incidents | None:
    """How the service at a URL keeps incidents, None if it keeps none."""
    attribute = _KEYS.get(scheme)
    if attribute is None:
        return None
    given: Any = service
    if not _ACTION.search(url):
        given.action = "map"
    # Splunk's plugin has one key for everything, if it is given none.
    usual = f"{given.app_id}/{given.routing_key}" if attribute == "entity_id" else None
    own = getattr(given, attribute) not in (None, "", usual)
    alerts = _ALIASED[scheme][given.region_name] if scheme in _ALIASED else None
    return Incidents(given, installation, None if own else attribute, alerts)


def key(installation: str, about: str) -> str:
    """The key of an incident: letters and digits, which say nothing about anybody."""
    return f"postlog-{hashlib.sha256(f'{installation} {about}'.encode()).hexdigest()[:32]}"
