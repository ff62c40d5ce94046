"""The commands that list, export and change suppressions, over a real lookup API on a store of the test's own.

In place of Kafka and the processor stands a log in memory that applies what is written at once.
"""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from console import asking, event_log, suppression_words
from console.__main__ import main
from console.event_log import Written
from console.processes import free_port
from lookup import answers, api
from lookup.progress import Progress
from lookup.store import Store
from pipeline import operators, service, suppression
from pipeline.access import Access
from pipeline.contract import Event, EventType
from pipeline.service import Health
from pipeline.settings import Settings
from pipeline.suppression import Choice, Facts, Span, Suppression, Word
from processor.suppressions import facts_of, join

NEW_YEAR = 1_767_225_600_000
BOUNCED = Facts(hard_bounce=Span(NEW_YEAR, NEW_YEAR + 5))
SAID_NO = Facts(word=Word(NEW_YEAR, "1", "suppressed", "me@here", "asked, by phone"))
CAME_BACK = Facts(choice=Choice(NEW_YEAR, "1", "subscribed"))


class Following:
    caught_up = True
    lost = False

    def live(self) -> Health:
        return Health(True, {})

    ready = live


@dataclass
class World:
    """A list, its API, and a log that feeds it while `working`."""

    store: Store
    url: str = ""
    working: bool = True
    clock: int = NEW_YEAR + 86_400_000  # the log's, in ms
    written: list[Event] = field(default_factory=list)
    facts: dict[str, Facts] = field(default_factory=dict)

    async def append(
        self, settings: Settings, events: Iterable[Event], progress: Callable[[int], None] = lambda _: None
    ) -> Written:
        before = len(self.written)
        self.written += events
        for event in self.written[before:] if self.working else ():
            self.keep(event.email or "", facts_of(event, self.clock))
        progress(len(self.written) - before)
        return Written(len(self.written) - before, self.clock)

    def keep(self, email: str, facts: Facts) -> None:
        self.facts[email] = join(self.facts.get(email, Facts()), facts)
        self.keep_value(email, suppression.encode(Suppression.of(email, self.facts[email])))

    def keep_value(self, email: str, value: bytes) -> None:
        row = answers.row(email.encode(), value)
        self.store.apply({email.encode(): row.value}, Progress(NEW_YEAR, {}))

    async def run(self, command: str, *args: str | Path) -> Result:
        """Run a subcommand, in a thread of its own since it blocks."""
        where = [] if command == "import" else ["--url", self.url]
        line = ["suppressions", command, *map(str, args), *where]
        return await asyncio.to_thread(CliRunner().invoke, main, line, obj={})


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.chdir(tmp_path)
    found = World(Store(tmp_path / "store"))
    monkeypatch.setattr(event_log, "append", found.append)
    runner = await service.serve(
        api.build(found.store, Following(), Access(None)), "127.0.0.1", 0, shutdown_timeout=1.0
    )
    found.url = "http://{}:{}".format(*runner.addresses[0][:2])
    yield found
    await runner.cleanup()
    # The metric outlives the store, and other tests read all metrics.
    api.ROWS.set_function(lambda: 0)
    found.store.close()


async def test_an_address_that_is_added_is_shown_with_who_and_why(world: World) -> None:
    result = await world.run("add", " Ann@Example.com", "--because", "asked by phone", "--who", "bob")
    assert result.exit_code == 0, result.output
    assert "ann@example.com: suppressed, do not mail\n  operator  at 2" in result.output
    assert "by bob: asked by phone" in result.output
    (event,) = world.written
    assert (event.provider, event.type, event.email) == ("operator", EventType.SUPPRESSED, "ann@example.com")
    assert operators.said(event) == operators.Said("bob", "asked by phone")


async def test_every_word_has_an_id_of_its_own_and_somebody_who_says_it(world: World) -> None:
    for _ in range(2):
        assert (await world.run("add", "a@example.com", "--because", "x")).exit_code == 0
    one, other = world.written
    assert one.id != other.id
    assert "@" in operators.said(one).who


