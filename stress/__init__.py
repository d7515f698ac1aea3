"""Stress scripts: one for each claim; see README.md, and ``python -m stress --list``."""
