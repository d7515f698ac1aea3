"""The lanes: one contract (``base``), one module for each."""
