"""Every port in memory: what the engine's tests and the demonstrations run on. Nothing here survives the process."""

from skystow.adapters.memory.clock import ManualClock
from skystow.adapters.memory.ledger import MemoryLedger
from skystow.adapters.memory.places import MemoryAnnouncer, MemorySource, MemoryStore, MemoryTree

__all__ = ["ManualClock", "MemoryAnnouncer", "MemoryLedger", "MemorySource", "MemoryStore", "MemoryTree"]
