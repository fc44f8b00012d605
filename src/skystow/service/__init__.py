"""Where asyncio lives: intake, pumps and the outbox of one component, around plain functions run in threads."""
