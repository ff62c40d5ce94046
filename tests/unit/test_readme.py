"""The README tells the truth where a test can see it."""

from __future__ import annotations

import re
from pathlib import Path

from console.environment import as_markdown
from pipeline import kafka
from pipeline.acls import as_markdown as as_markdown_of_acls
from pipeline.settings import Settings, documented

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_settings_table_is_the_settings() -> None:
    assert as_markdown(documented()) in README


def test_the_table_of_acls_is_what_the_command_prints() -> None:
    assert as_markdown_of_acls(kafka.acls(Settings())) in (ROOT / "docs" / "security.md").read_text()


def test_every_link_and_folder_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    folders = re.findall(r"^\| `([\w.]+)/?` \|", README, re.MULTILINE)
    missing = [name for name in links + folders if not name.isupper() and not (ROOT / name).exists()]
    assert missing == []


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
