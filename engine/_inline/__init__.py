"""The engine without threads and processes, in virtual time; its public face is ``engine.testing``."""
