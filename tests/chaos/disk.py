"""The state folder's disk, to be filled: a tmpfs of its own for root, a limit on file sizes for others."""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

_CHUNK: Final = 1 << 16


class Disk:
    """A folder whose disk can be filled and freed at any time.

    Root gets a small tmpfs, whose writes then fail as on any full disk (ENOSPC). Without the right to mount, the
    process itself is kept from writing anything (RLIMIT_FSIZE, EFBIG).

    State: whether it is mounted.
    """

    def __init__(self, folder: Path, *, size: int) -> None:
        folder.mkdir(parents=True)
        self.folder: Final = folder
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self._ballast: Final = folder / "ballast"

    def fill(self, pid: int) -> None:
        """Let no write of the process succeed."""
        if not self.mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        with self._ballast.open("wb", buffering=0) as file:
            for size in (_CHUNK, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self, pid: int) -> None:
        """Let them succeed again."""
        if self.mounted:
            self._ballast.unlink(missing_ok=True)
        else:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def close(self) -> None:
        """Unmount."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)
            self.mounted = False
