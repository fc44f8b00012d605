"""Definitions for tests: the observatory's, where they lie beside the repository, and IDL that a test writes itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cyclonedds.core import Policy, Qos
from cyclonedds.util import duration

from skystow.adapters.sal.topic import Topic

INTERFACES = Path(__file__).resolve().parents[2] / "shared" / "sal-interfaces"
"""Data of the observatory, of version 10, to be read there: `idl/`, and the same as `xml/`."""

WITHIN = 30.0
"""Seconds, for whatever another process is waited for."""

LOOPBACK = """\
<CycloneDDS><Domain id="any">
  <General>
    <Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>
    <AllowMulticast>false</AllowMulticast>
  </General>
  <Discovery>
    <ParticipantIndex>auto</ParticipantIndex>
    <MaxAutoParticipantIndex>60</MaxAutoParticipantIndex>
    <Peers><Peer address="127.0.0.1"/></Peers>
  </Discovery>
</Domain></CycloneDDS>
"""
"""For CYCLONEDDS_URI: nothing leaves this machine."""

RELIABLE = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepAll)

HEAD = """\
    string<8> private_revCode; //private
    double private_sndStamp; //private
    double private_rcvStamp; //private
    long private_seqNum; //private
    string<128> private_identity; //private
    long private_origin; //private
"""


def idl_of(component: str, topics: Iterable[Topic], versions: str = "// SAL_VERSION=5.2.0 XML_VERSION=10.0.0\n") -> str:
    """What SAL's generator would write for these topics."""
    lines = [f"{versions}module {component} {{"]
    for topic in topics:
        lines.append(f'\tstruct {topic.struct} {{ // @Metadata=(Description="of {topic.name}; {{not}} code")')
        for each in topic.fields:
            bound = f"<{each.size}>" if each.size is not None else ""
            length = f"[{each.count}]" if each.many else ""
            lines.append(f'\t  {each.kind}{bound}\t{each.name}{length};\t// @Metadata=(Units="unitless")')
        keys = "".join(f" {each.name}" for each in topic.fields if each.key)
        lines += ["\t};", f"\t#pragma keylist {topic.struct}{keys}"]
    return "\n".join([*lines, "};", ""])
