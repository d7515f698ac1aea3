"""Which integers SQLite can take, and which of them are ids."""

__all__ = ["MOST", "can_be_id"]

MOST = 2**63 - 1


def can_be_id(value: int) -> bool:
    """Say whether a row may have this id; a larger integer cannot even be asked for."""
    return 0 < value <= MOST
