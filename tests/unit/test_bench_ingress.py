"""What is posted is signed and different each time, and what wrk says is understood."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench import bodies, wrk
from bench.ingress import BATCHES, LIMIT, STEADY, WIDE, cases, figures
from bench.receivers import CANDIDATES
from bench.stand import Wrong
from console.sample import SHARES
from ingress import signatures
from ingress.delivery import Delivery, Told
from ingress.providers import PROVIDERS
from pipeline.contract import EventType
from pipeline.errors import BadSignature
from tests.e2e.system import SECRET

LINE = (
    'measured {"requests": 2000, "seconds": 4.000000, "refused": 3, "broken": 1, '
    '"p50": 1.500, "p99": 20.250, "p999": 31.000}'
)
ANSWERED = wrk.Answered(requests=2000, seconds=4.0, refused=3, broken=1, p50=1.5, p99=20.25, p999=31.0)


def test_what_wrk_says_is_found_among_its_other_lines() -> None:
    assert wrk.read(f"Running 4s test @ http://127.0.0.1:1\n  1 threads\n{LINE}\n") == ANSWERED


def test_a_wrk_that_says_nothing_is_no_figure() -> None:
    with pytest.raises(Wrong, match="unable to connect"):
        wrk.read("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.parametrize("size", [None, 1, 100])
def test_every_delivery_carries_a_signature_that_the_ingress_takes(size: int | None) -> None:
    for body in bodies.deliveries(size):
        signatures.hmac_sha256_hex(body, signature=bodies.signature(body, SECRET), secrets=[SECRET.encode()])
    with pytest.raises(BadSignature):
        signatures.hmac_sha256_hex(body, signature=bodies.signature(body, "another"), secrets=[SECRET.encode()])


def test_a_file_holds_a_path_a_signature_and_a_body_a_line(tmp_path: Path) -> None:
    lines = bodies.write(tmp_path / "bodies", None, SECRET).read_bytes().splitlines()
    assert len(lines) >= 20_000
    path, signature, body = lines[7].split(b"\t")
    assert (path, body) == (bodies.PATH, bodies.event(7))
    signatures.hmac_sha256_hex(body, signature=signature.decode(), secrets=[SECRET.encode()])


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_a_batch_is_an_array_of_so_many_events_that_differ(size: int) -> None:
    events = [event for body in bodies.deliveries(size) for event in json.loads(body)]
    assert len(events) == len({event["id"] for event in events}) >= 20_000
    assert {len(json.loads(body)) for body in bodies.deliveries(size)} == {size}


def test_events_are_of_realistic_size_and_of_all_types_and_have_addresses_of_their_own() -> None:
    made = [bodies.event(number) for number in range(1000)]
    read = [json.loads(body) for body in made]
    assert 250 <= sum(map(len, made)) / len(made) <= 350
    assert {event["type"] for event in read} == set(SHARES)
    assert len({event["data"]["email"] for event in read}) == len(read)


def test_the_ingress_understands_every_field_that_is_posted() -> None:
    body = bodies.event(5)
    provider = PROVIDERS["nexuspromail"]
    (told,) = provider.read(Delivery(method="POST", headers={}, body=body, received_at=0, query={}))
    assert isinstance(told, Told)
    assert (told.id, told.recipient) == (bodies.identity(5), "person5@example.com")
    assert told.occurred_at == 1735689605000
    assert provider.types[told.type] is not EventType.UNKNOWN


def test_figures_are_per_second_and_cpu_per_million() -> None:
    told = figures(WIDE, ANSWERED, cpu=0.5)
    assert told == {
        "requests/s": 500,
        "p50 ms": 1.5,
        "p99 ms": 20.25,
        "p99.9 ms": 31,
        "cpu s/million": 250,
    }


def test_a_rate_that_was_not_reached_is_told() -> None:
    assert figures(replace(STEADY, rate=1000.0), ANSWERED, cpu=0.5)["of the rate"] == 0.5


def test_figures_of_batches_are_per_event() -> None:
    told = figures(BATCHES[2], ANSWERED, cpu=0.5)
    assert told["events/s"] == 50_000
    assert math.isclose(told["cpu s/million"], 2.5)


def test_a_quick_look_is_64_connections_and_batches_of_100() -> None:
    quick = {c.name: [case.name for case in cases(c, quick=True)] for c in CANDIDATES if c.quick}
    assert quick[LIMIT] == ["64 connections"]
    assert quick["postlog"] == ["64 connections", "batches of 100"]
    assert STEADY not in cases(CANDIDATES[1], quick=False)
