"""Text in a CSV file that a spreadsheet would take for a formula.

Pure. What always holds: what is guarded reads as text in Excel, LibreOffice and Google Sheets, whichever of `,`, `;`
and tab it splits lines at; and `bare(guarded(x)) == x` for every text.
docs/decisions/0034-an-export-holds-no-formulas.md says why.
"""

from __future__ import annotations

import re

#: What begins a formula; the wide ones do in editions for East Asia.
_BEGINNING = "[=+\\-@\t\r\n＝＋－＠]"
#: Where a spreadsheet may see a cell begin: at the beginning of ours, and behind what it may take for a separator.
_CELL = r'(^|[;\t]"*)'
_FORMULA = re.compile(rf"{_CELL}('*)(?={_BEGINNING})")
_GUARDED = re.compile(rf"{_CELL}'('*)(?={_BEGINNING})")


def guarded(field: str) -> str:
    """The field with an apostrophe before what would be a formula. One that is there already counts as content."""
    return _FORMULA.sub(r"\1'\2", field)


def bare(field: str) -> str:
    """The field without the apostrophe that `guarded` adds; a field that was never guarded stays as it is."""
    return _GUARDED.sub(r"\1\2", field)
