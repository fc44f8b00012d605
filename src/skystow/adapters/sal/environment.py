"""What the observatory's environment says of SAL: the variables that ts_salobj 6 reads, and what of them we can use.

    LSST_DDS_PARTITION_PREFIX       required: who does not share it does not hear us
    LSST_DDS_DOMAIN_ID              DDS domain, 0 where it is not set
    LSST_DDS_HISTORYSYNC            negative: who watches does not ask for what was said before he came
    LSST_DDS_ENABLE_AUTHLIST        1: commands only from those on the list
    LSST_DDS_INTERFACE              the network interface, by name or address; without it only this host is spoken to
    LSST_DDS_RESPONSIVENESS_TIMEOUT seconds that a writer waits for a reader that does not take what it is sent
    CYCLONEDDS_URI                  Cyclone's own configuration: whatever it says goes before the two above

`LSST_DDS_QOS` and the variables of OpenSplice name files that only OpenSplice can read; they are named in a note, never
silently passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from skystow.errors import ConfigError
from skystow.model.records import shown

PREFIX, DOMAIN, HISTORY = "LSST_DDS_PARTITION_PREFIX", "LSST_DDS_DOMAIN_ID", "LSST_DDS_HISTORYSYNC"
AUTHLIST, INTERFACE = "LSST_DDS_ENABLE_AUTHLIST", "LSST_DDS_INTERFACE"
RESPONSIVENESS, OWN = "LSST_DDS_RESPONSIVENESS_TIMEOUT", "CYCLONEDDS_URI"
FOREIGN = ("LSST_DDS_QOS", "OSPL_URI", "OSPL_HOME", "OSPL_MASTER_PRIORITY", "OSPL_LOGPATH")

BLOCKING = 0.1
"""Seconds that a writer waits, where nobody says otherwise (the observatory's QoS)."""

LOOPBACK = """\
<CycloneDDS><Domain id="any">
  <General>
    <Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces><AllowMulticast>false</AllowMulticast>
  </General>
  <Discovery>
    <ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>100</MaxAutoParticipantIndex>
    <Peers><Peer address="127.0.0.1"/></Peers>
  </Discovery>
</Domain></CycloneDDS>"""

NETWORK = """\
<CycloneDDS><Domain id="any">
  <General><Interfaces><NetworkInterface {how}="{which}"/></Interfaces></General>
</Domain></CycloneDDS>"""


@dataclass(frozen=True, slots=True)
class Environment:
    """`prefix` of partitions; `history`: what was said before is asked for; `blocking` seconds; `configuration`:
    Cyclone's XML, None: its own."""

    prefix: str
    domain: int = 0
    history: bool = True
    authorised: bool = False
    blocking: float = BLOCKING
    configuration: str | None = LOOPBACK
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Environment:
        """Raises `ConfigError`, which names the variable."""
        prefix = environment.get(PREFIX, "")
        if not prefix:
            raise ConfigError(f"{PREFIX} is not set", remedy="SAL's components find each other by it; ask who runs DDS")
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", prefix):
            raise ConfigError(f"{PREFIX} is ‘{shown(prefix)}’", remedy="letters, digits, ‘_’, ‘-’ and ‘.’, at most 100")
        history = _number(environment, HISTORY, 60.0, lowest=-math.inf)
        return cls(
            prefix,
            _domain(environment),
            history >= 0,
            _flag(environment, AUTHLIST),
            _number(environment, RESPONSIVENESS, BLOCKING, lowest=0.001),
            _configuration(environment),
            tuple(
                f"{each} is set, and only OpenSplice can read what it names"
                for each in FOREIGN
                if environment.get(each)
            ),
        )

    def partition(self, component: str, *, commands: bool) -> str:
        """`<prefix>.<Name>.cmd` for commands, `.data` for all else."""
        return f"{self.prefix}.{component}.{'cmd' if commands else 'data'}"


def _configuration(environment: Mapping[str, str]) -> str | None:
    which = environment.get(INTERFACE, "")
    if environment.get(OWN):
        return None
    if not which:
        return LOOPBACK
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", which):
        raise ConfigError(f"{INTERFACE} is ‘{shown(which)}’", remedy="name an interface, such as eth0, or its address")
    return NETWORK.format(
        how="address" if re.fullmatch(r"[0-9.]+|[0-9a-fA-F]*:[0-9a-fA-F:.]*", which) else "name", which=which
    )


def _domain(environment: Mapping[str, str]) -> int:
    said = environment.get(DOMAIN, "") or "0"
    if not said.isascii() or not said.isdecimal() or int(said) > 230:
        raise ConfigError(f"{DOMAIN} is ‘{shown(said)}’", remedy="it should be a whole number from 0 to 230")
    return int(said)


def _flag(environment: Mapping[str, str], name: str) -> bool:
    said = environment.get(name, "") or "0"
    if said not in ("0", "1"):
        raise ConfigError(f"{name} is ‘{shown(said)}’", remedy="it should be 1, or 0")
    return said == "1"


def _number(environment: Mapping[str, str], name: str, usual: float, *, lowest: float) -> float:
    said = environment.get(name, "")
    try:
        number = float(said) if said else usual
    except ValueError:
        number = math.nan
    if not lowest <= number < 1e6:
        raise ConfigError(f"{name} is ‘{shown(said)}’", remedy="it should be a number of seconds")
    return number
