"""Where commands write: plain files are replaced as a whole, links are followed, and nothing else is replaced."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from console import target
from console.__main__ import main
from pipeline.errors import PostlogError


def write(file: Path, text: bytes = b"new") -> None:
    with target.whole(file) as out:
        out.write(text)


def test_a_plain_file_is_replaced_when_all_is_written_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(b"former")
    file.chmod(0o644)
    with target.whole(file) as out:
        out.write(b"new")
        assert file.read_bytes() == b"former"
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_pipe_stays_a_pipe_and_gets_what_is_written(tmp_path: Path) -> None:
    fifo = tmp_path / "list.csv"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    writer = threading.Thread(target=write, args=(fifo,), daemon=True)
    writer.start()
    reader.join(10)
    writer.join(10)
    assert (read, fifo.is_fifo()) == ([b"new"], True)
    assert list(tmp_path.iterdir()) == [fifo]


def test_a_terminal_is_written_into() -> None:
    ours, theirs = pty.openpty()
    try:
        name = Path(os.ttyname(theirs))
        write(name)
        assert os.read(ours, 100) == b"new"
        assert stat.S_ISCHR(name.stat().st_mode)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path, there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link, far = tmp_path / "elsewhere" / "file", tmp_path / "link", tmp_path / "far"
    if there:
        file.write_bytes(b"former")
    link.symlink_to(Path("elsewhere") / "file")
    far.symlink_to(link)
    write(far)
    assert (far.readlink(), link.readlink(), file.read_bytes()) == (link, Path("elsewhere") / "file", b"new")
    assert list((tmp_path / "elsewhere").iterdir()) == [file]


def test_links_in_a_circle_are_an_error_and_stay(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(PostlogError, match="cannot be written: Too many levels"):
        write(link)
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_name_of_standard_output_is_written_behind_what_is_there(tmp_path: Path, name: str) -> None:
    script = f"""
from pathlib import Path
from console.target import whole
with whole(Path({name!r})) as out:
    out.write(b"new")
"""
    file = tmp_path / "out"
    with file.open("wb") as sink:
        sink.write(b"former ")
        sink.flush()
        subprocess.run([sys.executable, "-c", script], stdout=sink, check=True, timeout=60)
        assert os.fstat(sink.fileno()).st_ino == file.stat().st_ino
    assert file.read_bytes() == b"former new"


def test_a_file_of_tokens_that_is_a_link_stays_one(tmp_path: Path) -> None:
    tokens, link = tmp_path / "tokens", tmp_path / "link"
    link.symlink_to(tokens)
    for name in ("ann", "bob"):
        result = CliRunner().invoke(main, ["token", name, "--file", str(link)], obj={})
        assert result.exit_code == 0, result.output
    assert link.is_symlink()
    assert len(tokens.read_text().splitlines()) == 2
