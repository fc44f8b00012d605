"""The database of suprsync (`supersync_v0`, `timecode_dirs_v0`): rows that register files, and columns that say what
became of them. Written by others at the same time.

database    transactions, shape, queries                rows         a row becomes an arrival or a dead letter
announcer   what became of the rows                     timecodes    pure: what belongs to a day's directory
finalizer   the file that says that one is complete     standing     how the directories of an archive are, in numbers
"""

from skystow.adapters.suprsync.announcer import STEPS, SuprSyncAnnouncer
from skystow.adapters.suprsync.database import SuprSyncDatabase
from skystow.adapters.suprsync.finalizer import Finalizer
from skystow.adapters.suprsync.rows import Reader
from skystow.adapters.suprsync.standing import Standing, standings

__all__ = ["STEPS", "Finalizer", "Reader", "Standing", "SuprSyncAnnouncer", "SuprSyncDatabase", "standings"]
