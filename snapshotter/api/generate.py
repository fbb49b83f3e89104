"""Generate the ``*_pb2*`` modules from the .proto files: ``python -m snapshotter.api.generate``.

Needs grpcio-tools, of the dependency group ``lint``.
"""

from __future__ import annotations

from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2]
PROTOS = ("snapshotter/api/mount.proto", "snapshotter/api/snapshots.proto")
SERVICES = ("snapshotter/api/snapshots.proto",)


def generate(output: Path) -> None:
    """Write the generated modules to ``output``/snapshotter/api, which is made if needed.

    Raises:
        RuntimeError: protoc refuses a .proto file; it says why on stderr.
    """
    import grpc_tools
    from grpc_tools import protoc

    output.mkdir(parents=True, exist_ok=True)
    standard = Path(grpc_tools.__file__).parent / "_proto"
    include = ["protoc", f"-I{SOURCES}", f"-I{standard}"]
    messages = [f"--python_out={output}", f"--pyi_out={output}", *PROTOS]
    services = [f"--grpc_python_out={output}", *SERVICES]
    if protoc.main(include + messages) or protoc.main(include + services):
        raise RuntimeError("protoc refused a .proto file")


if __name__ == "__main__":
    generate(SOURCES)
