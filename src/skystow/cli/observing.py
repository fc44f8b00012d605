"""The commands of the image door, which join those of `skystow.cli`."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from skystow.cli.words import Json, SiteFile

app = typer.Typer()
oods_app = typer.Typer(help="What the OODS has.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(oods_app, name="oods")

DayObs = Annotated[
    int | None,
    typer.Option("--day-obs", metavar="YYYYMMDD", min=19000101, max=99991231, help="Only of this observing day."),
]


@app.command()
def control(
    site: SiteFile,
    component: Annotated[str, typer.Argument(metavar="COMPONENT", help="archiver, controller, oods, files, …")],
    verb: Annotated[str, typer.Argument(metavar="VERB", help="start, enable, disable, standby, exit or state.")],
    json: Json = False,
) -> NoReturn:
    """Command a component that runs on this host. Ends with 2 where the command is unlawful in its state, with 5 where
    it could not be obeyed now; then nothing has changed."""
    from skystow.cli.control import VERBS
    from skystow.cli.control import control as say
    from skystow.cli.exits import conduct
    from skystow.cli.options import one_of

    conduct(lambda _: say(site, component, one_of("VERB", verb, VERBS), json=json), json=json)


@app.command("catch-up")
def catch_up(
    site: SiteFile,
    obsids: Annotated[list[str], typer.Argument(metavar="ID", help="Names of exposures.")],
    json: Json = False,
) -> NoReturn:
    """Archive exposures that began while the Archiver was disabled."""
    from skystow.cli.control import catch_up as say
    from skystow.cli.exits import conduct

    conduct(lambda _: say(site, obsids, json=json), json=json)


@app.command()
def exposures(site: SiteFile, day_obs: DayObs = None, json: Json = False) -> NoReturn:
    """The exposures that are known, how far each has come, and what is missing."""
    from skystow.cli.exits import conduct
    from skystow.cli.exposures import listed

    conduct(lambda _: listed(site, day_obs=day_obs, json=json), json=json)


@app.command()
def night(
    site: SiteFile,
    day_obs: Annotated[int, typer.Argument(metavar="DAY_OBS", help="The observing day, YYYYMMDD.")],
    json: Json = False,
) -> NoReturn:
    """Report a night: exposures, files, gaps, latencies, failures, and what is still owed."""
    from skystow.cli.exits import conduct
    from skystow.cli.exposures import report

    conduct(lambda _: report(site, day_obs, json=json), json=json)


@oods_app.command("find")
def oods_find(
    site: SiteFile,
    day_obs: DayObs = None,
    obsid: Annotated[str | None, typer.Option(metavar="ID", help="Only of this exposure.")] = None,
    raft: Annotated[str | None, typer.Option(metavar="NN", help="Only of this raft: 22.")] = None,
    sensor: Annotated[str | None, typer.Option(metavar="NN", help="Only of this sensor: 00.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Those too that are gone.")] = False,
    json: Json = False,
) -> NoReturn:
    """Files that were ingested, by what their headers say."""
    from skystow.cli.exits import conduct
    from skystow.cli.oods import find

    conduct(
        lambda _: find(site, day_obs=day_obs, obsid=obsid, raft=raft, sensor=sensor, expired=expired, json=json),
        json=json,
    )


sal_app = typer.Typer(
    help="Command a SAL component, and hear what it says, over DDS.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(sal_app, name="sal")

SalSite = Annotated[str | None, typer.Option("--site", metavar="SITE", help="A site file that says how SAL is spoken.")]
Definitions = Annotated[
    str | None, typer.Option(metavar="DIR", help="Topic definitions: sal_revCoded_*.idl, or SAL interface XML.")
]


@sal_app.command("command")
def sal_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The component: CCArchiver.")],
    verb: Annotated[
        str, typer.Argument(metavar="COMMAND", help="start, enable, disable, standby, exitControl, setLogLevel, …")
    ],
    values: Annotated[list[str] | None, typer.Argument(metavar="FIELD=VALUE", help="Of the command: level=10.")] = None,
    site: SalSite = None,
    definitions: Definitions = None,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="For the first answer.")] = "10s",
    json: Json = False,
) -> NoReturn:
    """Command a SAL component and wait for its end. Ends with 0 when it was obeyed, with 2 when it was refused, with 5
    when nobody is there or nothing came in time."""
    from skystow.cli.exits import conduct
    from skystow.cli.options import duration
    from skystow.cli.sal import command
    from skystow.wiring.sal import Speech

    seconds, speech = duration("--timeout", timeout), Speech(site, definitions)
    conduct(lambda _: command(name, verb, values or [], speech, seconds=seconds, json=json), json=json)


@sal_app.command("watch")
def sal_watch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The component: CCArchiver.")],
    events: Annotated[
        list[str] | None, typer.Argument(metavar="EVENT", help="Only these; else all but heartbeat and logMessage.")
    ] = None,
    site: SalSite = None,
    definitions: Definitions = None,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many.")] = None,
    json: Json = False,
) -> NoReturn:
    """What a SAL component says, its present state first, until Ctrl-C."""
    from skystow.cli.exits import conduct
    from skystow.cli.sal import watch
    from skystow.wiring.sal import Speech

    speech = Speech(site, definitions)
    conduct(
        lambda halt: watch(halt, name, events or [], speech, count=count, json=json),
        json=json,
        graceful=True,
        serves=True,
    )
