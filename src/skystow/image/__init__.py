"""The image door's conversations: Archiver, Archive Controller, Forwarder, OODS. No I/O: `hear` a message, get effects.

Each is a `skystow.ports.talk.Conversation`. What it wants done it asks of hands (`skystow.model.acts`), and hears of
it by a message; a night that was recorded replays in a unit test.
"""
