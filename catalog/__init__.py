"""Trees of files in SQLite: a library of its own, synchronous, offline, standard library only."""
