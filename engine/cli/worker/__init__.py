"""``engine worker``: runs the jobs of a module until it is told to end."""
