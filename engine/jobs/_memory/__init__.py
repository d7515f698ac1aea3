"""Jobs in memory: the model that every other book is compared with, and a store for tests."""