@pytest.mark.parametrize("minutes", [-120, -10, 0, 10, 120])
async def test_an_operators_word_counts_from_when_the_log_took_it_whatever_this_clock_says(
    world: World, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    bounced = world.clock - 1000
    world.keep("a@example.com", Facts(hard_bounce=Span(bounced, bounced)))
    wrong = world.clock / 1000 + 60 * minutes
    monkeypatch.setattr(time, "time", lambda: wrong)
    result = await world.run("remove", "a@example.com", "--because", "repaired", "--who", "bob")
    assert result.exit_code == 0, result.output
    assert "a@example.com: not suppressed any more" in result.output
    assert "by bob: repaired" in result.output
    # What happens after it counts.
    world.keep("a@example.com", Facts(complaint=Span(world.clock + 1, world.clock + 1)))
    assert world.facts["a@example.com"].causes().keys() == {"complaint"}


async def test_what_is_later_than_a_removal_stands_and_the_command_says_so(world: World) -> None:
    future = world.clock + 7_200_000
    world.keep("a@example.com", Facts(hard_bounce=Span(future, future)))
    result = await world.run("remove", "a@example.com", "--because", "repaired")
    assert result.exit_code == 0, result.output
    assert "a@example.com: suppressed, do not mail" in result.stdout
    assert "is later than this word" in result.stderr


@pytest.mark.parametrize("facts", [None, CAME_BACK])
async def test_removing_what_is_not_suppressed_does_nothing_unless_forced(world: World, facts: Facts | None) -> None:
    if facts:
        world.keep("a@example.com", facts)
    result = await world.run("remove", "a@example.com", "--because", "x")
    assert (result.exit_code, world.written) == (0, [])
    assert "is not suppressed, so nothing is done" in result.output
    assert (await world.run("remove", "a@example.com", "--because", "x", "--force")).exit_code == 0
    assert [event.type for event in world.written] == [EventType.REINSTATED]


async def test_a_word_that_does_not_show_in_time_is_told_as_written_and_not_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppression_words, "PATIENCE", 0.3)
    world.working = False
    result = await world.run("add", "a@example.com", "--because", "x")
    assert result.exit_code == 1
    assert "written to the log and will count, but the list does not show it within 0.3 s" in result.stderr
    result = await world.run("add", "a@example.com", "--because", "x", "--no-wait")
    assert (result.exit_code, result.output) == (0, "a@example.com: written to the log\n")
    assert len(world.written) == 2


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["nobody", "--because", "x"], "'nobody' is not an address"),
        (["a@x.io"], "Missing option '--because'"),
        (["a@x.io", "--because", "  "], "say why"),
        (["a@x.io", "--because", "two\nlines"], "one line of printable text"),
        (["a@x.io", "--because", "x" * 1001], "longer than 1000"),
        (["a@x.io", "--because", "x", "--who", "y" * 201], "longer than 200"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    world: World, args: list[str], reason: str
) -> None:
    result = await world.run("add", *args)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert world.written == []


