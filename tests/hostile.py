"""Values that no setting expects, and some that only some may have."""

from __future__ import annotations

from pathlib import Path

#: A byte that is no UTF-8, as Python hands it out of the environment.
NO_UTF8 = b"\xff".decode("utf-8", "surrogateescape")

NUMBERS = (
    *("inf", "-inf", "nan", "-1", "0", "-0", "0.0", "1e-320", "0.1", "1", "1.5", "1e3", "1e300", "1e400", "9" * 5000),
    *("99999999999999999999", "-99999999999999999999", "2147483648", "1000000000", "0x10", "1_000", "\u0663", "true"),
)
TEXTS = (
    *(
        "x",
        "x y",
        "a,b",
        "\n",
        "x\n",
        "a\0b",
        NO_UTF8,
        "\u00fc\u20ac\U0001f600",
        "a" * 100_000,
        "../..",
        "~",
        "%s{}",
        "'",
    ),
    *(":", "::", ":1", "h:", "h:0", "h:99999", "h:1,", "[", "[::1", "[::1]:9092", "256.1.1.1", "1.2.3", "a" * 300),
    *(
        "a..b",
        "a b:1",
        "http://",
        "http://[",
        "http://h:99999",
        "postgresql://h:99999/d",
        "sqlite:///",
        "json://",
        "://",
    ),
)
#: What a variable of the environment cannot hold, though a program that calls us may.
NO_VARIABLE = frozenset({"a\0b"})


def paths(folder: Path) -> tuple[str, ...]:
    """Paths that are there and are not what is looked for, and some that are not there; their names say which."""
    (folder / "a-folder").mkdir()
    (folder / "an-empty-file").touch()
    (folder / "no-text").write_bytes(b"\xff\xfe\x00")
    made = ("a-folder", "an-empty-file", "an-empty-file/below", "no-text", "missing", "missing/below", "n" * 300)
    return (*(str(folder / name) for name in made), "/dev/null", "/proc/self")
