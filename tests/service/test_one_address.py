"""Every spelling of an address is one person, whichever way it comes in."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import click
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from console import options, rows
from console.rows import Bad, Entry
from ingress import accept
from ingress.delivery import Delivery
from ingress.providers import PROVIDERS
from lookup import answers, api
from lookup.progress import Progress
from lookup.store import Store
from pipeline import contract, service
from pipeline.access import Access
from tests.service.test_lookup_api import FakeFollower
from tests.spellings import DOMAIN, DOMAINS, WRAPPERS
from tests.unit.records import NOON, FakeRecord
from tests.unit.test_decide import Memory

PROVIDER = PROVIDERS["nexuspromail"]
PLAIN = ("example.com", "EXAMPLE.com", "example.com.", "example。com", "ｅｘａｍｐｌｅ．com")
#: What each person's addresses have in common, and how the parts of it are written.
PEOPLE = {
    f"ann.b+news@{DOMAIN}": (("ann.b+news", "Ann.B+News", "ＡＮＮ．b+news"), DOMAINS),
    "o'neil@example.com": (("o'neil", "O'NEIL", "o'Neil(home)"), PLAIN),
    "é@example.com": (("é", "É", "e\u0301", "E\u0301"), PLAIN),
}
NOBODY = (
    *("a@example.com,b@example.com", "a@example.com;b@example.com", "a@example.com b@example.com", "a@b@example.com"),
    *(
        "<a@example.com> <b@example.com>",
        "ann@-x.example",
        "ann@example..com",
        "ann@192.0.2.1",
        "@example.com",
        "ann@",
    ),
    *("ann@❤.example", f"{'a' * 65}@example.com", "ann@exa mple.com", "&lt;ann@example.com&gt;"),
)


def spellings(person: str) -> st.SearchStrategy[str]:
    """In any wrapper, case, alphabet and with any dots."""
    locals_, domains = PEOPLE[person]
    ats = st.sampled_from(["@", "＠"])
    return st.builds(
        lambda wrapper, local, at, domain: wrapper.format(f"{local}{at}{domain}"),
        *map(st.sampled_from, (WRAPPERS, locals_)),
        ats,
        st.sampled_from(domains),
    )


def told(text: str) -> list[accept.Outgoing]:
    """The records that an ingress makes of a complaint of this recipient."""
    body = json.dumps({"id": "1", "type": "complained", "data": {"email": text}}).encode()
    return accept.records(PROVIDER, Delivery("POST", {}, body, NOON), fresh_trace="t")


def listed(text: str) -> Memory:
    """What a processor has once the complaint is processed."""
    memory = Memory()
    memory.process([FakeRecord(n, r.value, r.key, headers=r.headers) for n, r in enumerate(told(text))])
    return memory


def imported(text: str) -> list[Entry | Bad]:
    """What an import reads in a CSV and in an NDJSON file with this row."""
    table = io.StringIO()
    csv.writer(table).writerows([["email"], [text]])
    lines = [json.dumps({"email": text}).encode()]
    return [*rows.entries(io.BytesIO(table.getvalue().encode()), "csv"), *rows.entries(lines, "ndjson")]


@click.command()
@options.an_address
def named(email: str) -> None:
    click.echo(email)


def commanded(text: str) -> str | None:
    """What a command takes the argument for, None if it refuses it."""
    done = CliRunner().invoke(named, [text])
    assert done.exit_code in (0, 2), done.output
    return done.stdout.rstrip("\n") if done.exit_code == 0 else None


def asked(memory: Memory, texts: Sequence[str]) -> list[tuple[int, Any, Any]]:
    """Of each text the status and the answer of lookup, and its verdict in a check, with that list."""

    async def ask(store: Store) -> list[tuple[int, Any, Any]]:
        runner = await service.serve(api.build(store, FakeFollower(), Access(None)), "127.0.0.1", 0)
        base = "http://{}:{}".format(*runner.addresses[0][:2])
        try:
            async with aiohttp.ClientSession() as http:
                async with http.post(f"{base}/suppressions/check", json={"emails": list(texts)}) as answer:
                    verdicts = (await answer.json())["results"]
                found = []
                for text, verdict in zip(texts, verdicts, strict=True):
                    url = URL(f"{base}/suppressions/{quote(text, safe='')}", encoded=True)
                    async with http.get(url) as answer:
                        found.append((answer.status, await answer.json(), verdict))
                return found
        finally:
            await runner.cleanup()

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        try:
            store.apply(
                {key: answers.row(key, value).value for key, value in memory.entries.items()}, Progress(1, {})
            )
            return asyncio.run(ask(store))
        finally:
            api.ROWS.set_function(lambda: 0)  # which would ask a closed store
            store.close()


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(PEOPLE)).flatmap(lambda p: st.tuples(st.just(p), st.lists(spellings(p), min_size=2))))
def test_every_spelling_of_a_person_is_that_person_whichever_way_it_comes_in(case: tuple[str, list[str]]) -> None:
    person, texts = case
    memory = listed(texts[0])
    assert memory.suppressed() == {person.encode()}
    for text in texts:
        (record,) = told(text)
        assert (record.key, contract.decode(record.value).email) == (person.encode(), person)
        assert [entry.email for entry in imported(text) if isinstance(entry, Entry)] == [person, person]
        assert commanded(text) == person
    for status, answer, verdict in asked(memory, texts):
        assert (status, answer["email"], answer["suppressed"]) == (200, person, True)
        assert verdict["suppressed"] is True
    strangers = asked(listed("somebody@example.com"), texts)
    assert {(status, answer["suppressed"], verdict["suppressed"]) for status, answer, verdict in strangers} == {
        (200, False, False)
    }


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(NOBODY), st.sampled_from(["{}", "<{}>", "mailto:{}", " {} ", "{}."]))
def test_what_is_no_address_is_none_whichever_way_it_comes_in(nobody: str, wrapper: str) -> None:
    text = wrapper.format(nobody)
    memory = listed(text)
    assert memory.suppressed() == set()
    (record,) = told(text)
    assert contract.decode(record.value).email is None
    assert [type(each) for each in imported(text)] == [Bad, Bad]
    assert commanded(text) is None
    ((status, answer, verdict),) = asked(memory, [text])
    assert (status, "error" in answer) == (400, True)
    assert (verdict["suppressed"], bool(verdict["error"])) == (None, True)
