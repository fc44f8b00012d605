"""The middle: what becomes of a file, as plain functions. No asyncio, no threads, no drivers."""
