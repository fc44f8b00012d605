"""The OCS agent PysmurfArchiverAgent: the file archiver as OCS starts, stops and watches it."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ocs.ocs_agent import param

from skystow.config.pysmurf_agent import AgentOptions, agent_site
from skystow.errors import SkystowError
from skystow.hosts.ocs_agent import Halts, at_boot, start
from skystow.hosts.ocs_parsers import archiver_parser as make_parser
from skystow.model.records import plain
from skystow.service.account import degraded, figures
from skystow.wiring.attended import Attended

FEED = "archiver_stats"
PUBLISH = 10.0
"""Seconds from one record on the feed to the next."""


class PysmurfArchiverAgent:
    """Brings the files home that a `pysmurf_files` table registers, and tells the table."""

    def __init__(self, agent: Any, archiver: Attended) -> None:
        self.agent, self.archiver = agent, archiver
        self.halts = Halts(agent)
        self._published = 0.0
        agent.register_feed(FEED, record=True, agg_params={"frame_length": 60}, buffer_time=0)

    @param("_")
    def run(self, session: Any, params: Any) -> tuple[bool, str]:
        """run()

        **Process** - Archive whatever the table registers, until stopped. What goes wrong never ends it: the session is
        ``degraded`` until it is right again.

        Notes
        -----
        An example of the session data::

            >>> response.session['data']
            {'timestamp': 1620000000.0, 'archived': 1000, 'archived_bytes': 181000000, 'failed_attempts': 0,
             'backlog': 12, 'retrying': 0, 'quarantined': 0, 'conflicts': 0, 'dead_letters': 0,
             'oldest_waiting': {'file': '15647/tune_band/1564799250_b1.txt', 'since': 1619999990.0, 'seconds': 10.0},
             'last_files': [{'file': '/data/pysmurf/15647/…', 'size': 4096, 'at': 1619999999.5}],
             'rates': {'files_per_s': 35.2, 'bytes_per_s': 6300000.0}, 'notes': [], 'fault': '',
             'places': {'archive': {'well': True, 'since': None, 'reason': ''}}}
        """

        def show(document: dict[str, Any]) -> None:
            session.data, session.degraded = document, degraded(document)
            if time.monotonic() - self._published >= PUBLISH and self.agent.realm_joined:
                self._published = time.monotonic()
                block = {"block_name": FEED, "timestamp": document["timestamp"], "data": figures(document)}
                self.agent.publish_to_feed(FEED, block)

        self.archiver.run(self.halts.of(session), show)
        return True, "stopped; the next start goes on from here"

    @param("file", default=None, type=str)
    @param("all", default=False, type=bool)
    def retry(self, session: Any, params: Any) -> tuple[bool, str]:
        """retry(file=None, all=False)

        **Task** - Try again what failed too often: one file, or all that are quarantined, but for conflicts.

        Parameters:
            file (str): its path, at the source or in the archive, or its number.
            all (bool): every quarantined file.
        """

        def act() -> str:
            names = [params["file"]] if params["file"] is not None else []
            count = self.archiver.retry(names, everything=params["all"])
            session.data = {"requeued": count, "timestamp": time.time()}
            return f"{count} in the queue again"

        return _told(act)

    @param("file", type=str)
    def trace(self, session: Any, params: Any) -> tuple[bool, str]:
        """trace(file)

        **Task** - All that is known of one file, as session data: where it came from, where it is, what happened to it
        and who must act.

        Parameters:
            file (str): its path, at the source or in the archive, or its number.
        """

        def act() -> str:
            document = self.archiver.trace(params["file"]) | {"timestamp": time.time()}
            session.data = json.loads(json.dumps(document, default=plain))
            return str(document["state"])

        return _told(act)

    @param("destination", default=None, type=str)
    def verify(self, session: Any, params: Any) -> tuple[bool, str]:
        """verify(destination=None)

        **Task** - Read every archived file again and compare its digest. Fails where one is damaged or missing.

        Parameters:
            destination (str): of a site file with several; None: all.
        """

        def show(document: dict[str, Any]) -> None:
            session.data = document

        def act() -> str:
            halt = self.halts.of(session)
            show(found := self.archiver.verify(params["destination"], stop=halt, show=show))
            text = ", ".join(f"{found[what]} {what}" for what in ("verified", "damaged", "missing"))
            return text + (" when it was aborted" if halt.is_set() else "")

        ok, text = _told(act)
        return ok and not session.data["damaged"] + session.data["missing"], text


def _told(act: Any) -> tuple[bool, str]:
    try:
        return True, act()
    except SkystowError as fault:
        return False, str(fault)


def _register(agent: Any, options: Any) -> None:
    said = AgentOptions(
        options.data_dir, options.target, options.host, options.user, options.smurf_root, options.skystow_site
    )
    archiver = Attended(agent_site(said, os.environ), tell=lambda text: agent.log.warn("{text}", text=text))
    ours = PysmurfArchiverAgent(agent, archiver)
    agent.register_process("run", ours.run, ours.halts.stop)
    agent.register_task("retry", ours.retry)
    agent.register_task("trace", ours.trace)
    agent.register_task("verify", ours.verify, aborter=ours.halts.stop)
    if options.mode == "run":
        at_boot(agent, "run", {})


def main(args: Any = None) -> None:
    start("PysmurfArchiverAgent", make_parser(), _register, args)


__all__ = ["main", "make_parser"]
