"""Patterns for names, as in `exclude:` and `temporary:`. Pure.

`*` any run of characters but `/`, `?` one of them, `[a-z]` one of a set, `[!a-z]` one outside it, `**` any run with
`/` too, `**/` any number of directories, none included. Case counts.

- Without a slash, a pattern is for the name of anything at any depth: `*.tmp`, `lost+found`.
- With a slash, it is for the whole path below the source's root: `raw/*.log` is not for `old/raw/x.log`, but
  `**/raw/*.log` is for both. A first slash says only that: `/core` is for `core` at the root alone.
- With a slash at its end it is for directories alone: `cache/`.

A directory that matches is left out with all that is below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from skystow.errors import ConfigError
from skystow.model.records import shown

RSYNC = ".?*." + "[0-9A-Za-z]" * 6
"""What rsync calls a file until it is whole: `.NAME.XXXXXX`."""

TEMPORARY = (RSYNC, "*.part", "*.partial", "*.tmp")
"""Files that somebody is still writing."""


def called(pattern: str) -> str:
    """A pattern as a person reads it in a sentence."""
    return "rsync's .NAME.XXXXXX" if pattern == RSYNC else f"‘{shown(pattern)}’"


def _regex(pattern: str, *, whole: bool) -> str:
    """A pattern without its outer slashes, as a regular expression; `whole` where it is for a path, not for a name."""
    out, i = "", 0
    while i < len(pattern):
        c = pattern[i]
        if pattern.startswith("**/", i) and (i == 0 or pattern[i - 1] == "/"):
            out, i = out + "(?:.*/)?", i + 3
        elif pattern.startswith("**", i):
            out, i = out + (".*" if whole else "[^/]*"), i + 2
        elif c in "*?":
            out, i = out + ("[^/]*" if c == "*" else "[^/]"), i + 1
        elif c == "[":
            # A `]` right after the opening (or its `!`) is one of the set.
            end = pattern.find("]", i + 3 if pattern[i + 1 : i + 2] == "!" else i + 2)
            if end < 0:
                raise ConfigError(f"pattern ‘{shown(pattern)}’ has a ‘[’ without its ‘]’", remedy="write [[] for ‘[’")
            body = pattern[i + 1 : end]
            negated, body = body.startswith("!"), body.removeprefix("!")
            # What a set of `re` would take for syntax, but for the `-` of ranges.
            body = re.sub(r"([\\^\[\]&|~])", r"\\\1", body).replace("--", r"-\-")
            out += "(?!/)[" + "^" * negated + body + "]"
            i = end + 1
        else:
            out, i = out + re.escape(c), i + 1
    return out


class Patterns:
    """A checked list of patterns. Raises `ConfigError` for one that is empty or malformed."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._each: list[tuple[str, re.Pattern[str]]] = []
        for pattern in self.patterns:
            core = pattern.strip("/")
            if not core:
                raise ConfigError(f"pattern ‘{shown(pattern)}’ is empty", remedy="write a name, *.tmp or raw/**")
            whole = "/" in pattern.removesuffix("/")
            # The subject of a match ends in `/` where it is a directory.
            source = (
                ("" if whole else "(?:.*/)?") + _regex(core, whole=whole) + ("/" if pattern.endswith("/") else "/?")
            )
            try:
                self._each.append((pattern, re.compile(source, re.DOTALL)))
            except re.error as error:
                raise ConfigError(f"pattern ‘{shown(pattern)}’ cannot be read: {error}") from error
        # One look tells the many files that no pattern is for.
        together = "|".join(f"(?:{regex.pattern})" for _, regex in self._each)
        self._any = re.compile(together, re.DOTALL) if self._each else None

    def match(self, relative: str, *, directory: bool = False) -> str | None:
        """The first pattern that is for this path, or None. Only the path itself is looked at, not its parents."""
        subject = relative + "/" if directory else relative
        if self._any is None or not self._any.fullmatch(subject):
            return None
        return next(pattern for pattern, regex in self._each if regex.fullmatch(subject))
