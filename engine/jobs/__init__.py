"""Durable jobs: calls that a file of SQLite keeps until they are done."""
