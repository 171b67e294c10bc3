"""KDNA: encrypted, deduplicated backups to any server you can reach by SSH."""

__version__ = "0.1.0"
