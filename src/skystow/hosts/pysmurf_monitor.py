"""The OCS agent PysmurfMonitor: listens to SMuRF servers, registers their files, passes their news on to OCS."""

from __future__ import annotations

import os
import time
from typing import Any

from ocs.ocs_agent import param

from skystow.config.pysmurf_agent import SMURF_ROOT
from skystow.hosts.ocs_agent import Halts, at_boot, start
from skystow.hosts.ocs_feeds import Feeds
from skystow.hosts.ocs_parsers import monitor_parser as make_parser
from skystow.service.again import again_and_again
from skystow.wiring.monitor import MonitorOptions, build_monitor, check


class PysmurfMonitor:
    """Registers what SMuRF servers announce by UDP."""

    def __init__(self, agent: Any, options: MonitorOptions, feeds: int) -> None:
        self.agent, self.options = agent, options
        self.halts, self.feeds = Halts(agent), Feeds(agent, feeds)

    @param("test_mode", default=False, type=bool)
    def run(self, session: Any, params: Any) -> tuple[bool, str]:
        """run(test_mode=False)

        **Process** - Listen for datagrams of pysmurf's publishers and register the files that they name, until stopped.
        The session is ``degraded`` while the table or the spool is away; files wait in the spool meanwhile.

        Parameters:
            test_mode (bool): end when something was received and all of it is registered.

        Notes
        -----
        An example of the session data::

            >>> response.session['data']
            {'timestamp': 1620000000.0,
             'counts': {'files': 1000, 'lost': 3, 'malformed': 1, 'received': 1100, 'registered': 998},
             'spool': {'waiting': 2, 'oldest': 1619999990.0, 'fileless': 2, 'held': 0,
                       'why': ['1/a.dat: no such file']},
             'senders': {'smurf-srv/crate1slot2/script': {'last': 1102, 'received': 1100, 'lost': 3, 'restarts': 0,
                                                          'repeated': 0, 'heard_at': 1619999999.0}},
             'last_files': [{'file': '/data/smurf_data/…', 'size': 4096, 'at': 1619999999.5}],
             'refusals': [{'sender': '…', 'why': 'it is not JSON', 'at': 1619999000.0}],
             'notes': [], 'faults': {}, 'feeds_refused': 0, 'feeds_failed': 0, 'feeds_unheard': 0}
        """
        halt = self.halts.of(session)

        def show(document: dict[str, Any]) -> None:
            lost = {"refused": self.feeds.refused, "failed": self.feeds.failed, "unheard": self.feeds.unheard}
            session.data = document | {f"feeds_{how}": count for how, count in lost.items()}
            session.degraded = bool(document["faults"])

        def work() -> None:
            with build_monitor(
                self.options, os.environ, publish=self.feeds.publish, tell=self._log, stop=halt
            ) as monitor:
                idle = (lambda: monitor.counts["received"] > 0) if params["test_mode"] else None
                monitor.run(halt, show, idle=idle)

        def tell(text: str) -> None:
            self._log(text)
            session.data = dict(session.data) | {"faults": {"monitor": text}, "timestamp": time.time()}
            session.degraded = True

        again_and_again(work, halt, tell=tell)
        return True, "stopped; what waits in the spool is registered by the next start"

    def _log(self, text: str) -> None:
        self.agent.log.warn("{text}", text=text)


def _register(agent: Any, options: Any) -> None:
    said = MonitorOptions(
        target=options.instance_id,
        site=options.address_root,
        spool=options.spool or os.path.expanduser(f"~/.skystow/{options.instance_id}.spool"),
        roots=options.roots or [SMURF_ROOT],
        udp_host=options.udp_host,
        udp_port=options.udp_port,
        create_table=options.create_table.lower() == "true",
    )
    check(said, os.environ)
    ours = PysmurfMonitor(agent, said, options.max_feeds)
    agent.register_process("run", ours.run, ours.halts.stop)
    at_boot(agent, "run", {"test_mode": options.test_mode})


def main(args: Any = None) -> None:
    start("PysmurfMonitor", make_parser(), _register, args)


__all__ = ["main", "make_parser"]
