"""The rules of the measurements of lookup, state and the whole way: what they ask, read and tell."""

from __future__ import annotations

import msgspec

from bench import end_to_end, exchange, lookup, machine, rows, state
from bench.load import Probed, Sent
from processor import dedup

NOW = 1_760_000_000_000


def test_half_of_the_addresses_that_are_asked_are_on_the_list() -> None:
    on_the_list = {lookup.listed(number) for number in range(lookup.LISTED)}
    asked = lookup.asked()
    assert len(asked) == len(set(asked)) == lookup.ASKED
    assert [address in on_the_list for address in asked] == [True, False] * (lookup.ASKED // 2)


def test_an_answer_is_read_once_it_is_all_there() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert exchange.read(answer) == (200, b"ok")
    assert all(exchange.read(answer[:end]) is None for end in range(len(answer)))


def test_live_ids_are_in_the_buckets_that_are_looked_up() -> None:
    found = [row for page in state.pages(10_000, NOW) for row in dedup.rows_of(None, page)]
    assert len({key for key, _ in found}) == 10_000
    assert all(key >= dedup.floor(NOW) for key, _ in found)
    assert all(value and NOW - dedup.WINDOW_MS < dedup.unpack(value).at <= NOW for _, value in found)


def test_restoring_takes_from_the_first_lane_until_the_last() -> None:
    line = "2026-01-01T00:00:0%d.000000Z [info     ] lane open   next=1 partition=1 restored=5 seconds=%d.0 service=x"
    assert state.restored_of("\n".join(["else", line % (3, 2), line % (6, 2)])) == {"rows": 10, "seconds": 5}


def test_rows_are_shared_out_by_their_keys() -> None:
    shares = rows.shared_out(((b"%d" % number, b"") for number in range(100)), 12)
    assert sum(map(len, shares)) == 100
    assert len([share for share in shares if share]) > 6


def test_the_rate_that_is_told_counts_probes_too() -> None:
    found = end_to_end.figures_of(Sent({200: 4750}, 10.0), Probed([3.0, 1.0, 2.0], 0), 500)
    assert found["events/s"] == 475 + end_to_end.PROBES
    assert (found["p50 ms"], found["p99 ms"]) == (2.0, 3.0)


def test_a_rate_that_was_not_reached_has_no_latency() -> None:
    assert end_to_end.figures_of(Sent({200: 4000}, 10.0), Probed([3.0, 1.0, 2.0], 0), 500).keys() == {"events/s"}


def test_what_a_sender_says_is_read_back() -> None:
    sent = Sent({200: 3, 503: 1}, 1.0)
    assert msgspec.json.decode(msgspec.json.encode(sent), type=Sent, strict=False) == sent


def test_versions_are_found_in_what_programs_say() -> None:
    assert machine.number("wrk debian/4.1.0-3build1 [epoll]") == "4.1.0"
    assert machine.number("nothing") is None
    assert machine.model("processor\t: 0\nmodel name\t: AMD EPYC\n") == "AMD EPYC"
