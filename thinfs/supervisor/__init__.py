"""The supervisor: keeps the mount while the process that serves it comes and goes."""
