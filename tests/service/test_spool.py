"""The spool on a real disk: in order, synced before it is answered for, and there again after a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ingress import spool
from ingress.accept import Outgoing
from ingress.spool import Spool
from ingress.spooling import Limits
from pipeline.errors import ConfigError, KafkaUnavailable, StoreBroken, StoreLocked
from tests.service.test_store import flip

LIMITS = Limits(size=10_000_000, age=3_600.0)

#: Takes deliveries until it is killed, and says of each when it is safe.
TAKER = """
import asyncio, sys
from pathlib import Path
from tests.service.test_spool import LIMITS, outgoing
from ingress.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), LIMITS)
    for number in range(1_000_000):
        await asyncio.gather(*[spool.append([outgoing(f"{number}-{n}")]) for n in range(5)])
        print(number, flush=True)

asyncio.run(main())
"""


def outgoing(text: str, size: int = 0) -> Outgoing:
    return Outgoing("events", "opened", text.encode(), text.encode() + b" " * size, [])


def texts(found: Spool) -> list[str]:
    return [(row.record.key or b"").decode() for _, _, row in found.head(1_000_000)]


async def test_rows_leave_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    mine = Spool(tmp_path, LIMITS)
    await asyncio.gather(*[mine.append([outgoing(f"{n}a"), outgoing(f"{n}b")]) for n in range(50)])
    wanted = [f"{n}{letter}" for n in range(50) for letter in "ab"]
    assert texts(mine) == wanted
    mine.drop(mine.head(30))
    assert (texts(mine), mine.rows, mine.filled.is_set()) == (wanted[30:], 70, True)
    await mine.close()
    again = Spool(tmp_path, LIMITS)
    assert (texts(again), again.rows, again.filled.is_set()) == (wanted[30:], 70, True)
    await again.append([outgoing("last")])
    assert texts(again) == [*wanted[30:], "last"]
    again.drop(again.head(100))
    assert (again.rows, again.filled.is_set()) == (0, False)
    await again.close()


async def test_it_takes_no_more_than_it_may_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    mine = Spool(tmp_path, Limits(size=3_000, age=3_600.0))
    await mine.append([outgoing("a", 2_000)])
    with pytest.raises(KafkaUnavailable, match="INGRESS_SPOOL_MAX_BYTES"):
        await mine.append([outgoing("b", 2_000)])
    mine.drop(mine.head(1))
    await mine.append([outgoing("b", 2_000)])
    assert texts(mine) == ["b"]
    await mine.close()


async def test_a_kill_at_any_moment_loses_nothing_that_was_answered_for(tmp_path: Path) -> None:
    for _ in range(3):
        taker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TAKER, str(tmp_path), stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
        )
        assert taker.stdout is not None
        said = [await taker.stdout.readline() for _ in range(20)]
        taker.send_signal(signal.SIGKILL)
        said += (await taker.stdout.read()).splitlines()
        await taker.wait()
        safe = max(int(line) for line in said if line.strip())
        found = Spool(tmp_path, LIMITS)
        held = texts(found)
        wanted = [f"{number}-{n}" for number in range(safe + 1) for n in range(5)]
        assert held[: len(wanted)] == wanted
        found.drop(found.head(len(held)))
        await found.close()


async def test_a_disk_that_refuses_means_that_the_sender_tries_again(tmp_path: Path) -> None:
    mine = Spool(tmp_path, LIMITS)
    mine._db.close()
    with pytest.raises(KafkaUnavailable, match="cannot be written"):
        await mine.append([outgoing("a")])


async def test_each_process_has_its_own_and_takes_over_what_others_left(tmp_path: Path) -> None:
    one, left = spool.claim(tmp_path, "p.", LIMITS)
    two, none = spool.claim(tmp_path, "p.", LIMITS)
    assert (left, none, one.folder == two.folder) == ([], [], False)
    other, _ = spool.claim(tmp_path, "q.", LIMITS)
    for number, each in enumerate((one, two, other)):
        await each.append([outgoing(str(number))])
        await each.close()
    own, left = spool.claim(tmp_path, "p.", LIMITS)
    assert [texts(each) for each in (own, *left)] == [["0"], ["1"]]
    with pytest.raises(StoreLocked):
        Spool(left[0].folder, LIMITS)
    await left[0].discard()
    await own.close()
    assert not left[0].folder.exists()


def test_a_folder_that_cannot_be_had_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="INGRESS_SPOOL_DIR"):
        spool.claim(file, "", LIMITS)


async def test_a_damaged_spool_does_not_pass_for_one_that_ends_there(tmp_path: Path) -> None:
    mine = Spool(tmp_path, Limits(size=100_000_000, age=3_600.0))
    await mine.append([outgoing(f"{n}", size=100) for n in range(20_000)])
    await mine.close()
    Spool(tmp_path, LIMITS)._db.close()  # writes what is in memory to table files
    flip(tmp_path)
    with pytest.raises(StoreBroken, match="holds deliveries that are nowhere else"):
        Spool(tmp_path, LIMITS)
