"""Shuts a mounted ext4 file system down as a power cut would: cut_power.py MOUNT_POINT FLAG.

FLAG 1 lets ext4 flush its journal first, 2 lets it write nothing more (FS_IOC_SHUTDOWN, linux/fs.h).
Says "ready" and cuts when it reads a line, so that whoever asks for it knows the moment.
"""

import fcntl
import os
import struct
import sys

FS_IOC_SHUTDOWN = 0x8004587D

mount_point, flag = os.open(sys.argv[1], os.O_RDONLY), struct.pack("I", int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
fcntl.ioctl(mount_point, FS_IOC_SHUTDOWN, flag)
