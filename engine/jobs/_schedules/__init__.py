"""A job for each period of a clock."""
