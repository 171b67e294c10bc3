"""`launch.py FD COMMAND …`: run the command, write what it cost to the file descriptor.

A bare process of its own, because Linux counts the parent's size at the fork as the child's peak: with this one as the
parent, what cannot be told apart is the first 10 MB. On SIGTERM it kills the command, and ends after it.
"""

import os
import signal
import sys
import time


def main() -> int:
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    start = time.perf_counter()
    child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # bytes there, kibibytes elsewhere
    os.write(report, f"{seconds} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss / unit}".encode())
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
