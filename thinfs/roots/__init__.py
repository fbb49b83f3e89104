"""Composed roots: recipes to catalogs to directories that overlayfs can use."""