async def test_a_good_file_is_written_and_again_gives_the_same_ids(world: World, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("email,cause\na@example.com,\nb@example.com,complaint\n")
    for _ in range(2):
        result = await world.run("import", file, "--because", "from before")
        assert (result.exit_code, result.output[:20]) == (0, "2 rows are on the lo")
    assert [e.type for e in world.written[:2]] == [EventType.SUPPRESSED, EventType.COMPLAINT]
    assert [e.id for e in world.written[:2]] == [e.id for e in world.written[2:]]


async def test_a_file_with_bad_lines_is_not_sent_and_they_are_named(world: World, tmp_path: Path) -> None:
    file = tmp_path / "list.ndjson"
    file.write_text('{"email":"a@example.com"}\n' + '{"email":"nobody"}\n' * 30)
    result = await world.run("import", file)
    assert (result.exit_code, world.written) == (1, [])
    assert "30 bad lines, nothing was sent" in result.stderr
    assert "line 2: email: 'nobody'" in result.stderr
    assert "and 10 more" in result.stderr


@pytest.mark.parametrize(
    ("name", "data", "how"),
    [
        ("list.txt", "ann@example.com\r\nbob@example.com", "UTF-8, one address per line, without a heading"),
        ("list.csv", "\ufeffEmail Address\r\nann@example.com\r\nbob@example.com", "UTF-8, columns email\n"),
        (
            "list.csv",
            "email;cause\nann@example.com;\nbob@example.com;",
            "UTF-8, columns email, cause separated by semi",
        ),
        (
            "list.tsv",
            "email\tcause\nann@example.com\t\nbob@example.com\t",
            "UTF-8, columns email, cause separated by tabs",
        ),
        ("list.txt", "ann@example.com\rbob@example.com\r", "UTF-8, one address per line"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
async def test_a_list_of_any_program_is_taken_and_it_is_said_how_it_was_read(
    world: World, tmp_path: Path, name: str, data: str, how: str, encoding: str
) -> None:
    file = tmp_path / name
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    file.write_bytes(mark + (data if encoding == "utf-8" else data.removeprefix("\ufeff")).encode(encoding))
    result = await world.run("import", file)
    assert result.exit_code == 0, result.output
    assert [event.email for event in world.written] == ["ann@example.com", "bob@example.com"]
    wanted = how if encoding == "utf-8" else how.replace("UTF-8", "UTF-16")
    assert result.stderr.startswith(f"{file}: read as {wanted}")


async def test_a_list_as_it_is_exported_is_read_without_a_word(world: World, tmp_path: Path) -> None:
    for name, text in (
        ("list.csv", "email,cause\nann@example.com,\n"),
        ("list.ndjson", '\ufeff{"email":"b@x.io"}\n'),
    ):
        (tmp_path / name).write_text(text)
        result = await world.run("import", tmp_path / name)
        assert (result.exit_code, result.stderr) == (0, "")
    assert len(world.written) == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("email\nann@example.com".encode("utf-32"), "is UTF-32: save it as UTF-8"),
        ("email\nann@example.com".encode("utf-16-le"), "as UTF-16 without its mark does: save it as UTF-8"),
        ("email\nann@example.com".encode("utf-16")[:-1], "is no whole UTF-16"),
    ],
)
async def test_what_cannot_be_read_is_named_with_its_cure(
    world: World, tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "list.csv").write_bytes(data)
    result = await world.run("import", tmp_path / "list.csv")
    assert (result.exit_code, world.written) == (1, [])
    assert reason in result.stderr


async def test_a_dry_run_checks_and_sends_nothing(world: World, tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("email\na@example.com\n")
    assert "say which format" in (await world.run("import", file)).stderr
    result = await world.run("import", file, "--format", "csv", "--dry-run")
    assert (result.exit_code, world.written) == (0, [])
    assert "1 rows, all of them good; nothing was sent" in result.output


async def test_the_list_shows_who_must_not_be_mailed_and_says_when_there_are_more(world: World) -> None:
    world.keep("a@example.com", BOUNCED)
    world.keep("b@example.com", SAID_NO)
    world.keep("c@example.com", CAME_BACK)
    result = await world.run("list")
    assert result.stdout.splitlines() == [
        "a@example.com  hard_bounce  2026-01-01T00:00:00.005Z",
        "b@example.com  operator  2026-01-01T00:00:00.000Z",
    ]
    assert result.stderr == ""
    assert (await world.run("list", "--cause", "operator")).stdout.startswith("b@example.com")
    result = await world.run("list", "--limit", "1", "--json")
    assert [json.loads(line)["email"] for line in result.stdout.splitlines()] == ["a@example.com"]
    assert "more than 1" in result.stderr


async def test_a_long_list_is_followed_over_its_pages(world: World) -> None:
    emails = [f"user{number:03}@example.com" for number in range(25)]
    for email in emails:
        world.keep(email, BOUNCED)
    assert [known.email async for known in asking.everything(world.url, page=10)] == emails
    assert [known.email async for known in asking.everything(world.url, page=25)] == emails


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_an_export_imported_elsewhere_lists_the_same(world: World, form: str, tmp_path: Path) -> None:
    world.keep("a@example.com", BOUNCED)
    world.keep('"b,c"@example.com', join(SAID_NO, BOUNCED))
    world.keep("=cmd|x@example.com", BOUNCED)
    file = tmp_path / f"list.{form}"
    result = await world.run("export", file)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"3 addresses in {file}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (await world.run("export", f"--{form}")).stdout == file.read_text()
    before = (await world.run("list", "--json")).stdout
    for email in world.facts:
        world.store.apply({email.encode(): None}, Progress(NEW_YEAR, {}))
    world.facts.clear()
    assert (await world.run("list", "--json")).stdout == ""
    assert (await world.run("import", file)).exit_code == 0
    assert (await world.run("list", "--json")).stdout == before


def left_over(folder: Path) -> list[Path]:
    return list(folder.glob(".list.csv*"))


async def test_an_export_that_would_lack_an_address_leaves_the_former_file(world: World, tmp_path: Path) -> None:
    world.keep("a@example.com", BOUNCED)
    world.keep_value("b@example.com", b"{")
    file = tmp_path / "list.csv"
    file.write_text("former")
    result = await world.run("export", file)
    assert result.exit_code == 1
    assert "b@example.com: the record about this address cannot be read" in result.stderr
    assert file.read_text() == "former"
    assert left_over(tmp_path) == []
    assert "cannot be read" in (await world.run("list")).stdout


ROW = '{"email":"a@example.com","suppressed":true,"causes":{},"updated_at":"2026-01-01T00:00:00Z"}\n'


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, ROW, "its last line is missing"),
        (200, "", "its last line is missing"),
        (200, ROW + '{"error":"not caught up"}\n', "the list ended early: not caught up"),
        (200, "<html>\n", "a line is not lookup's"),
        (503, '{"error":"not yet"}', "answered 503: not yet"),
        (404, "no", "is this lookup?"),
    ],
)
async def test_a_list_that_is_not_complete_is_an_error(
    world: World, status: int, body: str, reason: str, tmp_path: Path
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/suppressions", answer)
    runner = await service.serve(app, "127.0.0.1", 0)
    world.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        result = await world.run("export", tmp_path / "list.csv")
    finally:
        await runner.cleanup()
    assert result.exit_code == 1
    assert reason in result.stderr
    assert not (tmp_path / "list.csv").exists()


async def test_without_lookup_there_is_no_list_and_the_error_says_where_to_look(world: World) -> None:
    world.url = f"http://127.0.0.1:{free_port()}"
    result = await world.run("list")
    assert result.exit_code == 1
    assert "Is lookup up?" in result.stderr
