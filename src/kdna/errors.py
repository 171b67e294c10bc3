"""Every error KDNA raises on purpose, with its exit code and its hint.

    KdnaError                    1   anything below; never raised itself
    ├── UsageError               2   the command was given something that cannot be
    ├── Declined                 1   a question was answered no, or could not be asked
    ├── ConfigError              1   kdna.conf cannot be read or written
    ├── SshConfigError           1   ~/.ssh/config cannot be read
    ├── KeyFileError             1   a key file is missing, malformed or already there
    ├── Unsupported              1   this machine lacks something KDNA cannot do without
    ├── OutputError              1   what there is to say cannot be written
    ├── SchedulerError           1   the system's scheduler did not take an entry, or give it back
    │   └── NoScheduler          1   this machine has none
    ├── SourceError              1   the files to back up
    ├── TargetError              1   the place to restore to
    ├── StorageError             1   the server, or the folder that stands for one
    │   ├── Unreachable          1   no connection: name, route, port, refused, timed out
    │   ├── ConnectionLost       1   there was one, and reconnecting did not help
    │   ├── HostKeyUnknown       1   first contact, and nobody to ask
    │   ├── HostKeyChanged       1   not the server it was
    │   ├── LoginRefused         1   no key the server accepts
    │   ├── NoSftp               1   SSH works, SFTP does not
    │   ├── NoShell              1   no way to let the server compute something itself
    │   ├── Missing              1   no object of that name
    │   ├── Exists               1   an object of that name is there already
    │   ├── Denied               1   no permission, or read-only
    │   │   └── Forbidden        1   an account that may only add
    │   └── Full                 1   no space or quota left
    └── RepositoryError          1   what lies in the storage; never raised itself
        ├── NoRepository         1   nothing there yet
        ├── Vanished             1   nothing there any more
        ├── ForeignFolder        1   something there, and not ours
        ├── NewerFormat          1   written by a later KDNA
        ├── WrongKey             1   this key does not open it
        ├── Damaged              1   an object is not what was written
        ├── NoSuchBackup         1   nothing matches
        ├── Ambiguous            1   more than one matches
        ├── TagTaken             1   the project has that tag already
        ├── Held                 1   somebody put a hold on the backup
        ├── Refused              1   a prune can't be sure what the backups need
        └── Fenced               1   this session was declared dead while it ran

"Missing", "Damaged" and "Unreachable" are never confused: one means that the object is not there, one that it is
there and wrong, one that nobody knows. Errors of the source and of the server are different branches on purpose: the
first let a backup go on, the second end it. `Interrupted`, 130, is beside them: a signal is nobody's trouble.
"""

from __future__ import annotations


class KdnaError(Exception):
    """Base of all errors meant for the user: `str(error)` says what happened, `error.hint` what to do."""

    exit_code = 1
    default_hint = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = self.default_hint if hint is None else hint


class Interrupted(BaseException):
    """Ctrl-C, or a signal to end; what a `KdnaError` has, and none: whoever goes on after an error stops here."""

    exit_code = 130
    hint = "Earlier backups are untouched; what was sent already is reused by the next run."


class UsageError(KdnaError):
    """The command was given something that cannot be."""

    exit_code = 2
    default_hint = "See --help of the command."


class Declined(KdnaError):
    """A question was answered no, or could not be asked because there is no terminal."""

    default_hint = "Nothing was changed."


class ConfigError(KdnaError):
    """kdna.conf cannot be read or written."""

    default_hint = "Correct that line of kdna.conf; nothing was changed."


class SshConfigError(KdnaError):
    """The user's ssh config is missing, cannot be read, or holds something that cannot be."""

    default_hint = "Correct the ssh config: 'ssh -G HOST' checks it."


class KeyFileError(KdnaError):
    """A key file is missing, malformed or already there."""


class Unsupported(KdnaError):
    """This machine lacks something KDNA cannot do without: an algorithm of its cryptography library, or memory."""


class OutputError(KdnaError):
    """What a command has to say cannot be written, as when standard output goes to a full disk."""

    default_hint = "What was done is done."


class SchedulerError(KdnaError):
    """The system's scheduler did not take an entry, or give it back."""

    default_hint = (
        "Nothing was changed. --no-schedule leaves the scheduler alone, and 'kdna auto-backup daemon' stands in."
    )


class NoScheduler(SchedulerError):
    """This machine has no scheduler that KDNA could use."""

    default_hint = (
        "Install cron (Debian, Ubuntu: 'apt install cron'; Fedora: 'dnf install cronie'). Or repeat with "
        "--no-schedule and keep 'kdna auto-backup daemon' running."
    )


