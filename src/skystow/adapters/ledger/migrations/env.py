"""Alembic's door: runs the migrations in the transaction that `open.py` began."""

from alembic import context

from skystow.adapters.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
