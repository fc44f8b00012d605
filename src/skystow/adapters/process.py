"""Who we are among all processes, and whether another one still lives: what frees a dead worker's claims at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from skystow.model.records import Worker


def this_worker() -> Worker:
    """This process. Read anew at each call, because a fork changes it. Raises `OSError` where /proc is not there."""
    pid = os.getpid()
    seen = _stat(pid)
    return Worker(
        host=socket.gethostname(),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid_namespace=os.readlink("/proc/self/ns/pid"),
        pid=pid,
        started=seen[1],
    )


def alive(worker: Worker, me: Worker) -> bool | None:
    """Whether `worker` still runs; None where `me` cannot see that, so that its lease must run out first.

    Only the same host and the same PID namespace can be judged, for only there does a pid mean the same process:

    - another boot id: that kernel is gone and all its processes with it. (Two machines of one name on one ledger look
      like this too. If so, a live claim is freed: its token fences it off, and work is done twice, never wrongly.)
    - another namespace is never judged, not even after a reboot: containers often share one host name across
      machines, and waiting for a lease costs a minute at most.
    """
    if (worker.host, worker.pid_namespace) != (me.host, me.pid_namespace):
        return None
    if worker.boot_id != me.boot_id:
        return False
    try:
        state, started = _stat(worker.pid)
    except (FileNotFoundError, ProcessLookupError):
        # /proc may hide the processes of others (hidepid), so ask the kernel before saying that it is gone.
        return None if _exists(worker.pid) else False
    # A zombie holds no claim any more, and a pid that is used again has another start time.
    return state not in "ZX" and started == worker.started


def _stat(pid: int) -> tuple[str, int]:
    """State and start time (clock ticks since boot): fields 3 and 22. The name before them may hold blanks and `)`."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
