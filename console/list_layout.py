"""How a list file is laid out: which columns it has, what separates them, and whether a line names them.

Pure. The first line tells it. What could be read in two ways is refused: a column that nobody knows might be a time.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import contract
from pipeline.errors import PostlogError

FIELDS = ("email", "cause", "at", "because", "who")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
#: What other programs call the column with the address, in letters alone.
_ADDRESS = frozenset(
    {
        "email",
        "emails",
        "emailaddress",
        "emailaddresses",
        "emailadresse",
        "mail",
        "mailaddress",
        "address",
        "recipient",
    }
)
_NO_LETTER = re.compile(r"[\W_]+")
_RULE = f"The first line names the columns: email, and if wished {', '.join(FIELDS[1:])}; or each line is one address"


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a file.

    columns  in the file's order, by our names
    heading  whether the first line names them; if not, each line is an address and nothing else
    plain    whether it names them as we do
    """

    columns: tuple[str, ...]
    separator: str = ","
    heading: bool = True
    plain: bool = True

    @property
    def as_exported(self) -> bool:
        """Whether there is nothing to tell: our own names, commas, as `export` writes it and the help says."""
        return self.heading and self.separator == "," and self.plain

    @property
    def told(self) -> str:
        """How the file is read, for people."""
        if not self.heading:
            return "one address per line, without a heading"
        separated = f" separated by {SEPARATORS[self.separator]}" if len(self.columns) > 1 else ""
        return f"columns {', '.join(self.columns)}{separated}"


def of(line: str, number: int) -> Layout:
    """The layout that a file's first line tells; number is its place, counted from 1. Raises PostlogError."""
    split = {separator: _fields(line, separator) for separator in SEPARATORS}
    named = {separator: [_column(field) for field in fields] for separator, fields in split.items()}
    found = max((s for s in named if "email" in named[s]), key=lambda s: len(named[s]), default=None)
    if found is not None:
        _require_known(named[found], number)
        return Layout(tuple(named[found]), found, plain=[f.strip().lower() for f in split[found]] == named[found])
    if contract.address(line):
        return Layout(("email",), heading=False)
    if any(contract.address(field) for fields in split.values() for field in fields):
        raise PostlogError(f"line {number}: holds an email address and more, and no line says what that is. {_RULE}")
    _require_known(max(named.values(), key=len), number)
    raise PostlogError(f"line {number}: has no column email. {_RULE}")


def _fields(line: str, separator: str) -> list[str]:
    """The fields of a line, without empty ones at its end, which spreadsheets add."""
    try:
        fields = next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return []
    while fields and not fields[-1].strip():
        fields.pop()
    return fields


def _column(heading: str) -> str:
    """Our name of a column; as it stands there if it has none."""
    return "email" if _NO_LETTER.sub("", heading).lower() in _ADDRESS else heading.strip().lower()


def _require_known(columns: Sequence[str], number: int) -> None:
    unknown = next((column for column in columns if column not in FIELDS), None)
    if unknown is not None:
        raise PostlogError(f"line {number}: column {unknown[:80]!r} is not known: rename or remove it. {_RULE}")
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise PostlogError(f"line {number}: two columns are {twice}: remove one. {_RULE}")
