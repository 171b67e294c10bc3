"""kdna.conf and its records: *servers* (where backups go) and *auto-backups* (what repeats)."""
