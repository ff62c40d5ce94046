"""The spool on a real disk: in order, synced before it is answered for, there after a kill, and gone when sent."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from ingress import folders, segments, spool, spooling
from ingress.accept import Outgoing
from ingress.folders import Folder
from ingress.segments import Held
from ingress.spool import Spool
from ingress.spooling import Limits, Row
from pipeline.errors import ConfigError, KafkaUnavailable, StoreLocked
from tests.damage import flip

LIMITS = Limits(size=10_000_000, age=3_600.0, waiting=10_000_000)

#: Takes deliveries until it is killed, and says of each when it is safe.
TAKER = """
import asyncio, sys
from pathlib import Path
from tests.service.test_spool import LIMITS, outgoing
from ingress.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), "", LIMITS)
    for number in range(1_000_000):
        await asyncio.gather(*[spool.append([outgoing(f"{number}-{n}")]) for n in range(5)])
        print(number, flush=True)

asyncio.run(main())
"""

#: Comes and goes as an ingress that is restarted does; says what it took, and what it found and "sent".
COMES_AND_GOES = """
import asyncio, sys
from pathlib import Path
from tests.service.test_spool import LIMITS, outgoing
from ingress.spool import Spool

async def main():
    for number in range(60):
        spool = Spool(Path(sys.argv[1]), "", LIMITS)
        if number % 2:
            await spool.append([outgoing(f"{sys.argv[2]}-{number}")])
            print("took", f"{sys.argv[2]}-{number}")
        else:
            while rows := spool.head(100, 1_000_000):
                spool.drop(rows)
                print(*["sent " + held.row.record.key.decode() for held in rows], sep="\\n")
        await spool.close()

asyncio.run(main())
"""

#: Sends everything while no file may grow, as on a disk that is full.
DRAINER = """
import asyncio, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from tests.service.test_spool import LIMITS, outgoing
from ingress.spool import Spool
from pipeline.errors import KafkaUnavailable

async def main():
    spool = Spool(Path(sys.argv[1]), "", LIMITS)
    try:
        await spool.append([outgoing("refused")])
    except KafkaUnavailable as error:
        print("refused", error)
    while rows := spool.head(100, 1_000_000):
        spool.drop(rows)
        print(*["sent " + held.row.record.key.decode() for held in rows], sep="\\n")
    print("left", spool.rows)

asyncio.run(main())
"""

#: The spool of a former release, whose process is killed.
FORMER = """
import os, sys
from rocksdict import Options, Rdict, WriteBatch, WriteOptions
from tests.service.test_spool import outgoing
from ingress.spooling import Row, encode

options = Options(raw_mode=True)
options.create_if_missing(True)
database, synced = Rdict(sys.argv[1], options), WriteOptions()
synced.sync = True
for number in range(int(sys.argv[2])):
    batch = WriteBatch(raw_mode=True)
    batch[(40 + number).to_bytes(8, "big")] = encode(Row(1_000 + number, outgoing(f"{number}", 100)))
    database.write(batch, synced)
