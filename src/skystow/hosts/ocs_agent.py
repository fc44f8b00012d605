"""What our OCS agents share: how they are started, and what keeps a router's absence from ending them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ocs import ocs_agent, site_config

from skystow.errors import SkystowError
from skystow.service.halt import Halt

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


def problems(fault: SkystowError) -> Sequence[str]:
    return getattr(fault, "problems", ())


class Halts:
    """One for each run of a process or task: whoever stops it may come before it has begun."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._halts: dict[int, Halt] = {}

    def of(self, session: Any) -> Halt:
        return self._halts.setdefault(session.session_id, Halt())

    def stop(self, session: Any, params: Any) -> tuple[bool, str]:
        """For OCS, as a stopper or aborter."""
        beat = self._agent.heartbeat_call
        if beat is not None and not beat.running:
            # OCS leaves a router that would not have it, and stops all that runs; it joins again, and starts nothing.
            return False, "the router was left, nobody asked: the work goes on"
        self.of(session).set()
        if session.status == "running":
            session.set_status("stopping")
        return True, "asked to stop"
