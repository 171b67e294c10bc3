"""A real sshd on loopback, in a folder of its own: own host key, own user key, gone when the benchmark ends.

The benchmark listens itself and gives every connection to an `sshd -i`, as inetd does. So it keeps the socket in hand,
and can ask the kernel at the end how many bytes went over it, whatever SSH library the tool used: nothing stands in
between. With latency, a relay stands in between; see bench.delay.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "bench"  # the name of the server in the ssh config
ADDRESS = "127.0.0.1"

SSHD_CONFIG = """\
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
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {known_hosts}
  StrictHostKeyChecking yes
  Ciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com
  Compression no
"""


@dataclass(frozen=True)
class Remote:
    """How a tool reaches the server: as `bench` by the ssh config, or piece by piece."""

    config: Path
    known_hosts: Path
    key: Path
    port: int
    user: str
    address: str = ADDRESS


class Server:
    """Answers connections until it is closed, each with a process of sshd."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        if not program:
            raise SystemExit("sshd is not installed: install openssh-server, or measure with --targets local")
        folder.mkdir(parents=True)
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # Debian's sshd will not start as root without it
        places = ("/usr/lib/openssh", "/usr/lib/ssh", "/usr/libexec/openssh", "/usr/libexec", "/usr/lib")
        sftp_server = shutil.which("sftp-server", path=":".join(places)) or "internal-sftp"
        (folder / "sshd_config").write_text(SSHD_CONFIG.format(folder=folder, sftp_server=sftp_server))
        self.folder = folder
        self._command = [program, "-i", "-e", "-f", str(folder / "sshd_config")]
        self._connections: list[threading.Thread] = []
        self._sent = self._received = 0
        self._socket = socket.create_server((ADDRESS, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def traffic(self) -> tuple[int, int]:
        """Bytes that clients sent and received since the last call, once the connections have ended."""
        for connection in self._connections:
            connection.join(10)
        sent, received = self._sent, self._received
        self._connections, self._sent, self._received = [], 0, 0
        return sent, received

    def close(self) -> None:
        self._socket.close()

    def remote(self, port: int | None = None) -> Remote:
        """How to reach it, directly or at another port that leads here."""
        port = port or self._socket.getsockname()[1]
        known_hosts, config = self.folder / f"known_hosts-{port}", self.folder / f"ssh_config-{port}"
        algorithm, key = (self.folder / "host_key.pub").read_text().split()[:2]
        known_hosts.write_text(f"[{ADDRESS}]:{port},[{HOST}]:{port},{HOST} {algorithm} {key}\n")
        user, values = getpass.getuser(), {"host": HOST, "address": ADDRESS, "folder": self.folder}
        config.write_text(SSH_CONFIG.format(**values, port=port, user=user, known_hosts=known_hosts))
        remote = Remote(config, known_hosts, self.folder / "user_key", port, user)
        done = subprocess.run(
            ["ssh", "-F", config, HOST, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"sshd did not come up:\n{done.stderr}{(self.folder / 'sshd.log').read_text()}")
        self.traffic()
        return remote

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._connections.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, (self.folder / "sshd.log").open("ab") as log:
            subprocess.run(self._command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=log)
            sent, received = _counted(connection)
            self._received += sent  # what the server sent is what the client received
            self._sent += received


def _counted(connection: socket.socket) -> tuple[int, int]:
    """Bytes that went out of and came into the socket, from Linux's struct tcp_info; zeros elsewhere."""
    if not sys.platform.startswith("linux"):
        return 0, 0
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
    acknowledged, received = struct.unpack_from("QQ", info, 120)
    return int(acknowledged), int(received)


@contextmanager
def sshd(folder: Path) -> Iterator[Server]:
    """A server until the block ends."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def far(server: Server, round_trip_ms: float) -> Iterator[Remote]:
    """The server as if it were that far away; 0: as it is."""
    if not round_trip_ms:
        yield server.remote()
        return
    here = server.remote()
    command = [sys.executable, str(Path(__file__).with_name("delay.py")), str(here.port), str(round_trip_ms)]
    relay = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert relay.stdout
        said = re.fullmatch(r"(\d+)\n", relay.stdout.readline())
        if not said:
            raise SystemExit("the relay that adds latency did not start")
        yield server.remote(int(said[1]))
    finally:
        relay.terminate()
        relay.wait()