os._exit(0)
"""


def outgoing(text: str, size: int = 0) -> Outgoing:
    return Outgoing("events", "opened", text.encode(), text.encode() + b" " * size, [])


def opened(place: Path, limits: Limits = LIMITS, prefix: str = "") -> Spool:
    return Spool(place, prefix, limits)


def texts(rows: list[Held]) -> list[str]:
    return [(held.row.record.key or b"").decode() for held in rows]


def sent(found: Spool, rows: int = 1_000_000) -> list[str]:
    """Everything in it, which is gone then."""
    told: list[str] = []
    while held := found.head(rows, 1_000_000):
        told += texts(held)
        found.drop(held)
    return told


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def files(place: Path) -> list[Path]:
    return sorted(place.glob(f"*/{segments.NAMES}*"))


async def filled(place: Path, count: int, size: int = 0) -> list[str]:
    """A spool that a process left, with so many rows in one file."""
    mine = opened(place, Limits(size=100_000_000, age=3_600.0, waiting=100_000_000))
    await mine.append([outgoing(f"{n}", size) for n in range(count)])
    await mine.close()
    return [f"{n}" for n in range(count)]


async def process(code: str, *arguments: str) -> asyncio.subprocess.Process:
    env = {**os.environ, "PYTHONPATH": "."}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    )


async def said(by: asyncio.subprocess.Process) -> list[list[str]]:
    """The words of its lines, once it has ended well."""
    out, _ = await by.communicate()
    assert by.returncode == 0
    return [line.split() for line in out.decode().splitlines()]


async def test_rows_leave_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    await asyncio.gather(*[mine.append([outgoing(f"{n}a"), outgoing(f"{n}b")]) for n in range(50)])
    wanted = [f"{n}{letter}" for n in range(50) for letter in "ab"]
    assert texts(mine.head(1000, 1_000_000)) == wanted
    mine.drop(mine.head(30, 1_000_000))
    assert (texts(mine.head(1000, 1_000_000)), mine.rows, mine.filled.is_set()) == (wanted[30:], 70, True)
    await mine.close()
    again = opened(tmp_path)
    assert (again.rows, again.filled.is_set()) == (70, True)
    await again.append([outgoing("last")])
    assert again.rows == 71
    assert sent(again) == [*wanted[30:], "last"]
    assert (again.rows, again.filled.is_set()) == (0, False)
    assert files(tmp_path) == []
    await again.close()
    assert names(tmp_path) == []


async def test_a_file_goes_as_soon_as_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1_000)
    mine = opened(tmp_path)
    for number in range(30):
        await mine.append([outgoing(f"{number}", size=300)])
    before = len(files(tmp_path))
    assert before > 5
    mine.drop(mine.head(15, 1_000_000))
    assert len(files(tmp_path)) < before
    left = mine.rows
    await mine.close()
    assert sent(opened(tmp_path)) == [f"{number}" for number in range(30 - left, 30)]


async def test_files_that_wait_are_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1_000)
    before = psutil.Process().num_fds()
    mine = opened(tmp_path)
    for number in range(30):
        await mine.append([outgoing(f"{number}", size=1_000)])
    assert len(files(tmp_path)) == 30
    assert psutil.Process().num_fds() - before < 10
    await mine.close()
    again = opened(tmp_path)
    assert psutil.Process().num_fds() - before < 10
    assert len(sent(again)) == 30
    await again.close()


async def test_what_is_read_at_once_is_bounded_in_bytes_and_at_least_one_row(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    await mine.append([outgoing(f"{n}", size=5_000) for n in range(20)])
    assert texts(mine.head(500, 16_000)) == ["0", "1", "2"]
    assert texts(mine.head(500, 10)) != []
    await mine.close()


async def test_it_takes_no_more_than_it_may_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    mine = opened(tmp_path, Limits(size=3_000, age=3_600.0, waiting=10_000))
    await mine.append([outgoing("a", 2_000)])
    with pytest.raises(KafkaUnavailable, match="INGRESS_SPOOL_MAX_BYTES"):
        await mine.append([outgoing("b", 2_000)])
    mine.drop(mine.head(1, 10_000))
    await mine.append([outgoing("b", 2_000)])
    assert texts(mine.head(10, 10_000)) == ["b"]
    await mine.close()


async def test_what_waits_for_a_slow_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = asyncio.Event()
    loop = asyncio.get_running_loop()
    sync = os.fsync

    def slow(fd: int) -> None:
        asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result()
        sync(fd)

    mine = opened(tmp_path, Limits(size=10_000_000, age=3_600.0, waiting=5_000))
    monkeypatch.setattr(os, "fsync", slow)
    waiting = [asyncio.create_task(mine.append([outgoing(f"{n}", 2_000)])) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(KafkaUnavailable, match="INGRESS_MAX_PENDING_BYTES"):
        await mine.append([outgoing("2", 2_000)])
    let_go.set()
    await asyncio.gather(*waiting)
    await mine.append([outgoing("2", 2_000)])
    assert sent(mine) == ["0", "1", "2"]
    await mine.close()


async def test_a_kill_at_any_moment_loses_nothing_that_was_answered_for(tmp_path: Path) -> None:
    for _ in range(3):
        taker = await process(TAKER, str(tmp_path))
        assert taker.stdout is not None
        lines = [await taker.stdout.readline() for _ in range(20)]
        taker.send_signal(signal.SIGKILL)
        lines += (await taker.stdout.read()).splitlines()
        await taker.wait()
        safe = max(int(line) for line in lines if line.strip())
        found = opened(tmp_path)
        wanted = [f"{number}-{n}" for number in range(safe + 1) for n in range(5)]
        assert sent(found)[: len(wanted)] == wanted
        assert found.damaged() == []
        await found.close()


async def test_a_full_disk_does_not_keep_what_is_in_it(tmp_path: Path) -> None:
    wanted = await filled(tmp_path, 500, size=100)
    told = await said(await process(DRAINER, str(tmp_path)))
    assert [words[1] for words in told if words[0] == "sent"] == wanted
    assert ["left", "0"] in told
    assert [words for words in told if words[0] == "refused"]
    assert files(tmp_path) == []


async def test_a_disk_that_refuses_means_that_the_sender_tries_again_and_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = opened(tmp_path)
    await mine.append([outgoing("a")])

    def full(fd: int, data: bytes, at: int) -> int:
        if len(data) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:50], at)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(KafkaUnavailable, match=r"cannot be written.*No space left"):
        await mine.append([outgoing("b", 100)])
    assert mine.rows == 1
    monkeypatch.undo()
    await mine.append([outgoing("c")])
    await mine.close()
    again = opened(tmp_path)
    assert (sent(again), again.damaged(), again.rows) == (["a", "c"], [], 0)
    await again.close()


async def test_a_disk_without_room_for_a_folder_does_not_keep_the_ingress_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Folder:
        raise OSError(errno.ENOSPC, "No space left on device")

    make = folders.make
    monkeypatch.setattr(folders, "make", full)
    mine = opened(tmp_path)
    with pytest.raises(KafkaUnavailable, match="No space left"):
        await mine.append([outgoing("a")])
    assert (mine.rows, mine.filled.is_set()) == (0, False)
    monkeypatch.setattr(folders, "make", make)
    await mine.append([outgoing("b")])
    assert sent(mine) == ["b"]
    await mine.close()


async def test_the_free_space_less_a_reserve_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "RESERVED_BYTES", 10**18)
    monkeypatch.setattr(spooling, "RESERVED_SHARE", 1.0)
    mine = opened(tmp_path)
    with pytest.raises(KafkaUnavailable, match="INGRESS_SPOOL_DIR"):
        await mine.append([outgoing("a")])
    await mine.close()


async def test_each_process_has_its_own_and_takes_over_what_others_left(tmp_path: Path) -> None:
    one, two, other = opened(tmp_path, prefix="p."), opened(tmp_path, prefix="p."), opened(tmp_path, prefix="q.")
    for number, each in enumerate((one, two, other)):
        await each.append([outgoing(str(number))])
    assert opened(tmp_path, prefix="p.").rows == 0  # all of them are there still
    for each in (one, two, other):
        await each.close()
    mine = opened(tmp_path, prefix="p.")
    assert mine.rows == 2
    assert opened(tmp_path, prefix="p.").rows == 0
    assert sent(mine) == ["0", "1"]
    await mine.close()
    assert sent(opened(tmp_path, prefix="q.")) == ["2"]


async def test_what_one_process_after_another_left_is_sent_in_the_order_in_which_it_came(tmp_path: Path) -> None:
    first = opened(tmp_path)
    await first.append([outgoing("a")])
    await first.close()
    second = opened(tmp_path)
    assert sent(second) == ["a"]  # and its folder goes, whose number is free again
    await second.append([outgoing("b")])
    await second.close()
    third = opened(tmp_path)
    await third.append([outgoing("c")])
    await third.close()
    assert sent(opened(tmp_path)) == ["b", "c"]


async def test_a_process_that_claims_a_folder_while_another_removes_it_gets_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path, 1)
    first = opened(tmp_path)
    others: list[Spool] = []
    lock = fcntl.flock

    def meanwhile(fd: int, how: int) -> None:
        """After it was opened and before it is locked its owner removes it, and a third one makes it anew."""
        monkeypatch.setattr(fcntl, "flock", lock)
        assert sent(first) == ["0"]
        assert first._own is not None
        first._own.remove()
        first._own = None
        others.append(opened(tmp_path))
        others[0]._store([spooling.encode(Row(1, outgoing("theirs")))])
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    second = opened(tmp_path)
    assert (second.rows, names(tmp_path)[0]) == (0, "spooled-0")
    await second.append([outgoing("a")])
    for each in (first, second, *others):
        await each.close()
    assert sorted(sent(opened(tmp_path))) == ["a", "theirs"]


async def test_processes_that_come_and_go_all_the_time_lose_nothing_to_each_other(tmp_path: Path) -> None:
    all_of_them = [await process(COMES_AND_GOES, str(tmp_path), str(number)) for number in range(3)]
    lines = [line for each in all_of_them for line in await said(each)]
    last = opened(tmp_path)
    out = sorted([words[1] for words in lines if words[0] == "sent"] + sent(last))
    assert out == sorted(words[1] for words in lines if words[0] == "took")
    assert len(out) == 90
    await last.close()
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_had_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="INGRESS_SPOOL_DIR"):
        opened(file)


async def test_a_damaged_row_is_told_the_others_are_sent_and_the_file_is_kept(tmp_path: Path) -> None:
    wanted = await filled(tmp_path, 1_000, size=100)
    (file,) = files(tmp_path)
    flip(file)
    with capture_logs() as logs:
        found = opened(tmp_path)
    (told,) = [line for line in logs if "damaged" in line["event"]]
    assert (told["log_level"], told["file"], told["intact"]) == ("error", str(file), 999)
    assert told["lost"].startswith("1 ")
    assert "unknown" not in (told["taken_after"], told["taken_before"])
    out = sent(found)
    assert len(out) == 999
    assert out == [text for text in wanted if text in set(out)]
    (name,) = found.damaged()
    await found.append([outgoing("more")])
    assert sent(found) == ["more"]
    await found.close()
    assert names(tmp_path) == [name]
    # The cure: once somebody has looked at it, it is removed.
    again = opened(tmp_path)
    assert (again.rows, again.damaged()) == (0, [name])
    (tmp_path / name).unlink()
    assert again.damaged() == []
    await again.close()


async def test_a_missing_file_is_told_by_the_numbers_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1_000)
    mine = opened(tmp_path)
    for number in range(9):
        await mine.append([outgoing(f"{number}", size=2_000)])
    await mine.close()
    files(tmp_path)[4].unlink()
    with capture_logs() as logs:
        found = opened(tmp_path)
    assert [line["lost"] for line in logs if "damaged" in line["event"]] == ["1 records or more"]
    assert sent(found) == ["0", "1", "2", "3", "5", "6", "7", "8"]
    assert len(found.damaged()) == 1
    await found.close()


async def test_a_file_that_is_damaged_after_it_was_looked_at_is_told_too(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    await mine.append([outgoing(f"{n}", 100) for n in range(10)])
    (file,) = files(tmp_path)
    flip(file, file.stat().st_size - 10)
    with capture_logs() as logs:
        assert sent(mine) == [f"{n}" for n in range(9)]
    assert [line["lost"] for line in logs if "damaged" in line["event"]] == ["1 records or more"]
    assert (mine.rows, mine.filled.is_set(), len(mine.damaged())) == (0, False, 1)
    await mine.close()


async def test_a_file_that_cannot_be_opened_stays_and_the_others_are_sent(tmp_path: Path) -> None:
    await filled(tmp_path, 3)
    folder = files(tmp_path)[0].parent
    bad = folder / f"{segments.NAMES}{0:018}99"
    bad.mkdir()
    found = opened(tmp_path)
    assert (sent(found), found.damaged()) == (["0", "1", "2"], [bad.name])
    await found.close()
    assert bad.is_dir()


def left_by_a_former_release(folder: Path, count: int) -> list[str]:
    """A spool as RocksDB, of a process that was killed: all of it is in its log."""
    subprocess.run(
        [sys.executable, "-c", FORMER, str(folder), str(count)], check=True, env={**os.environ, "PYTHONPATH": "."}
    )
    return [f"{number}" for number in range(count)]


async def test_what_a_former_release_left_is_sent_and_removed(tmp_path: Path) -> None:
    wanted = left_by_a_former_release(tmp_path / "spool-0", 300)
    found = opened(tmp_path, Limits(size=10_000_000, age=10**12, waiting=10_000_000))
    await found.append([outgoing("new")])
    assert found.rows == 301
    assert sent(found, rows=70) == [*wanted, "new"]
    await found.close()
    assert names(tmp_path) == []


async def test_what_a_former_release_left_stays_while_it_cannot_be_opened(tmp_path: Path) -> None:
    wanted = left_by_a_former_release(tmp_path / "spool-0", 300)
    told = await said(await process(DRAINER, str(tmp_path)))  # one file of it has to be written over
    assert ["left", "0"] in told
    found = opened(tmp_path)
    assert sent(found) == wanted
    await found.close()


async def test_what_a_former_release_left_damaged_is_told_sent_as_far_as_it_goes_and_kept(tmp_path: Path) -> None:
    wanted = left_by_a_former_release(tmp_path / "spool-0", 1_000)
    (wal,) = (tmp_path / "spool-0").glob("*.log")
    flip(wal)
    with capture_logs() as logs:
        found = opened(tmp_path)
    assert [line for line in logs if "damaged" in line["event"]]
    out = sent(found)
    assert 0 < len(out) < 1_000
    assert out == [text for text in wanted if text in set(out)]
    assert len(found.damaged()) == 1
    await found.close()


async def test_a_process_of_a_former_release_keeps_its_folder(tmp_path: Path) -> None:
    left_by_a_former_release(tmp_path / "spool-0", 3)
    code = "import sys, rocksdict; o = rocksdict.Options(raw_mode=True); d = rocksdict.Rdict(sys.argv[1], o)"
    theirs = await process(f"{code}; print('open', flush=True); sys.stdin.read()", str(tmp_path / "spool-0"))
    assert theirs.stdout is not None
    assert await theirs.stdout.readline() == b"open\n"
    found = opened(tmp_path)
    assert (found.rows, found.damaged()) == (0, [])
    await found.close()
    theirs.kill()
    await theirs.wait()


def test_a_folder_is_for_one_at_a_time(tmp_path: Path) -> None:
    mine = folders.make(tmp_path / "a")
    with pytest.raises(StoreLocked):
        Folder(tmp_path / "a")
    with pytest.raises(FileExistsError):
        folders.make(tmp_path / "a")
    mine.release()
    Folder(tmp_path / "a").remove()
    with pytest.raises(StoreLocked):
        Folder(tmp_path / "a")
