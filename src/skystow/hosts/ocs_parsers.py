"""Options of our OCS agents, as OCS's site file and the handbook have them."""

from __future__ import annotations

from typing import Any

from skystow.config.pysmurf_agent import SMURF_ROOT
from skystow.hosts.ocs_agent import Parser


def archiver_parser(parser: Any = None) -> Any:
    parser = parser if parser is not None else Parser(prog="PysmurfArchiverAgent")
    group = parser.add_argument_group("Agent options")
    group.add_argument("--data-dir", help="directory that the files are archived in")
    group.add_argument(
        *("--target", "--targets"),
        *(),
        dest="target",
        nargs="+",
        action="extend",
        default=[],
        help="instance id of a PysmurfMonitor whose files are archived; several may be named",
    )
    group.add_argument("--host", help="[user@]host of the SMuRF server; without it the files are on this host")
    group.add_argument("--user", help="ssh user there")
    group.add_argument(
        "--smurf-root", help=f"directory that the registered paths must be below; {SMURF_ROOT} if not given"
    )
    modes = ("idle", "init", "run")
    group.add_argument("--mode", choices=modes, default="run", help="idle and init: do not start run at boot")
    group.add_argument("--skystow-site", metavar="FILE", help="a site file, which then says all of the above but mode")
    return parser


def monitor_parser(parser: Any = None) -> Any:
    parser = parser if parser is not None else Parser(prog="PysmurfMonitor")
    group = parser.add_argument_group("Agent options")
    group.add_argument("--udp-port", type=int, default=8200, help="port that pysmurf's publishers send to")
    group.add_argument(
        "--udp-host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 is all of them, for SMuRF servers elsewhere",
    )
    group.add_argument(
        *("--root", "--roots"),
        dest="roots",
        nargs="+",
        action="extend",
        default=[],
        help=f"directory whose files may be registered, {SMURF_ROOT} if not given; several may be named",
    )
    group.add_argument(
        "--spool", help="file for what waits to be registered; ~/.skystow/INSTANCE-ID.spool if not given"
    )
    group.add_argument(
        "--create-table",
        nargs="?",
        const="true",
        default="false",
        choices=("true", "false", "True", "False"),
        help="make the table where there is none",
    )
    group.add_argument("--max-feeds", type=int, default=64, help="feeds of metadata, at most: one for each stream")
    group.add_argument("--test-mode", action="store_true", help="run ends when all that was received is registered")
    return parser
