"""`delay.py PORT ROUND_TRIP_MS` relays TCP connections to PORT of this machine as if it were far away.

Every byte arrives half the round trip after it was sent, in either direction, and connecting takes one round trip. The
rate isn't limited, and TCP's slow start and losses are left out: it is the latency alone that is shown. Why not the
kernel's netem between two network namespaces: it needs root, Linux and a module that many kernels lack.
Prints the port it listens at.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

PIECE = 256 * 1024
IN_FLIGHT = 512  # pieces: more than any rate and latency measured here needs, so that it is no limit


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """One direction: read at once, write when the time has come."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)
    clock = asyncio.get_running_loop().time

    async def deliver() -> None:
        due, piece = await pieces.get()
        while piece:
            await asyncio.sleep(max(0.0, due - clock()))
            with contextlib.suppress(OSError):  # who is gone gets nothing, but what is on the way must leave the queue
                writer.write(piece)
                await writer.drain()
            due, piece = await pieces.get()
        await asyncio.sleep(max(0.0, due - clock()))
        with contextlib.suppress(OSError):
            writer.write_eof()

    delivery = asyncio.create_task(deliver())
    piece = b"-"
    while piece:
        try:
            piece = await reader.read(PIECE)
        except OSError:
            piece = b""
        await pieces.put((clock() + delay, piece))
    await delivery


async def main() -> None:
    port, round_trip = int(sys.argv[1]), float(sys.argv[2]) / 1000

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(round_trip)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port, limit=PIECE)
        for end in (writer, there_writer):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        half = round_trip / 2
        await asyncio.gather(_carry(reader, there_writer, half), _carry(there_reader, writer, half))
        writer.close()
        there_writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=PIECE)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
