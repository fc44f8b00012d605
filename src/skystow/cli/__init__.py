"""The command line. Each command is imported when it is called, so that `skystow --help` is quick."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Annotated, NoReturn

import typer

from skystow.cli import observing
from skystow.cli.words import DryRun, File, GiveUp, Json, LedgerUrl, Place, Quiet, SiteFile

EPILOG = """\b
Exit codes:
  0    all well (also: `run` ended by Ctrl-C or SIGTERM)
  1    our own fault
  2    usage or configuration
  3    finished, and some files need a person
  4    verify found damaged or missing files
  5    unfinished: a place stayed away, or retries are still due; run it again
  130  interrupted by Ctrl-C; run it again
  143  interrupted by SIGTERM; run it again
"""

OBJECTS = 50_000
"""New objects after which Python looks for cycles among them. A batch of thousands of files makes many and no cycles:
at Python's own 700 a quarter of its time went into looking."""

app = typer.Typer(
    name="skystow",
    help="skystow archives files with proof: copied, read back, made durable, recorded, never overwritten.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ledger_app = typer.Typer(help="Look after the ledger's database.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(ledger_app, name="ledger")
letters_app = typer.Typer(help="What cannot be admitted as it is.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(letters_app, name="dead-letters")
tables_app = typer.Typer(help="Look after pysmurf_files tables.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tables_app, name="pysmurf-files")
suprsync_app = typer.Typer(help="Look after suprsync's database.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(suprsync_app, name="suprsync")
app.add_typer(observing.app)


@app.callback(invoke_without_command=True)
def skystow(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from skystow import __version__

        typer.echo(f"skystow {__version__}")
        raise typer.Exit


@app.command()
def archive(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The directory whose contents are archived.")],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="Where they appear; made where it is missing.")],
    digest: Annotated[str, typer.Option(metavar="NAME", help="blake3, sha256, xxh128 or md5.")] = "blake3",
    streams: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Batches that are copied at the same time.")
    ] = 2,
    bwlimit: Annotated[str | None, typer.Option(metavar="RATE", help="Read no faster than so: 50MB/s.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave out such names; may be given several times.")
    ] = None,
    dry_run: DryRun = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C, taking files as they finish.")] = False,
    ledger: LedgerUrl = None,
    json: Json = False,
    give_up_after: GiveUp = "10min",
    quiet: Quiet = False,
) -> NoReturn:
    """Bring every file below SOURCE to the same path below DEST, and prove each of them.

    What is archived already is left as it is; nothing is ever overwritten. Run it again at any time.
    """
    from skystow.cli.archive import archive as bring
    from skystow.cli.archive import dry_run as preview
    from skystow.cli.exits import conduct
    from skystow.cli.options import archive_options, duration

    options = archive_options(digest, streams, bwlimit, exclude or [], follow=follow, ledger=ledger)
    patience = duration("--give-up-after", give_up_after)
    if dry_run:
        conduct(lambda halt: preview(halt, source, dest, options, json=json, quiet=quiet), json=json, graceful=True)
    conduct(
        lambda halt: bring(halt, source, dest, options, json=json, quiet=quiet, give_up_after=patience),
        json=json,
        graceful=True,
    )


@app.command()
def run(
    site: SiteFile,
    once: Annotated[bool, typer.Option("--once", help="Archive all that is there, then end.")] = False,
    component: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this one: files, archiver, controller, oods, a forwarder.")
    ] = None,
    json: Json = False,
    give_up_after: GiveUp = "10min",
) -> NoReturn:
    """Run a site until Ctrl-C or SIGTERM, or for one pass."""
    from skystow.cli.exits import conduct
    from skystow.cli.options import duration
    from skystow.cli.run import run as serve

    patience = duration("--give-up-after", give_up_after)
    conduct(
        lambda halt: serve(halt, site, once=once, json=json, give_up_after=patience, component=component),
        json=json,
        graceful=True,
        serves=not once,
    )


@app.command()
def status(place: Place, ledger: LedgerUrl = None, json: Json = False) -> NoReturn:
    """How many files are where, what waits, and whether the places are well."""
    from skystow.cli import inspect
    from skystow.cli.exits import conduct

    conduct(lambda _: inspect.status(place, ledger=ledger, json=json), json=json)


@app.command()
def trace(place: Place, file: File, ledger: LedgerUrl = None, json: Json = False) -> NoReturn:
    """All that is known of one file: where it is, what happened, what happens next and who must act."""
    from skystow.cli import inspect
    from skystow.cli.exits import conduct

    conduct(lambda _: inspect.trace(place, file, ledger=ledger, json=json), json=json)


@app.command()
def retry(
    place: Place,
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="Files to try again.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that failed too often (conflicts excepted).")] = False,
    ledger: LedgerUrl = None,
    json: Json = False,
) -> NoReturn:
    """Try quarantined or ignored files again, as if they had never failed."""
    from skystow.cli import repair
    from skystow.cli.exits import conduct

    conduct(lambda _: repair.retry(place, files or [], all_=everything, ledger=ledger, json=json), json=json)


@app.command()
def ignore(
    place: Place,
    file: File,
    reason: Annotated[str, typer.Option("--reason", metavar="WHY", help="Why; kept with the file for ever.")],
    ledger: LedgerUrl = None,
    json: Json = False,
) -> NoReturn:
    """Leave a file out for good."""
    from skystow.cli import repair
    from skystow.cli.exits import conduct

    conduct(lambda _: repair.ignore(place, file, reason, ledger=ledger, json=json), json=json)


@app.command()
def resolve(
    place: Place,
    file: File,
    how: Annotated[
        str, typer.Argument(metavar="keep|number", help="keep: what is archived stays alone; number: both.")
    ],
    ledger: LedgerUrl = None,
    json: Json = False,
) -> NoReturn:
    """Decide a conflict: the name of a file is taken by other content."""
    from skystow.cli import repair
    from skystow.cli.exits import conduct
    from skystow.cli.options import one_of

    number = one_of("keep|number", how, ("keep", "number")) == "number"
    conduct(lambda _: repair.resolve(place, file, number=number, ledger=ledger, json=json), json=json)


@app.command()
def retire(site: SiteFile, dry_run: DryRun = False, json: Json = False) -> NoReturn:
    """Remove files at their source, where the site file says so and every copy was proven anew."""
    from skystow.cli import audit
    from skystow.cli.exits import conduct

    conduct(lambda halt: audit.retire(halt, site, dry_run=dry_run, json=json), json=json, graceful=True)


@app.command()
def verify(
    place: Place,
    destination: Annotated[str | None, typer.Option(metavar="NAME", help="Only this one.")] = None,
    ledger: LedgerUrl = None,
    json: Json = False,
    quiet: Quiet = False,
) -> NoReturn:
    """Read archived files again and compare their digests; name what is damaged or missing."""
    from skystow.cli import audit
    from skystow.cli.exits import conduct

    conduct(
        lambda halt: audit.verify(halt, place, destination=destination, ledger=ledger, json=json, quiet=quiet),
        json=json,
        graceful=True,
    )


@app.command()
def check(
    site: Annotated[str, typer.Argument(metavar="SITE|SOURCE", help="A site file, or a SOURCE of `archive`.")],
    dest: Annotated[str | None, typer.Argument(metavar="DEST", help="Where SOURCE would go.")] = None,
    digest: Annotated[str, typer.Option(metavar="NAME", help="With DEST: blake3, sha256, xxh128 or md5.")] = "blake3",
    json: Json = False,
) -> NoReturn:
    """The doctor: ledger, permissions, a probe file between each pair of places, free space, clock."""
    from skystow.cli.check import check as examine
    from skystow.cli.check import check_ends
    from skystow.cli.exits import conduct
    from skystow.cli.options import archive_options

    if dest is not None:
        options = archive_options(digest, 1, None, [], follow=False, ledger=None)
        conduct(lambda halt: check_ends(halt, site, dest, options, json=json), json=json, graceful=True)
    conduct(lambda halt: examine(halt, site, json=json), json=json, graceful=True)


@ledger_app.command("upgrade")
def ledger_upgrade(
    place: Annotated[str | None, typer.Argument(metavar="SITE|DEST", help="A site file or a DEST.")] = None,
    ledger: LedgerUrl = None,
    json: Json = False,
) -> NoReturn:
    """Bring the ledger of an older skystow to this one's schema."""
    from skystow.cli.exits import conduct
    from skystow.cli.ledger import upgrade

    conduct(lambda _: upgrade(place, ledger=ledger, json=json), json=json)


@letters_app.command("list")
def dead_letters_list(place: Place, ledger: LedgerUrl = None, json: Json = False) -> NoReturn:
    """What sources have and what could not be admitted, each with its reason."""
    from skystow.cli import letters
    from skystow.cli.exits import conduct

    conduct(lambda _: letters.show(place, ledger=ledger, json=json), json=json)


@letters_app.command("replay")
def dead_letters_replay(
    place: Place,
    numbers: Annotated[list[int] | None, typer.Argument(metavar="NUMBER", help="As `list` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    ledger: LedgerUrl = None,
    json: Json = False,
) -> NoReturn:
    """Look at them again: in the next pass of their source."""
    from skystow.cli import letters
    from skystow.cli.exits import conduct

    conduct(lambda _: letters.replay(place, numbers or [], all_=everything, ledger=ledger, json=json), json=json)


@tables_app.command("create")
def pysmurf_files_create(site: SiteFile, json: Json = False) -> NoReturn:
    """Make the tables of a site, with the index that they need."""
    from skystow.cli.exits import conduct
    from skystow.cli.tables import create

    conduct(lambda _: create(site, json=json), json=json)


@tables_app.command("upgrade")
def pysmurf_files_upgrade(site: SiteFile, json: Json = False) -> NoReturn:
    """Add the index, and columns that are missing, to the tables of a site. Nothing is ever dropped or changed."""
    from skystow.cli.exits import conduct
    from skystow.cli.tables import upgrade

    conduct(lambda _: upgrade(site, json=json), json=json)


def main() -> None:
    """The program. Always leaves by `SystemExit`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _too_early)  # until `conduct` listens
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever the locale: a name is never a reason to fail
    gc.set_threshold(OBJECTS, 20, 20)
    sys.excepthook = _unexpected
    typer.main.get_command(app)(prog_name="skystow")


def _too_early(number: int, _frame: FrameType | None) -> None:
    """A signal before the command began: nothing was done yet."""
    serves = sys.argv[1:2] == ["run"] and "--once" not in sys.argv
    os._exit(0 if serves else 128 + number)


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from skystow.cli.exits import unexpected

    unexpected(kind, error, trace)


@suprsync_app.command("index")
def suprsync_index(site: SiteFile, json: Json = False) -> NoReturn:
    """Add our indexes to suprsync's databases; nothing else of them is changed."""
    from skystow.cli.exits import conduct
    from skystow.cli.suprsync import index

    conduct(lambda _: index(site, json=json), json=json)


@suprsync_app.command("timecodes")
def suprsync_timecodes(site: SiteFile, json: Json = False) -> NoReturn:
    """Timecode directories that are not finalized yet and why, and files that came too late."""
    from skystow.cli.exits import conduct
    from skystow.cli.suprsync import timecodes

    conduct(lambda _: timecodes(site, json=json), json=json)
