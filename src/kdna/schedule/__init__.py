"""When an auto-backup is due, and the system's own schedulers: *timing*, *occasion*, *job*, *entry*.

A *timing* says how often, an *occasion* is one moment at which it falls due, a *job* is a command with its timing, and
an *entry* is what stands for a job in a scheduler of the system: lines of a crontab, two systemd units, a launchd
property list, a task of Windows.

An entry only wakes KDNA: at each occasion, once an hour in between, and after a start of the machine. Whether a run
is due is decided by `timing.due`, from what has run so far. That is one rule for all systems. Each scheduler has rules
of its own about summer time, sleep and missed runs (a systemd timer skips the day on which its hour is skipped), and
none can say "not before this date", or "once more, because it failed".
"""
