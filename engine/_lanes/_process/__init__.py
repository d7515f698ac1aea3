"""The parts of the process lane, parent side; ``_lanes/processes.py`` puts them together."""
