"""Other libraries on an engine, one module for each: nothing is imported before its module is."""
