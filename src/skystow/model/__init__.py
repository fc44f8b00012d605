"""The vocabulary: frozen records and pure rules. No I/O, no clock, no randomness."""
