"""A `pysmurf_files` table: rows that register files, and columns that say what became of them.

table       its shape, queries, who is to blame         rows        a row becomes an arrival or a dead letter
tenancy     one ledger for a table and target           announcer   `copied`, `path`, `failed_copy_attempts`
"""

from skystow.adapters.pysmurf_files.announcer import STEPS, PysmurfFilesAnnouncer
from skystow.adapters.pysmurf_files.rows import Reader
from skystow.adapters.pysmurf_files.table import FilesTable
from skystow.adapters.pysmurf_files.tenancy import tenancy

__all__ = ["STEPS", "FilesTable", "PysmurfFilesAnnouncer", "Reader", "tenancy"]
