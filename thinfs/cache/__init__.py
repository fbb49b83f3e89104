"""What a node keeps on disk: whole and partial contents, quota, eviction."""
