"""The systemd units: no I/O.

What they do and leave out has one reason each:

- No sandboxing that makes a mount namespace (ProtectSystem=, PrivateTmp= …): what the daemon
  mounts is for containerd and its containers, and the snapshotter names paths in it.
- KillMode=mixed: on stop only the main process hears SIGTERM, so that it drains and unmounts in
  its own order, whatever helpers (fusermount3, ctr) it runs; the rest is killed when it has ended.
- Wants=, not Requires=: restarting the daemon must not restart the snapshotter, nor containerd.
- RuntimeDirectoryPreserve=yes: systemd must not clear a directory that holds a live mount.
- FileDescriptorStoreMax= and --keep-mount: systemd keeps the mount's device, the control socket
  and what is known about them while the daemon is restarted, also when its supervisor was killed:
  readers wait, and containers go on. When the service is stopped, systemd lets the device go, and
  the mount answers with errors until the next start takes it away.
- WatchdogSec=: the supervisor watches its worker; systemd watches the supervisor.
- ExecReload=: a new worker takes over the mount; the command ends when it serves.
- OOMScoreAdjust=: memory is better taken from one container than from what all of them read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thinfs.errors import UsageError
from thinfs.install.stamp import stamped

if TYPE_CHECKING:
    from pathlib import PurePosixPath

DAEMON = "thinfs-daemon.service"
SNAPSHOTTER = "thin-snapshotter.service"

_PLAIN = re.compile(r"/[A-Za-z0-9/._+-]*")

_DAEMON = """\
[Unit]
Description=thinfs daemon: serves the root file systems of thin images
Wants=network-online.target modprobe@fuse.service
After=network-online.target local-fs.target modprobe@fuse.service
Before=thin-snapshotter.service containerd.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={bin}/thinfs daemon --keep-mount
ExecReload={bin}/thinfs daemon reload
FileDescriptorStoreMax=8
WatchdogSec=60s
Restart=always
RestartSec=1s
KillMode=mixed
TimeoutStartSec=60s
TimeoutStopSec=60s
RuntimeDirectory=thinfs
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
StateDirectory=thinfs
StateDirectoryMode=0755
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target containerd.service
"""

_SNAPSHOTTER = """\
[Unit]
Description=thin-snapshotter: containerd snapshots of ordinary and thin images
Wants=thinfs-daemon.service
After=thinfs-daemon.service local-fs.target
Before=containerd.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={bin}/thin-snapshotter
Restart=always
RestartSec=1s
KillMode=mixed
TimeoutStartSec=60s
TimeoutStopSec=60s
RuntimeDirectory=thinfs
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
StateDirectory=thinfs
StateDirectoryMode=0755
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target containerd.service
"""


def units(bin_directory: PurePosixPath) -> dict[str, bytes]:
    """Both units by file name.

    Args:
        bin_directory: holds the two commands, as systemd will see it.

    Raises:
        UsageError: it is not absolute, or has characters that mean something to systemd.
    """
    if not _PLAIN.fullmatch(str(bin_directory)):
        raise UsageError(f"{bin_directory}: units need an absolute path of plain characters")
    return {
        DAEMON: stamped(_DAEMON.format(bin=bin_directory)),
        SNAPSHOTTER: stamped(_SNAPSHOTTER.format(bin=bin_directory)),
    }
