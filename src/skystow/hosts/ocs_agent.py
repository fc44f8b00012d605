"""What our OCS agents share: how they are started, and what keeps a router's absence from ending them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ocs import ocs_agent, site_config
from twisted.internet import reactor as twisted_reactor

from skystow.errors import SkystowError
from skystow.service.halt import Halt

reactor: Any = twisted_reactor
"""Its types are of interfaces that type checkers do not follow."""

FOR_EVER = 0
"""Of `--crossbar-timeout`: wait for a router however long it takes."""


class Parser(argparse.ArgumentParser):
    """Without `--crossbar-timeout` we wait for ever: OCS would end a process after 10 s without a router, and the work
    in it, which needs none. (OCS adds the option itself, and fills it from its site file where we leave it empty.)"""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found = super().parse_args(args, namespace)
        if getattr(found, "crossbar_timeout", FOR_EVER) is None:
            found.crossbar_timeout = FOR_EVER
        return found


def start(agent_class: str, parser: argparse.ArgumentParser, register: Callable[[Any, Any], None], args: Any) -> None:
    """Until SIGTERM. `register` is given OCS's agent and the options; what it raises ends us with a sentence."""
    options = site_config.parse_args(agent_class=agent_class, parser=parser, args=args)
    agent, runner = ocs_agent.init_site_agent(options)
    try:
        register(agent, options)
    except SkystowError as fault:
        sys.stderr.write("".join(f"{agent_class}: {line}\n" for line in (str(fault), *problems(fault))))
        raise SystemExit(2) from fault
    runner.run(agent, auto_reconnect=True)


def at_boot(agent: Any, process: str, params: dict[str, Any]) -> None:
    """Start it with the reactor. OCS's own `startup` would wait for a router, and the work needs none."""
    reactor.callWhenRunning(agent.start, process, params, agent)


def problems(fault: SkystowError) -> Sequence[str]:
    return getattr(fault, "problems", ())


class Halts:
    """One for each run of a process or task: whoever stops it may come before it has begun."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._halts: dict[int, Halt] = {}
        reactor.addSystemEventTrigger("before", "shutdown", self._all)

    def _all(self) -> None:
        """Whatever ends the reactor: it waits for our threads."""
        for halt in self._halts.values():
            halt.set()

    def of(self, session: Any) -> Halt:
        return self._halts.setdefault(session.session_id, Halt())

    def stop(self, session: Any, params: Any) -> tuple[bool, str]:
        """For OCS, as a stopper or aborter."""
        beat = self._agent.heartbeat_call
        if beat is None or not beat.running:
            # OCS leaves a router that will not have it, as when our predecessor is still known there, and stops all
            # that runs; it joins again, and starts nothing. No client can ask meanwhile; a shutdown has its own way.
            return False, "no router, so nobody asked: the work goes on"
        self.of(session).set()
        if session.status == "running":
            session.set_status("stopping")
        return True, "asked to stop"
