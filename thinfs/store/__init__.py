"""The repository: where its files are, writing it, reading it from disk and over HTTP."""
