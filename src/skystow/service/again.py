"""Work that nobody else would begin again: whatever ends it is told, and after a rest it is begun anew."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from skystow.errors import SkystowError
from skystow.ports import Stop

FIRST_REST, LONGEST_REST = 1.0, 60.0


def again_and_again(work: Callable[[], None], stop: Stop, *, tell: Callable[[str], None]) -> None:
    """Until `stop`, or until `work` returns by itself. `tell` hears why it ended, `skystow.errors` as a sentence."""
    rest = FIRST_REST
    while not stop.is_set():
        began = time.monotonic()
        try:
            work()
        except SkystowError as fault:
            tell("; ".join((str(fault), *getattr(fault, "problems", ()))))
        except Exception as error:  # noqa: BLE001 - it is told whole
            tell(f"unforeseen, please report it: {''.join(traceback.format_exception(error))}")
        else:
            return
        if time.monotonic() - began > LONGEST_REST:
            rest = FIRST_REST
        stop.wait(rest)
        rest = min(LONGEST_REST, rest * 2)
