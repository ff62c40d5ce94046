"""The README tells the truth where a test can see it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline import kafka
from pipeline.acls import as_markdown as as_markdown_of_acls
from pipeline.settings import Settings
from tests import reference

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_it_can_be_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 90


@pytest.mark.parametrize("path", reference.PAGES, ids=lambda path: path.name)
def test_the_pages_that_are_made_are_current(path: Path) -> None:
    assert path.read_text() == reference.PAGES[path](), "make docs"


def test_every_decision_has_a_number_of_its_own_and_a_title() -> None:
    numbers: dict[str, Path] = {}
    for path in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        number, dot, title = path.read_text().splitlines()[0].removeprefix("# ").partition(". ")
        assert int(number) == int(path.name[:4]), path.name
        assert dot
        assert title
        assert numbers.setdefault(number, path) == path


def test_the_table_of_acls_is_what_the_command_prints() -> None:
    assert as_markdown_of_acls(kafka.acls(Settings())) in (ROOT / "docs" / "security.md").read_text()


def test_every_folder_exists() -> None:
    folders = re.findall(r"^\| `([\w.]+)/?` \|", README, re.MULTILINE)
    assert [name for name in folders if not (ROOT / name).exists()] == []


def headings(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        to = page.parent / target if target else page
        assert to.exists(), target
        assert not anchor or anchor in headings(to), f"{target}#{anchor}"


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
