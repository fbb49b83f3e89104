"""The daemon: puts the parts together and keeps them running."""
