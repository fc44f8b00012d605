"""Redis as the scoreboard: the originals' keys, as hints that expire."""
