"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Place = Annotated[str, typer.Argument(metavar="SITE|DEST", help="A site file, or the DEST of an earlier archive.")]
SiteFile = Annotated[str, typer.Argument(metavar="SITE", help="A site file (YAML).")]
File = Annotated[
    str, typer.Argument(metavar="FILE", help="Its path, absolute or relative to its source or archive, or its number.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]
LedgerUrl = Annotated[
    str | None, typer.Option("--ledger", metavar="URL", help="The ledger, where it is not in its usual place.")
]
GiveUp = Annotated[
    str, typer.Option("--give-up-after", metavar="TIME", help="End with 5 after so long without progress: 600, 10min.")
]
