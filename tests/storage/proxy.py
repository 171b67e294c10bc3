"""A TCP proxy on loopback that cuts, holds and forgets what passes through it, to be the bad link of a test."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Listens on `port` and forwards to `target`; all faults act on every connection there is."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._replies = threading.Condition()
        self._allowed: int | None = None  # answers still let through; None for all
        self._budget: int | None = None
        self.connections = 0
        self.refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection now; held replies are lost."""
        pairs, self._pairs = self._pairs, []
        for one, other in pairs:
            for end in (one, other):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        with self._replies:
            self._allowed = None
            self._replies.notify_all()

    def cut_after(self, sent: int) -> None:
        """End the connection once so many more bytes have gone to the server; once."""
        self._budget = sent

    def hold_replies(self) -> None:
        """Let requests through, and no answers any more, until `cut`."""
        with self._replies:
            self._allowed = 0

    def let_one_reply_pass(self) -> None:
        """Forward the next piece the server sends, then hold again."""
        with self._replies:
            self._allowed = 1
            self._replies.notify_all()

    def close(self) -> None:
        """Stop listening and cut."""
        self.refusing = True
        self._listener.close()
        self.cut()

    def passes(self, _source: socket.socket, _to_server: bool) -> bytes:
        """Called before a piece goes on; what is to go with it. For proxies that do more."""
        return b""

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            self.connections += 1
            server = socket.create_connection(self._target)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, to_server: bool) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65536):
                if to_server and self._budget is not None:
                    self._budget -= len(data)
                    if self._budget < 0:
                        self._budget = None
                        self.cut()
                        break
                if not to_server:
                    self._await_leave()
                data += self.passes(source, to_server)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _await_leave(self) -> None:
        with self._replies:
            while self._allowed == 0:
                self._replies.wait()
            if self._allowed is not None:
                self._allowed -= 1
