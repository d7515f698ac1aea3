"""Jobs in a file of SQLite, through ``apsw``: imported only where such a file is used."""
