"""skystow, the observatory archiver."""

__version__ = "0.1.0"
