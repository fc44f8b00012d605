"""What sources have in common whose files are the rows of somebody else's table.

source      what waits, a page at a time           sqlite      a table in an SQLite file, and who is to blame
verdicts    what it is told of its rows            tenancy     one ledger for a table, by a lock file
"""
