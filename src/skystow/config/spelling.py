"""Did you mean …?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(written: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    folded = {word.lower(): word for word in known}
    near = difflib.get_close_matches(written.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def meant(written: str, known: Iterable[str]) -> str:
    """The end of a sentence about a word that is not known."""
    known = sorted(known)
    if (word := closest(written, known)) is not None:
        return f"; did you mean {word!r}?"
    return f"; known: {', '.join(known)}" if known else ""
