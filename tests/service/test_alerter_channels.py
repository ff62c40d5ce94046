"""Alerts over apprise to real local receivers: an HTTP server and an SMTP server."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from alerter import channels, services
from alerter.channels import Channels
from alerter.summary import Alert, Example, GroupKey, Place, Summary
from console import processes
from pipeline import settings as environment
from pipeline.errors import ConfigError
from tests.receiver import SECONDS, Receiver, receiver

# apprise's mail service asks for it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def alert(number: int) -> Alert:
    key = GroupKey("pipeline.errors.NoRecipient", "hard_bounce", f"p{number}")
    example = Example(
        f"i0-{number}", Place("email-events.dlq", 0, number), None, "ingress", "evt", "a reason <b>&</b>"
    )
    return Alert((Summary(key, 1, 0, 0, example, None, {0: number}),))


async def title(of: Receiver) -> str:
    return str((await of.notification())["title"])


@asynccontextmanager
async def running(urls: str, retry_seconds: float = 30.0) -> AsyncIterator[Channels]:
    settings = environment.load({"ALERT_URLS": urls, "ALERT_RETRY_SECONDS": str(retry_seconds)})
    found = channels.from_settings(settings)
    async with asyncio.TaskGroup() as tasks:
        sending = found.start(tasks)
        try:
            yield found
        finally:
            for task in sending:
                task.cancel()


async def test_an_alert_reaches_every_channel() -> None:
    async with receiver() as one, receiver() as two, running(f"{one.url}\n  {two.url} ") as to:
        assert await to.tell(alert(1))
        assert await title(one) == await title(two) == "postlog: 1 dead letter, hard_bounce, p1: NoRecipient"


async def test_a_channel_that_fails_is_retried_and_holds_up_no_other() -> None:
    async with receiver() as good, receiver() as bad, running(f"{good.url} {bad.url}") as to:
        bad.broken = True
        telling = [asyncio.ensure_future(to.tell(alert(n))) for n in (1, 2)]
        await title(good)
        await asyncio.wait_for(bad.refused.wait(), SECONDS)
        telling.append(asyncio.ensure_future(to.tell(alert(3))))
        # Everything reaches the good one while the bad one has taken nothing, and none of it has gone out for good.
        while "p3" not in str(await good.notification()):
            pass
        assert bad.took.empty()
        assert not any(task.done() for task in telling)
        bad.broken = False
        assert await asyncio.wait_for(asyncio.gather(*telling), SECONDS) == [True, True, True]


async def test_what_waits_for_a_busy_channel_goes_out_as_one_message() -> None:
    async with receiver() as slow, running(slow.url) as to:
        slow.answer.clear()
        telling = [asyncio.ensure_future(to.tell(alert(0)))]
        await asyncio.sleep(0)  # the channel takes the first
        telling += [asyncio.ensure_future(to.tell(alert(n))) for n in range(1, 40)]
        await asyncio.sleep(0)
        slow.answer.set()
        assert await asyncio.wait_for(asyncio.gather(*telling), SECONDS) == [True] * 40
        titles = [await title(slow), await title(slow)]
        assert slow.took.empty()
        assert titles[1] == "postlog: 39 dead letters in 39 groups"


async def test_an_alert_went_out_when_one_channel_took_it_and_the_others_gave_up() -> None:
    async with receiver() as good, receiver() as bad, running(f"{good.url} {bad.url}", retry_seconds=0.01) as to:
        bad.broken = True
        assert await asyncio.wait_for(to.tell(alert(1)), SECONDS)


async def test_who_has_yet_to_take_an_alert_is_noted_as_soon_as_one_channel_took_it() -> None:
    async with receiver() as good, receiver() as hung, running(f"{hung.url} {good.url}") as to:
        hung.answer.clear()
        notes: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        telling = asyncio.ensure_future(to.tell(alert(1), notes.put))
        (waiting,) = await asyncio.wait_for(notes.get(), SECONDS)
        assert not telling.done()
        # After a restart only the hung one is asked, wherever its URL stands by then.
        async with running(f"{good.url} {hung.url}") as again:
            await title(good)
            missed = asyncio.ensure_future(again.tell(replace(alert(1), to=frozenset({waiting})), notes.put))
            hung.answer.set()
            assert await asyncio.wait_for(missed, SECONDS)
            assert await asyncio.wait_for(notes.get(), SECONDS) == frozenset()
        assert await asyncio.wait_for(telling, SECONDS)
        assert good.took.empty()
        assert good.came.qsize() == 1


async def test_what_a_channel_missed_has_gone_out_once_its_url_is_there_no_more() -> None:
    async with receiver() as good, running(good.url) as to:
        notes: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        assert await to.tell(replace(alert(1), to=frozenset({"gone"})), notes.put)
        assert notes.get_nowait() == frozenset()
        assert good.came.empty()


def test_a_channel_is_known_by_its_place_and_not_by_its_secrets() -> None:
    def identities(urls: str) -> list[str]:
        return [service.identity for service in services.from_settings(environment.load({"ALERT_URLS": urls}))]

    one, two = "json://ann:secret@one.example.com/a", "json://ann:secret@two.example.com/a"
    assert identities(f"{one} {two}") == identities(f"{two} {one}")[::-1]
    assert identities(one) == identities(one.replace("secret", "rotated"))
    assert len(set(identities(f"{one} {two} {one}"))) == 3


async def test_an_alert_that_no_channel_took_has_not_gone_out() -> None:
    async with receiver() as one, receiver() as two, running(f"{one.url} {two.url}", retry_seconds=0.01) as to:
        one.broken = two.broken = True
        assert not await asyncio.wait_for(to.tell(alert(1)), SECONDS)


async def test_the_backlog_of_a_channel_is_bounded_and_the_oldest_alert_is_given_up() -> None:
    async with receiver() as stuck, running(stuck.url) as to:
        stuck.broken = True
        first = asyncio.ensure_future(to.tell(alert(0)))
        await asyncio.wait_for(stuck.refused.wait(), SECONDS)
        waiting = [asyncio.ensure_future(to.tell(alert(n))) for n in range(1, channels.BACKLOG + 2)]
        assert await asyncio.wait_for(waiting[0], SECONDS) is False
        assert not first.done()
        assert not any(task.done() for task in waiting[1:])
        stuck.broken = False
        assert all(await asyncio.wait_for(asyncio.gather(first, *waiting[1:]), SECONDS))


async def test_a_channel_that_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SEND_SECONDS", 0.5)
    async with receiver() as good, receiver() as hung:
        hung.answer.clear()
        slow = " ".join(f"{hung.url}?rto={SECONDS}" for _ in range(40))
        async with running(f"{slow} {good.url}", retry_seconds=0.5) as to:
            telling = asyncio.ensure_future(to.tell(alert(1)))
            await title(good)
            assert await asyncio.wait_for(telling, SECONDS)
        hung.answer.set()


class Mailbox:
    """What the SMTP server calls for each message, in a thread of its own."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def mail() -> Iterator[tuple[Mailbox, int]]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=processes.free_port(), ready_timeout=SECONDS)
    controller.start()
    try:
        yield mailbox, controller.port
    finally:
        controller.stop()


