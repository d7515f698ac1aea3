"""Arguments and results as JSON: exact, or refused with their place."""
