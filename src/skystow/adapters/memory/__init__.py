"""Every port in memory: what the engine's tests and the demonstrations run on. Nothing here survives the process."""

from skystow.adapters.memory.board import MemoryBoard
from skystow.adapters.memory.clock import ManualClock
from skystow.adapters.memory.frames import MemoryCatalogue
from skystow.adapters.memory.front import MemoryFront
from skystow.adapters.memory.ledger import MemoryLedger
from skystow.adapters.memory.mail import MemoryBus
from skystow.adapters.memory.places import MemoryAnnouncer, MemorySource, MemoryStore, MemoryTree
from skystow.adapters.memory.talks import MemoryTalks

__all__ = [
    "ManualClock",
    "MemoryAnnouncer",
    "MemoryBoard",
    "MemoryBus",
    "MemoryCatalogue",
    "MemoryFront",
    "MemoryLedger",
    "MemorySource",
    "MemoryStore",
    "MemoryTalks",
    "MemoryTree",
]
