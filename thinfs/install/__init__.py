"""Registering thinfs on a machine: containerd's configuration, systemd units, our own settings."""
