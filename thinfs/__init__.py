"""Containers that start before their image has arrived."""

__version__ = "0.1.0"
