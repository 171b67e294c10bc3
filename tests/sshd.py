"""A real OpenSSH server on a loopback port, for tests and benchmarks; nothing outside its own folder is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/libexec")
KEYGEN = shutil.which("ssh-keygen")
AGENT = shutil.which("ssh-agent")
ADD = shutil.which("ssh-add")


def missing() -> str | None:
    """Why no server can be started here, or None."""
    if os.name != "posix":
        return "a test server needs OpenSSH's sshd on a POSIX system"
    if not SSHD or not KEYGEN:
        return "OpenSSH's sshd and ssh-keygen are not installed"
    return None


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """A new private key at `path`, its public half at `path`.pub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [KEYGEN, "-q", "-t", kind, "-N", passphrase, "-C", f"test {path.name}", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@contextlib.contextmanager
def agent(path: Path) -> Iterator[None]:
    """A real ssh-agent that answers at a socket."""
    assert AGENT
    assert ADD
    process = subprocess.Popen([AGENT, "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        env = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        while subprocess.run([ADD, "-l"], env=env, capture_output=True).returncode == 2:  # nobody answers there yet
            assert process.poll() is None
        yield
    finally:
        process.terminate()
        process.wait()


@dataclass
class Server:
    """One running sshd.

    `home` is a HOME for clients: its ``.ssh`` holds `key` (``id_ed25519``, which the server accepts) and a
    ``known_hosts`` that knows the server. `root` is a folder for a test's objects, given as an absolute path;
    relative paths lie under `login`, where SFTP sessions begin.
    """

    host: str
    port: int
    user: str
    home: Path
    key: Path
    root: Path
    login: Path
    base: Path
    options: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """What a user would write: ``ssh://user@127.0.0.1:port``."""
        return f"ssh://{self.user}@{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the listening sshd."""
        assert self._process is not None
        return self._process.pid

    @property
    def host_key(self) -> str:
        """The server's public host key: type and base64."""
        return " ".join((self.base / "host_key.pub").read_text().split()[:2])

    def authorize(self, key: Path) -> None:
        """Accept one more client key."""
        with (self.base / "authorized_keys").open("a") as file:
            file.write(key.with_name(key.name + ".pub").read_text())

    def log(self) -> str:
        """What sshd has said so far."""
        return (self.base / "sshd.log").read_text(errors="replace")

    def start(self) -> None:
        """Start listening; returns when the port answers."""
        log = (self.base / "sshd.log").open("ab")
        with log:
            command = [str(SSHD), "-D", "-e", "-f", str(self.base / "sshd_config")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(self.host, self.port):
                return
            time.sleep(0.01)
        self.stop()
        raise RuntimeError(f"sshd did not start: {self.log()}")

    def drop(self) -> None:
        """Cut every connection without ceremony; the server goes on listening."""
        for pid in _children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the server and the connections it serves."""
        if self._process is None:
            return
        self.drop()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop, then listen on the same port with the same keys."""
        self.stop()
        self.start()

    def new_host_key(self) -> None:
        """Be another server from the next connection on, as after a reinstallation."""
        for path in (self.base / "host_key", self.base / "host_key.pub"):
            path.unlink()
        make_key(self.base / "host_key")
        self.restart()


def start(base: Path, *, sftp: str | None = "internal-sftp", options: Sequence[str] = ()) -> Server:
    """Start a server whose every file lies in `base`.

    `sftp` is the command of the SFTP subsystem (None: the server has none); `options` are further lines for
    sshd_config, and come first, so they win.
    """
    base.mkdir(parents=True, exist_ok=True)
    import pwd  # only POSIX has it, and other systems import this module too

    user = pwd.getpwuid(os.getuid()).pw_name
    home, login, root = base / "home", base / "login", base / "root"
    for folder in (home / ".ssh", login, root):
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd run by root confines its helpers
    key = make_key(home / ".ssh" / "id_ed25519")
    make_key(base / "host_key")
    server = Server("127.0.0.1", 0, user, home, key, root, login, base, options)
    (base / "authorized_keys").touch()
    server.authorize(key)
    for attempt in range(10):
        server.port = _free_port()
        (base / "sshd_config").write_text(_config(server, sftp))
        try:
            server.start()
            break
        except RuntimeError:  # another process may have taken the port in between
            if attempt == 9:
                raise
    known = home / ".ssh" / "known_hosts"
    known.write_text(f"[{server.host}]:{server.port} {server.host_key}\n")
    known.chmod(0o600)
    return server


def _config(server: Server, sftp: str | None) -> str:
    base = server.base
    if sftp and sftp.split()[0] == "internal-sftp":
        sftp = f"{sftp} -d {server.login}"
    lines = [
        *server.options,
        f"ListenAddress {server.host}",
        f"Port {server.port}",
        f"HostKey {base / 'host_key'}",
        f"AuthorizedKeysFile {base / 'authorized_keys'}",
        f"PidFile {base / 'sshd.pid'}",
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PubkeyAuthentication yes",
        "MaxStartups 100",
        "UseDNS no",
        "LogLevel INFO",
    ]
    if sftp:
        lines.append(f"Subsystem sftp {sftp}")
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    """Every process below `pid`, the deepest first; the listing is ``/proc`` on Linux, else ``ps``."""
    table = Path(f"/proc/{pid}/task/{pid}/children")
    if Path("/proc/self/task").exists():
        try:
            found = [int(child) for child in table.read_text().split()]
        except OSError:
            return []
    else:
        rows = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        pairs = [tuple(map(int, row.split())) for row in rows.stdout.splitlines()]
        found = [child for child, above in pairs if above == pid]
    return [deep for child in found for deep in [*_children(child), child]]
