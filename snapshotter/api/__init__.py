"""containerd's snapshots API: our own .proto and what protoc makes of it."""