async def test_an_alert_comes_by_mail_as_plain_text(mail: tuple[Mailbox, int]) -> None:
    mailbox, port = mail
    url = f"mailto://127.0.0.1:{port}?from=postlog@example.com&to=ops@example.com,oncall@example.com&format=text"
    async with running(url) as to:
        assert await asyncio.wait_for(to.tell(alert(1)), SECONDS)
    recipients = {recipient for envelope in mailbox.envelopes for recipient in envelope.rcpt_tos}
    assert recipients == {"ops@example.com", "oncall@example.com"}
    received = email.message_from_bytes(
        bytes(mailbox.envelopes[0].original_content or b""), policy=email.policy.default
    )
    assert received["Subject"] == "postlog: 1 dead letter, hard_bounce, p1: NoRecipient"
    body = received.get_body(("plain",))
    assert body is not None
    assert "reason: a reason <b>&</b>" in body.get_content()


async def test_without_a_url_alerts_go_to_the_log_in_one_line() -> None:
    with structlog.testing.capture_logs() as lines:
        async with running("") as to:
            assert await asyncio.wait_for(to.tell(alert(1)), SECONDS)
    (line,) = lines
    assert line["event"] == "postlog: 1 dead letter, hard_bounce, p1: NoRecipient"
    assert "email-events.dlq, partition 0, offset 1" in line["details"]
    assert "\n" not in str(line)


@pytest.mark.parametrize(
    ("urls", "named"),
    [
        ("verysecret", "entry 1 (unknown://…)"),
        ("nosuch://user:verysecret@host/path", "entry 1 (nosuch://…)"),
        ("json://127.0.0.1:1/x json://:verysecret@", "entry 2 (json://…)"),
        ("json://127.0.0.1:1/x,json://verysecret", "not commas"),
        ("mailto://verysecret", "entry 1 (mailto://…)"),
    ],
)
async def test_a_url_that_cannot_work_is_refused_at_the_start_and_its_secret_not_shown(
    urls: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError) as refused:
        channels.from_settings(environment.load({"ALERT_URLS": urls}))
    assert named in str(refused.value)
    assert "verysecret" not in str(refused.value)
    if "mailto" not in urls:  # a host is no secret to apprise
        assert "verysecret" not in caplog.text
