"""The lookup API over a real RocksDB, with a follower that only says whether the list is whole."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import prometheus_client
import pytest
from yarl import URL

from lookup import answers, api, questions
from lookup.progress import Progress
from lookup.store import Store
from pipeline import service, suppression
from pipeline.access import Access
from pipeline.errors import ConfigError, StoreBroken
from pipeline.service import Health
from pipeline.suppression import Choice, Facts, Span, Suppression
from tests.damage import flip, largest_table

NEW_YEAR = 1_767_225_600_000
BOUNCED = Facts(hard_bounce=Span(NEW_YEAR, NEW_YEAR))
CAME_BACK = Facts(choice=Choice(NEW_YEAR, "1", "subscribed"))


class FakeFollower:
    def __init__(self) -> None:
        self.caught_up = True
        self.lost = False

    def live(self) -> Health:
        return Health(True, {"lag": 0})

    def ready(self) -> Health:
        return Health(self.caught_up, {"caught_up": self.caught_up})


class Client:
    """Asks one running API."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session, self.base = session, base

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON body; the path goes out exactly as it is."""
        async with self.session.get(URL(self.base + path, encoded=True)) as response:
            return response.status, await response.json()

    async def check(self, body: object) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(f"{self.base}/suppressions/check", data=io.BytesIO(data)) as response:
            return response.status, await response.json()

    async def lines(self, query: str = "") -> list[Any]:
        async with self.session.get(f"{self.base}/suppressions{query}") as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "application/x-ndjson"
            return [json.loads(line) async for line in response.content]

    async def response(self, path: str) -> tuple[aiohttp.ClientResponse, str]:
        async with self.session.get(f"{self.base}{path}") as response:
            return response, await response.text()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def follower() -> FakeFollower:
    return FakeFollower()


@asynccontextmanager
async def asking(store: Store, follower: FakeFollower) -> AsyncIterator[Client]:
    runner = await service.serve(api.build(store, follower, Access(None)), "127.0.0.1", 0, shutdown_timeout=1.0)
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(session, "http://{}:{}".format(*runner.addresses[0][:2]))
    finally:
        await runner.cleanup()


@pytest.fixture
async def client(store: Store, follower: FakeFollower) -> AsyncIterator[Client]:
    async with asking(store, follower) as client:
        yield client


def counted(route: str, status: int) -> float:
    labels = {"route": route, "status": str(status)}
    return prometheus_client.REGISTRY.get_sample_value("postlog_lookup_requests_total", labels) or 0.0


def row(email: str, value: bytes) -> bytes | None:
    return answers.row(email.encode(), value).value


def keep(store: Store, emails: Iterable[str], facts: Facts = BOUNCED) -> None:
    rows = {email.encode(): row(email, suppression.encode(Suppression.of(email, facts))) for email in emails}
    store.apply(rows, Progress(NEW_YEAR, {}))


async def test_a_suppressed_address_is_answered_with_its_causes(store: Store, client: Client) -> None:
    keep(store, ["a@example.com"])
    assert await client.get("/suppressions/a@example.com") == (
        200,
        {
            "email": "a@example.com",
            "suppressed": True,
            "causes": {"hard_bounce": {"first": "2026-01-01T00:00:00.000Z", "latest": "2026-01-01T00:00:00.000Z"}},
            "updated_at": "2026-01-01T00:00:00.000Z",
        },
    )


async def test_an_unknown_address_is_answered_as_not_suppressed(client: Client) -> None:
    assert await client.get("/suppressions/nobody@example.com") == (
        200,
        {"email": "nobody@example.com", "suppressed": False, "causes": {}, "updated_at": None},
    )


@pytest.mark.parametrize(
    "email",
    [
        "a+b@example.com",
        "a/b@example.com",
        "a/../b@example.com",
        "a//b@example.com",
        "50%@example.com",
        "a%2bb@example.com",
        "a?b#c&d=e@example.com",
        "josé@example.com",
        "用户@xn--r8jz45g.jp",
        "check@example.com",
        "o'neil@example.com",
        '"two@ats"@example.com',
    ],
)
async def test_an_address_is_found_however_it_is_encoded(store: Store, client: Client, email: str) -> None:
    keep(store, [email])
    for safe in ("", "/", "/+@"):
        status, answer = await client.get(f"/suppressions/{quote(email, safe=safe)}")
        assert (status, answer["email"], answer["suppressed"]) == (200, email, True)


async def test_an_entry_under_the_key_of_an_earlier_release_still_counts(store: Store, client: Client) -> None:
    keep(store, ["ann@bücher.example"])
    for spelling in ("ann@bücher.example", "ann@xn--bcher-kva.example"):
        assert (await client.get(f"/suppressions/{quote(spelling)}"))[1]["suppressed"] is True
        assert (await client.check({"emails": [spelling]}))[1]["suppressed"] == 1


async def test_a_plus_in_a_path_is_a_plus(store: Store, client: Client) -> None:
    keep(store, ["a+b@example.com"])
    assert (await client.get("/suppressions/a+b@example.com"))[1]["suppressed"] is True


async def test_an_address_is_normalised_before_it_is_looked_up(store: Store, client: Client) -> None:
    keep(store, ["josé@example.com"])
    decomposed = quote(" Jose\u0301@EXAMPLE.com ")
    answer = (await client.get(f"/suppressions/{decomposed}"))[1]
    assert (answer["email"], answer["suppressed"]) == ("josé@example.com", True)


@pytest.mark.parametrize("host", ["", "http://127.0.0.1"])
@pytest.mark.parametrize("step", ["/", "./", "%2e/", "%2e%2e/suppressions/"])
async def test_a_path_with_a_step_never_says_that_an_address_may_be_mailed(
    store: Store, client: Client, host: str, step: str
) -> None:
    keep(store, ["a@example.com"])
    at = URL(client.base)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    target = f"{host}/suppressions/{step}a@example.com"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.split()[1] in ("400", "404") or '"suppressed":true' in answer


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/suppressions/a@example.com"), ("GET", "/suppressions"), ("POST", "/suppressions/check")],
)
async def test_a_page_in_an_operators_browser_learns_nothing(
    store: Store, client: Client, method: str, path: str
) -> None:
    keep(store, ["a@example.com"])
    headers = {"Host": "evil.example"}
    async with client.session.request(method, client.base + path, headers=headers, json={"emails": []}) as answer:
        assert answer.status == 403
        assert "a@example.com" not in await answer.text()


@pytest.mark.parametrize("path", ["nonsense", "check", "a%20b@example.com", "%00@example.com", "jos%E9@example.com"])
async def test_what_is_no_address_is_refused(client: Client, path: str) -> None:
    status, answer = await client.get(f"/suppressions/{path}")
    assert status == 400
    assert answer["error"].startswith("email: ")


async def test_an_address_whose_record_cannot_be_read_is_an_error_and_not_a_no(store: Store, client: Client) -> None:
    store.apply({b"a@example.com": row("a@example.com", b'{"v":2}')}, Progress(0, {}))
    status, answer = await client.get("/suppressions/a@example.com")
    assert (status, answer["suppressed"]) == (500, None)
    assert "cannot be read" in answer["error"]
    status, answer = await client.check({"emails": ["a@example.com"]})
    assert (status, answer["results"][0]["suppressed"], answer["suppressed"]) == (200, None, 0)


async def test_a_check_answers_each_address_in_order_and_as_given(store: Store, client: Client) -> None:
    keep(store, ["a@example.com"])
    keep(store, ["b@example.com"], CAME_BACK)
    emails = ["c@example.com", "A@example.com", "nonsense", "b@example.com", "a@example.com"]
    status, answer = await client.check({"emails": emails})
    assert status == 200
    error = answer["results"][2].pop("error")
    assert "local-part@domain" in error
    assert answer == {
        "results": [
            {"email": "c@example.com", "suppressed": False, "causes": []},
            {"email": "A@example.com", "suppressed": True, "causes": ["hard_bounce"]},
            {"email": "nonsense", "suppressed": None, "causes": []},
            {"email": "b@example.com", "suppressed": False, "causes": []},
            {"email": "a@example.com", "suppressed": True, "causes": ["hard_bounce"]},
        ],
        "suppressed": 2,
    }


async def test_a_check_takes_ten_thousand_addresses(store: Store, client: Client) -> None:
    emails = [f"{'x' * 50}{number}@{'y' * 60}.{'z' * 60}.example.com" for number in range(questions.MOST_EMAILS)]
    keep(store, emails[::2])
    status, answer = await client.check({"emails": emails})
    assert (status, answer["suppressed"]) == (200, questions.MOST_EMAILS // 2)
    assert [result["email"] for result in answer["results"] if result["suppressed"]] == emails[::2]


async def test_an_empty_check_has_no_results(client: Client) -> None:
    assert await client.check({"emails": []}) == (200, {"results": [], "suppressed": 0})


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"{", 400, "value"),
        ({"emails": [1]}, 400, "emails[0]"),
        ({"emails": ["a@b.c"] * 10_001}, 413, "10001"),
        (b" " * (questions.LARGEST_BODY + 1), 413, str(questions.LARGEST_BODY)),
    ],
)
async def test_a_wrong_check_is_refused_naming_what_is_wrong(
    client: Client, body: object, status: int, named: str
) -> None:
    got, answer = await client.check(body)
    assert got == status
    assert named in answer["error"]


async def test_a_listing_is_in_key_order_and_ends_with_the_cursor(store: Store, client: Client) -> None:
    keep(store, ["b@example.com", "a@example.com"])
    first, second, last = await client.lines()
    assert (first["email"], second["email"]) == ("a@example.com", "b@example.com")
    assert first == (await client.get("/suppressions/a@example.com"))[1]
    assert last == {"next": None}


async def test_an_empty_list_is_one_line(client: Client) -> None:
    assert await client.lines() == [{"next": None}]


@pytest.mark.parametrize("limit", [1, 7, api.SLICE, 1000, 0])
async def test_following_the_cursor_gives_every_row_exactly_once(store: Store, client: Client, limit: int) -> None:
    count = 40 if limit < api.SLICE and limit else 2 * api.SLICE
    emails = [f"user+{number:04}/é@example.com" for number in range(count)]
    keep(store, emails)
    found, cursor, pages = [], "", 0
    while cursor is not None:
        *rows, last = await client.lines(f"?limit={limit}&after={quote(cursor)}")
        assert not limit or len(rows) <= limit
        found += [row["email"] for row in rows]
        cursor, pages = last["next"], pages + 1
        assert pages <= count, "the cursor does not come to an end"
    assert found == emails
    assert pages == (-(-count // limit) if limit else 1)


async def test_a_cursor_with_a_plus_that_nobody_encoded_still_gets_on(store: Store, client: Client) -> None:
    keep(store, ["a+1@example.com", "a+2@example.com"])
    assert (await client.lines("?limit=1&after=a+1@example.com"))[0]["email"] == "a+2@example.com"


async def test_a_listing_gives_only_what_is_suppressed_unless_asked(store: Store, client: Client) -> None:
    # More than a page of rows that do not match come first, so a page may be empty without being the last.
    back = [f"a{number:04}@example.com" for number in range(api.SLICE + 10)]
    keep(store, back, CAME_BACK)
    keep(store, ["b@example.com"])
    assert [row["email"] for row in (await client.lines())[:-1]] == ["b@example.com"]
    assert [row["email"] for row in (await client.lines("?suppressed=false"))[:-1]] == back
    assert [row["email"] for row in (await client.lines("?suppressed=all"))[:-1]] == [*back, "b@example.com"]


async def test_a_wrong_listing_is_refused(client: Client) -> None:
    status, answer = await client.get("/suppressions?limit=some")
    assert status == 400
    assert answer["error"].startswith("limit: ")


@pytest.mark.parametrize("path", ["/suppressions/a@example.com", "/suppressions"])
async def test_half_a_list_answers_nothing(store: Store, follower: FakeFollower, client: Client, path: str) -> None:
    keep(store, ["a@example.com"])
    follower.caught_up = False
    response, text = await client.response(path)
    assert response.status == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "not caught up yet" in json.loads(text)["error"]
    assert (await client.check({"emails": ["a@example.com"]}))[0] == 503
    assert (await client.get("/health/ready"))[0] == 503
    assert (await client.get("/health/live"))[0] == 200


async def test_a_list_that_the_topic_has_lost_answers_nothing_and_says_so(
    store: Store, follower: FakeFollower, client: Client
) -> None:
    follower.caught_up, follower.lost = False, True
    response, text = await client.response("/suppressions/a@example.com")
    assert (response.status, int(response.headers["Retry-After"]) > 0) == (503, True)
    assert "the topic lacks addresses that this list knew" in json.loads(text)["error"]
    assert (await client.check({"emails": ["a@example.com"]}))[0] == 503


async def test_a_listing_that_outlives_the_list_does_not_look_complete(
    store: Store, follower: FakeFollower, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, [f"a{number:04}@example.com" for number in range(api.SLICE + 10)])

    def page(after: bytes, size: int) -> list[tuple[bytes, bytes]]:
        follower.caught_up = False  # the list is begun anew while this page is sent
        return whole(after, size)

    whole = store.page
    monkeypatch.setattr(store, "page", page)
    *rows, last = await client.lines()
    assert len(rows) == api.SLICE
    assert "not caught up" in last["error"]


async def test_a_check_that_outlives_the_list_has_no_answer(
    store: Store, follower: FakeFollower, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_many(keys: Sequence[bytes]) -> list[bytes | None]:
        follower.caught_up = False  # the list is begun anew between two slices
        return whole(keys)

    whole = store.get_many
    monkeypatch.setattr(store, "get_many", get_many)
    status, answer = await client.check({"emails": ["a@example.com"] * (api.SLICE + 1)})
    assert status == 503
    assert "not caught up" in answer["error"]


async def test_requests_are_counted_by_question_and_status(store: Store, client: Client) -> None:
    before = counted("one", 200), counted("one", 400)
    await client.get("/suppressions/a@example.com")
    await client.get("/suppressions/b@example.com")
    await client.get("/suppressions/nonsense")
    assert (counted("one", 200), counted("one", 400)) == (before[0] + 2, before[1] + 1)


async def test_metrics_tell_how_many_rows_there_are(store: Store, client: Client) -> None:
    keep(store, ["a@example.com", "b@example.com"])
    _, text = await client.response("/metrics")
    assert "postlog_lookup_rows 2.0" in text


def test_a_second_process_on_one_store_is_refused_with_the_cure(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"STATE_DIR.*another lookup"):
        Store(tmp_path / "store")


def many(store: Store) -> list[str]:
    """So many rows that they fill several blocks of a file."""
    emails = [f"{secrets.token_hex(20)}@example.com" for _ in range(2_000)]
    keep(store, emails)
    return sorted(emails)


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[tuple[Store, list[str]]]:
    """A store with a block that cannot be read, and the addresses in it."""
    path = tmp_path / "damaged"
    store = Store(path)
    emails = many(store)
    store.close()
    Store(path).close()  # writes what is in memory to a file
    flip(largest_table(path))
    store = Store(path)
    yield store, emails
    store.close()


async def test_a_damaged_list_says_no_address_may_be_mailed(damaged: tuple[Store, list[str]]) -> None:
    store, emails = damaged
    async with asking(store, FakeFollower()) as client:
        answers = [(await client.get(f"/suppressions/{email}"))[0] for email in emails]
        assert set(answers) == {200, 503}
        assert store.broken
        response, text = await client.response(f"/suppressions/{emails[answers.index(503)]}")
        assert "cannot be read" in text
        assert response.headers["Retry-After"] == "5"
        assert (await client.check({"emails": emails}))[0] == 503
        *rows, last = await client.lines("?limit=0")
        assert len(rows) < len(emails)
        assert "cannot be read" in last["error"]


def test_a_damaged_list_is_discarded_when_it_is_closed(damaged: tuple[Store, list[str]]) -> None:
    store, emails = damaged
    with pytest.raises(StoreBroken, match="block checksum mismatch"):
        store.get_many([email.encode() for email in emails])
    store.close()
    again = Store(store.path)
    assert (again.page(b"", 10), again.progress()) == ([], None)
    again.close()


def test_a_list_that_cannot_be_opened_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "list"
    store = Store(path)
    many(store)
    store.close()
    for file in path.glob("MANIFEST-*"):
        file.write_bytes(secrets.token_bytes(100))
    again = Store(path)
    assert again.progress() is None
    again.close()


def test_clearing_the_store_leaves_no_row_and_the_new_progress(store: Store) -> None:
    keep(store, [f"{number}@example.com" for number in range(10)])
    store.clear(Progress(7, {}))
    assert (store.page(b"", 100), store.rows(), store.progress()) == ([], 0, Progress(7, {}))
