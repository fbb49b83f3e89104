"""containerd's snapshots API: our own .proto files and what protoc makes of them.

The ``*_pb2*`` modules are generated and committed. After a change of a .proto file::

    python -m snapshotter.api.generate

A test compares them with what the installed grpcio-tools generate.
"""