class SourceError(KdnaError):
    """A file or folder to back up cannot be read."""

    default_hint = "Check the path and its permissions; nothing was backed up."


class TargetError(KdnaError):
    """The place to restore to cannot take it."""

    default_hint = "Choose another folder to restore into."


class StorageError(KdnaError):
    """The server, or the folder that stands for one, did not do what was asked."""

    default_hint = "Look at the server and its folder: 'kdna server list', 'kdna server status ALIAS'."


class Unreachable(StorageError):
    """No connection could be made: name, route, port, refusal or time-out."""

    default_hint = "Check the address and the port, and that the server is up."


class ConnectionLost(StorageError):
    """The connection broke and reconnecting did not help."""

    default_hint = "Run the command again: what was sent already is reused."


class HostKeyUnknown(StorageError):
    """The server's host key is not known, and there is no terminal to ask on."""

    default_hint = "Compare the fingerprint with the server's, then repeat with --accept-new-host-key."


class HostKeyChanged(StorageError):
    """The server presents another host key than the known one."""

    default_hint = (
        "Either the server was reinstalled or somebody is in between. If you know why it changed, "
        "remove the old key with 'ssh-keygen -R HOST'."
    )


class LoginRefused(StorageError):
    """The server accepts none of the keys offered."""

    default_hint = (
        "Check that 'ssh' logs in without a password, or name the key: -c of 'kdna server add' and 'kdna server "
        "update'."
    )


class NoSftp(StorageError):
    """SSH works and the SFTP subsystem does not."""

    default_hint = "Enable 'Subsystem sftp internal-sftp' in the server's sshd_config."


class NoShell(StorageError):
    """The account has no shell, so the server cannot be asked to hash its files."""

    default_hint = "Without a shell, 'kdna backup verify --read-data=10%' reads packs and checks them here."


class Missing(StorageError):
    """No object of that name."""


class Exists(StorageError):
    """An object of that name is there already."""


class Denied(StorageError):
    """No permission, or a read-only file system."""

    default_hint = "Choose a folder that the account may write to: -r of 'kdna server add' and 'kdna server update'."


class Forbidden(Denied):
    """The account may add to the repository, and take nothing away."""

    default_hint = (
        "An account that may only add (append-only) makes and restores backups. Delete and prune with one that may do "
        "that, or check the permissions of the folder."
    )


class Full(StorageError):
    """No space or quota left on the server."""

    default_hint = (
        "Free space on the server and run the command again: what it sent already is reused. "
        "Some kilobytes are enough to delete backups and prune."
    )


class RepositoryError(KdnaError):
    """What lies in the storage is not as it should be."""


class NoRepository(RepositoryError):
    """There is no repository in that place yet."""

    default_hint = "'kdna backup add' makes one with the first backup."


class Vanished(RepositoryError):
    """There is no repository where this machine knows one: nothing new is begun in its place."""

    default_hint = "Perhaps a disk is not mounted there any more: mount it, and run the command again."


class ForeignFolder(RepositoryError):
    """The folder holds something that is not a KDNA repository."""

    default_hint = "Choose another folder: -r of 'kdna server add' and 'kdna server update'."


class NewerFormat(RepositoryError):
    """The repository was written by a later KDNA."""

    default_hint = "Install the newest KDNA on this machine."


class WrongKey(RepositoryError):
    """The key does not open this repository."""

    default_hint = (
        "Use the key file that made the repository: copy it to ~/.kdna/kdna.key, or name it with KDNA_KEY_FILE; "
        "'kdna encrypt restore-key' makes it from a recovery sheet."
    )


class Damaged(RepositoryError):
    """An object is there and is not what was written."""

    default_hint = "Whatever does not need that object can still be restored."


class NoSuchBackup(RepositoryError):
    """Nothing matches."""

    default_hint = "'kdna backup list' shows what there is."


class Ambiguous(RepositoryError):
    """More than one backup matches."""

    default_hint = "Name one of them by its snapshot id, or narrow with --server."


class TagTaken(RepositoryError):
    """The project has a backup with that tag already."""

    default_hint = "Choose another tag, or let --prefix make a unique one."


class Held(RepositoryError):
    """Somebody put a hold on the backup, so nothing deletes it."""

    default_hint = "'kdna backup release -t NAME:TAG' takes the hold away."


class Refused(RepositoryError):
    """A prune can't be sure what the backups need, so it deletes nothing."""


class Fenced(RepositoryError):
    """This session was declared dead while it ran; the caller starts a new one."""
