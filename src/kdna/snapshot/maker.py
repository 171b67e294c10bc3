"""A process that makes files for a restore: Python runs one thread at a time, and making files is half of the work.

It shares memory with the process that restores, divided into slots. A slot holds a batch, one piece after the other:

    length of the record (4 bytes), the record of a `Piece` (MessagePack), its data

A request is the number of a slot and of the pieces in it; when they are written, the answer is the number of the slot
and the length of the record that took the place of the batch: what became of those pieces of which there is something
to say. The pipes carry nothing else, so that neither side ever waits for the other to read.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import sys
from collections.abc import Iterator

import msgspec

from kdna import __version__
from kdna.errors import Damaged, TargetError
from kdna.snapshot.attributes import Loss
from kdna.snapshot.metadata import Owners, disk
from kdna.snapshot.target import Piece, Target

SLOTS = 4
SLOT = 4 * 1024 * 1024 + 256 * 1024  # bytes: the largest blob that is cut, and room for its record
REQUEST = struct.Struct("<II")
LENGTH = struct.Struct("<I")
READY = hashlib.sha256(__version__.encode()).digest()[: REQUEST.size]  # the first answer: we are of one version
_LOSSES = 12  # classes of a file that are told, so that there is room for those of all; hardly any file has two


class Outcome(msgspec.Struct, array_like=True, gc=False):
    """What became of one piece of a batch."""

    number: int  # of the piece in its batch
    losses: list[Loss] = []
    errno: int = 0  # of the operating system
    problem: str = ""  # in words; the file is not made when there is any
    hint: str = ""


pieces: msgspec.msgpack.Decoder[Piece] = msgspec.msgpack.Decoder(Piece)
outcomes: msgspec.msgpack.Decoder[list[Outcome]] = msgspec.msgpack.Decoder(list[Outcome])
encode = msgspec.msgpack.Encoder().encode


def serve(root: disk.Folder, memory_fd: int, parent: int) -> None:
    """Write batches into the folder that is open as `root`, until there are no more requests or nobody who asks."""
    memory = mmap.mmap(memory_fd, SLOTS * SLOT)
    target = Target(root, Owners({}, {}))
    failed: set[int] = set()
    os.write(sys.stdout.fileno(), READY)
    with memoryview(memory) as view:
        while len(request := os.read(sys.stdin.fileno(), REQUEST.size)) == REQUEST.size:
            slot, count = REQUEST.unpack(request)
            with view[slot * SLOT : (slot + 1) * SLOT] as batch:
                record = encode(list(_written(target, batch, count, failed, parent)))
                batch[: len(record)] = record
            os.write(sys.stdout.fileno(), REQUEST.pack(slot, len(record)))


def _written(target: Target, batch: memoryview, count: int, failed: set[int], parent: int) -> Iterator[Outcome]:
    """Write the pieces of a batch; of a file of which one failed, nothing more. Outcomes of which there is news."""
    at = 0
    for number in range(count):
        if os.getppid() != parent:  # it was killed, and the next restore must not meet us
            sys.exit()
        end = at + LENGTH.size + LENGTH.unpack_from(batch, at)[0]
        piece = pieces.decode(batch[at + LENGTH.size : end])
        at = end + piece.length
        if piece.file in failed:
            continue
        try:
            with batch[end:at] as data:
                losses = target.write(piece, data)
            if losses:
                yield Outcome(number, list(dict.fromkeys(losses))[:_LOSSES])
            continue
        except OSError as error:
            outcome = Outcome(number, errno=error.errno or 0, problem=error.strerror or str(error))
        except (Damaged, TargetError) as error:
            outcome = Outcome(number, problem=str(error), hint=error.hint)
        failed.add(piece.file)
        yield outcome
