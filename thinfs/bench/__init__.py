"""How long a container of any image takes to be ready: `thinfs bench`."""
