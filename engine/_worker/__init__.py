"""The child side of the process lane. It imports only what it runs: a worker is up in 20 to 30 ms."""
