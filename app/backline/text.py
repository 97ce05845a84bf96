"""Text that others have written, made safe to show."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Names of files and models may hold line ends and codes that move the cursor: show, do not obey them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
