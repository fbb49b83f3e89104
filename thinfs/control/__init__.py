"""The daemon's control API: values, server and client."""
