"""From layer streams to objects, catalogs and a thin image."""
