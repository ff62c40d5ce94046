"""Services that keep incidents: what is really posted to them when something begins, and when it is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import apprise
import pytest
import requests
from aiohttp import web
from apprise.plugins import jira, opsgenie, pagerduty

from alerter import channels, paging
from alerter.channels import Channels
from alerter.incidents import News
from alerter.summary import Alert, Example, GroupKey, Place, Summary
from pipeline import settings as environment
from pipeline.incidents import Incident
from tests.receiver import SECONDS

# apprise's mail service asks for it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

DOWN = Incident(kind="circuit_open", subject="crm", since=1_000, reason="OSError: away")
STOPPED = Incident(kind="processor_stopped", subject="rejections", since=1_000, reason="100 of 100 records")
GROUP = GroupKey("pipeline.errors.NoRecipient", "hard_bounce", "nexuspromail")
EXAMPLE = Example("i0-1", Place("email-events.dlq", 0, 1), None, "ingress", "evt", "no recipient")
LETTERS = Summary(GROUP, 12, 0, 0, EXAMPLE, None, {0: 1})
LETTERS_OVER = News(
    Incident(kind="letters_group", subject="hard_bounce, nexuspromail: NoRecipient", since=1), True, name=GROUP.name
)


@dataclass
class Posted:
    """A request that came: its path with the query, and its body."""

    path: str
    body: dict[str, Any]


@dataclass
class Incidents:
    """A local server in the place of a service; while it is broken it answers 500."""

    posts: list[Posted] = field(default_factory=list)
    broken: bool = False
    refused: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        if self.broken:
            self.refused.set()
            return web.Response(status=500)
        self.posts.append(Posted(request.path_qs, await request.json()))
        return web.json_response({"requestId": f"request-{len(self.posts)}"}, status=202)


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Incidents]:
    found = Incidents()
    app = web.Application()
    app.router.add_post("/{path:.*}", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "eu", f"{found.url}/v2/enqueue")
        monkeypatch.setitem(opsgenie.OPSGENIE_API_LOOKUP, "us", f"{found.url}/v2/alerts")
        monkeypatch.setitem(jira.JIRA_API_LOOKUP, "us", f"{found.url}/v2/alerts")
        # It pauses between two messages, to be kind to services.
        monkeypatch.setattr(apprise.URLBase, "throttle", lambda *_, **__: None)
        yield found
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(url: str, installation: str = "cluster/email-events.alerts") -> AsyncIterator[Channels]:
    found = channels.from_settings(environment.load({"ALERT_URLS": url}), installation)
    async with asyncio.TaskGroup() as tasks:
        sending = found.start(tasks)
        try:
            yield found
        finally:
            for task in sending:
                task.cancel()


async def tell(to: Channels, *alerts: Alert) -> None:
    assert all(await asyncio.wait_for(asyncio.gather(*(to.tell(alert) for alert in alerts)), SECONDS))


def news(incident: Incident, *, over: bool) -> Alert:
    return Alert((), (News(incident, over=over),))


PAGERDUTY = "pagerduty://integrationkey@apikey/postlog?region=eu"


@pytest.mark.parametrize("url", [PAGERDUTY, f"{PAGERDUTY}&action=map"])
async def test_pagerduty_resolves_what_it_was_told_of_also_by_another_alerter(url: str, service: Incidents) -> None:
    async with running(url) as to:
        await tell(to, news(DOWN, over=False))
    async with running(url) as to:
        await tell(to, news(DOWN, over=True))
    begun, over = (post.body for post in service.posts)
    assert (begun["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert begun["dedup_key"] == over["dedup_key"]
    assert begun["payload"]["severity"] == "critical"
    assert begun["payload"]["summary"].startswith("postlog: handler crm is down")


async def test_an_incident_is_resolved_alone_and_so_is_a_group_of_dead_letters(service: Incidents) -> None:
    async with running(PAGERDUTY) as to:
        await tell(to, news(DOWN, over=False), news(STOPPED, over=False), Alert((LETTERS,)))
        await tell(to, news(STOPPED, over=True), Alert((), (LETTERS_OVER,)))
    posts = [(post.body["event_action"], post.body["dedup_key"]) for post in service.posts]
    (_, down), (_, stopped), (_, letters) = posts[:3]
    assert posts == [
        ("trigger", down),
        ("trigger", stopped),
        ("trigger", letters),
        ("resolve", stopped),
        ("resolve", letters),
    ]
    assert len({down, stopped, letters}) == 3


async def test_one_message_about_several_things_is_several_incidents(service: Incidents) -> None:
    other = Summary(GroupKey("x.Other", "opened", "nexuspromail"), 1, 0, 0, EXAMPLE, None, {0: 2})
    async with running(PAGERDUTY) as to:
        await tell(to, Alert((LETTERS, other), (News(DOWN, over=False),)))
    assert len({post.body["dedup_key"] for post in service.posts}) == 3


async def test_another_installation_has_other_keys(service: Incidents) -> None:
    for installation in ("cluster-1/email-events.alerts", "cluster-2/email-events.alerts"):
        async with running(PAGERDUTY, installation) as to:
            await tell(to, news(DOWN, over=False))
    assert len({post.body["dedup_key"] for post in service.posts}) == 2


async def test_a_key_or_an_action_in_the_url_stands(service: Incidents) -> None:
    async with running(f"{PAGERDUTY}&action=trigger&dedup=mine") as to:
        await tell(to, news(DOWN, over=False))
        await tell(to, news(DOWN, over=True))
    posts = [(post.body["event_action"], post.body["dedup_key"]) for post in service.posts]
    assert posts == [("trigger", "mine")] * 2


@pytest.mark.parametrize("scheme", ["opsgenie", "jira"])
async def test_opsgenie_and_jira_close_by_alias_also_after_a_restart(scheme: str, service: Incidents) -> None:
    async with running(f"{scheme}://apikey/") as to:
        await tell(to, news(DOWN, over=False))
    async with running(f"{scheme}://apikey/") as to:
        await tell(to, news(DOWN, over=True))
    begun, over = service.posts
    assert begun.path == "/v2/alerts"
    assert begun.body["message"] == "postlog: handler crm is down"
    assert over.path == f"/v2/alerts/{begun.body['alias']}/close?identifierType=alias"
    assert "handler crm answers again" in over.body["note"]


async def test_what_a_service_refused_is_tried_again_and_nothing_of_it_twice(service: Incidents) -> None:
    async with running(PAGERDUTY) as to:
        service.broken = True
        telling = asyncio.ensure_future(tell(to, Alert((LETTERS,), (News(DOWN, over=False),))))
        await asyncio.wait_for(service.refused.wait(), SECONDS)
        service.broken = False
        await telling
    assert len(service.posts) == len({post.body["dedup_key"] for post in service.posts}) == 2


URLS = {
    "firehydrant": "firehydrant://integrationkey12345678@bottoken12345678",
    "goalert": "goalert://goalert.example.com/6d3c7a6e-0c1b-4e58-9f0d-8f3f5b7a2a11",
    "goalerts": "goalerts://goalert.example.com/6d3c7a6e-0c1b-4e58-9f0d-8f3f5b7a2a11",
    "ilert": "ilert://il1api0123456789abcdef",
    "incidentio": "incidentio://0123456789ABCDEFGHJKMNPQRS/0123456789abcdef",
    "jira": "jira://apikey/",
    "opsgenie": "opsgenie://apikey/",
    "opsimate": "opsimate://token@opsimate.example.com",
    "opsimates": "opsimates://token@opsimate.example.com",
    "pagerduty": PAGERDUTY,
    "pagertree": "pagertree://int_ABCDEFGHJK",
    "signl4": "signl4://secret",
    "splunk": "splunk://routing@6d3c7a6e-0c1b-4e58-9f0d-8f3f5b7a2a11",
    "squadcast": "squadcast://0123456789abcdef",
    "victorops": "victorops://routing@6d3c7a6e-0c1b-4e58-9f0d-8f3f5b7a2a11",
}


def test_every_service_that_is_told_keys_is_tried_below() -> None:
    assert set(URLS) == set(paging._KEYS)


@pytest.mark.parametrize("scheme", URLS)
async def test_beginning_and_end_share_a_key_and_the_end_is_another_word(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[tuple[str, dict[str, Any]]] = []

    def post(_: requests.Session, method: str, url: str, **given: Any) -> requests.Response:
        body = given.get("data") or json.dumps(given.get("json"))
        posted.append((url, json.loads(body)))
        answer = requests.Response()
        answer.status_code, answer._content = 200, b'{"requestId":"r"}'
        return answer

    # Every function of requests ends there.
    monkeypatch.setattr(requests.sessions.Session, "request", post)
    monkeypatch.setattr(apprise.URLBase, "throttle", lambda *_, **__: None)
    key = paging.key("cluster/email-events.alerts", DOWN.key.decode())
    async with running(URLS[scheme]) as to:
        await asyncio.wait_for(to.tell(news(DOWN, over=False)), SECONDS)
        await asyncio.wait_for(to.tell(news(DOWN, over=True)), SECONDS)
    (_, begun), (over_at, over) = posted
    assert key in json.dumps(begun)
    assert key in over_at + json.dumps(over)
    words = {"resolve", "resolved", "close", "closed", "recovery"}
    assert words & {str(value).lower() for value in over.values()} or over_at.partition("?")[0].endswith("/close")
    assert not words & {str(value).lower() for value in begun.values()}
