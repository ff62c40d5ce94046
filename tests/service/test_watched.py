"""Secrets that come from a file count as the file is now."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipeline import secrets
from pipeline.errors import ConfigError
from pipeline.settings import Settings, load
from pipeline.watched import Watched


def watched(file: Path, look_seconds: float = 0) -> Watched[tuple[bytes, ...]]:
    return Watched("WEBHOOK_SECRET_FILE", file, lambda text: secrets.parse(text, "it"), look_seconds=look_seconds)


def test_a_change_counts_and_what_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("former-secret\n")
    held = watched(file)
    assert held() == (b"former-secret",)
    file.write_text("newer-secret\nformer-secret\n")
    assert held() == (b"newer-secret", b"former-secret")
    with capture_logs() as lines:
        file.write_text("short")
        assert held() == held() == (b"newer-secret", b"former-secret")
        file.unlink()
        assert held() == held() == (b"newer-secret", b"former-secret")
    # Once for each change, not with every look, and without what stands there.
    assert [line["event"] for line in lines] == ["file cannot be read, what it held before stays"] * 2
    assert "short'" not in str(lines)
    file.write_text("newest-secret")
    assert held() == (b"newest-secret",)


def test_the_file_is_looked_at_once_in_a_while(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("former-secret")
    held = watched(file, look_seconds=3600)
    file.write_text("newer-secret!")
    assert held() == (b"former-secret",)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"short\n", b"long-enough-1\nshort", b"\xff\xfe\xff\xfe"])
def test_a_file_without_good_secrets_is_refused_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secrets"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^WEBHOOK_SECRET_FILE"):
        secrets.of(Settings(webhook_secret_file=str(file)))


def test_secrets_come_from_one_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both"):
        secrets.of(Settings(webhook_secret="long-enough-1", webhook_secret_file=str(tmp_path / "secrets")))


def test_several_secrets_are_valid_while_rotating() -> None:
    loaded = load({"WEBHOOK_SECRET": "new-secret-1, old-secret-2,"})
    assert secrets.of(loaded)() == (b"new-secret-1", b"old-secret-2")


@pytest.mark.parametrize("value", ["", " ", ",", "short", "long-enough-1,short"])
def test_no_secret_or_a_short_one_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^WEBHOOK_SECRET"):
        secrets.of(load({"WEBHOOK_SECRET": value}))


def test_a_refusal_does_not_show_the_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        secrets.of(load({"WEBHOOK_SECRET": "hunter2"}))
    assert "hunter2" not in str(caught.value)
