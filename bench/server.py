"""A real sshd on loopback, in a folder of its own: own host key, own user key, gone when the benchmark ends."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "bench"  # the name of the server in the ssh config

SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
Subsystem sftp {sftp_server}
SetEnv HOME={folder}
"""

# AES-GCM first for everybody: it is the fastest cipher of OpenSSH, and nobody shall win by having chosen it alone.
SSH_CONFIG = """\
Host {host}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
  Ciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com
  Compression no
"""


@contextmanager
def sshd(folder: Path) -> Iterator[Path]:
    """Run sshd until the block ends; gives the path of an ssh config that reaches it as `bench`."""
    program = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if not program:
        raise SystemExit("sshd is not installed: install openssh-server, or measure with --targets local")
    folder.mkdir(parents=True)
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # Debian's sshd will not start as root without it
    config = _configure(folder)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        _wait_until_up(config, folder / "sshd.log")
        yield config
    finally:
        process.terminate()
        process.wait()


def _configure(folder: Path) -> Path:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = ("/usr/lib/openssh", "/usr/lib/ssh", "/usr/libexec/openssh", "/usr/libexec", "/usr/lib")
    sftp_server = shutil.which("sftp-server", path=":".join(places)) or "internal-sftp"
    values = {"port": port, "folder": folder, "sftp_server": sftp_server, "host": HOST, "user": getpass.getuser()}
    (folder / "sshd_config").write_text(SSHD_CONFIG.format(**values))
    algorithm, key = (folder / "host_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {algorithm} {key}\n")
    config = folder / "ssh_config"
    config.write_text(SSH_CONFIG.format(**values))
    return config


def _wait_until_up(config: Path, log: Path) -> None:
    command = ["ssh", "-F", str(config), HOST, "true"]
    for _ in range(50):
        if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    raise SystemExit("sshd did not come up:\n" + log.read_text())
