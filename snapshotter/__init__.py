"""The containerd snapshotter: knows containerd's rules and the daemon's control API."""
