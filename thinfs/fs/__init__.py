"""The file system in our own terms, and its pyfuse3 adapter."""
