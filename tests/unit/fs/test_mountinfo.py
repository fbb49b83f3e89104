from __future__ import annotations

from pathlib import Path

from thinfs.fs import mountinfo
from thinfs.fs.mountinfo import Mounted, parse
from thinfs.fs.mountpoint import MountOptions, may_allow_other, options_text

TEXT = (
    b"22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
    b"99 28 0:53 / /mnt/a\\040b\\134c ro,relatime - fuse.thinfs thinfs ro,user_id=0\n"
    b"98 28 259:3 /x /data rw shared:1 master:2 - ext4 /dev/vda rw\n"
)


def test_lines_are_taken_apart_whatever_their_optional_fields() -> None:
    assert parse(TEXT) == [
        Mounted((0, 21), b"/sys", "sysfs"),
        Mounted((0, 53), b"/mnt/a b\\c", "fuse.thinfs"),
        Mounted((259, 3), b"/data", "ext4"),
    ]


def test_what_is_mounted_at_the_root_of_this_machine_is_found() -> None:
    assert mountinfo.at(Path("/"))
    assert mountinfo.at(Path("/proc"))[-1].kind == "proc"


def test_others_may_look_when_root_mounts_or_fuse_conf_allows() -> None:
    assert may_allow_other(0, "")
    assert may_allow_other(1000, "# comment\nuser_allow_other\n")
    assert not may_allow_other(1000, "#user_allow_other\nmount_max = 5\n")


def test_setuid_bits_work_only_in_mounts_that_keep_others_out() -> None:
    plain = options_text(MountOptions(read_ahead_kib=1), 0, "")
    daemon = options_text(MountOptions(read_ahead_kib=1, privileged=True), 0, "")
    assert daemon - plain == {"suid", "dev"}
    assert {"ro", "default_permissions", "allow_other"} <= plain


def test_an_ordinary_user_asks_for_nothing_that_fusermount_refuses() -> None:
    text = options_text(MountOptions(read_ahead_kib=1, privileged=True), 1000, "")
    assert not text & {"allow_other", "suid", "dev"}


def test_the_size_of_reads_is_left_to_the_kernel() -> None:
    assert not any("max_read" in option for option in options_text(MountOptions(1), 0, ""))
