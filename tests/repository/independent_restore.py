"""Restores a backup from a folder and a key: written from the FORMAT.md pages alone, with nothing of kdna."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from independent_reader import SHARED, body, expand, msgpack, session_secret, unlock

FILE, FOLDER, SYMLINK, FIFO = 1, 2, 3, 4


@dataclass
class Keys:
    """Of one repository; `secret` is empty in a plain one."""

    ident: bytes
    secret: bytes
    sessions: dict[bytes, bytes] = field(default_factory=dict)

    def named(self, label: str) -> bytes:
        return expand(self.secret, self.ident, f"kdna 1 {label}")

    def session(self, sealed: bytes) -> bytes:
        if sealed not in self.sessions:
            self.sessions[sealed] = session_secret(sealed, self.ident, self.secret)
        return self.sessions[sealed]


class Object:
    """A sealed or plain object, whose frames can be opened one by one."""

    def __init__(self, keys: Keys, data: bytes, name: str = "") -> None:
        self.data, self.name, self.ident = data, name.rpartition("/")[2].encode(), keys.ident
        magic, version, suite, self.kind, zero, salt, commitment, first, crc = struct.unpack_from(
            ">4sBBBB32s32sII", data
        )
        assert (magic, version, suite, zero) == (b"KDNA", 1, int(bool(keys.secret)), 0)
        begin = 1248 if suite and self.kind not in SHARED else 80
        assert zlib.crc32(data[:76] + data[80:begin]) == crc
        self.first_end = begin + first
        self.begin = begin
        if not suite:
            assert commitment == bytes(32)
            self.checksum, self.key = keys.named("checksum"), b""
            return
        base = keys.named("index") if self.kind in SHARED else keys.session(data[80:begin])
        context = bytes([suite]) + keys.ident + bytes([self.kind]) + salt
        both = expand(base, keys.named("mix"), "kdna 1 object", context, 64)
        assert both[32:] == commitment
        self.checksum, self.key = b"", both[:32]

    def frame(self, number: int, begin: int, end: int, last: bool) -> bytes:
        sealed = self.data[begin:end]
        assert len(sealed) == end - begin
        associated = self.data[:72] + self.ident + number.to_bytes(8, "big") + bytes([last]) + self.name
        if self.key:
            return AESGCM(self.key).decrypt(number.to_bytes(12, "big"), sealed, associated)
        assert blake3(associated + sealed[:-16], key=self.checksum).digest(16) == sealed[-16:]
        return sealed[:-16]

    def record(self, last: bool = True) -> Any:
        """What frame 0 holds as a record."""
        content = self.frame(0, self.begin, self.first_end, last)
        method, length, stored = struct.unpack_from("<BII", content)
        return msgspec.msgpack.decode(unpack(method, content[9 : 9 + stored], length))


def unpack(method: int, data: bytes, length: int) -> bytes:
    """What was packed by a method."""
    raw = {0: bytes, 1: zstandard.decompress}[method](data)
    assert len(raw) == length
    return raw


def padded(n: int) -> int:
    """The padded length of `n` bytes."""
    if n >= 1 << 20:
        unit = 1 << 16
    else:
        e = n.bit_length() - 1
        unit = 1 << max(0, e - e.bit_length())
    return -(-n // unit) * unit if n >= 2 else n


@dataclass
class Repository:
    """A repository in a folder of this machine."""

    folder: Path
    user_secret: bytes | None

    @cached_property
    def keys(self) -> Keys:
        """By way of the slot of a key file; the record is authenticated."""
        record = (self.folder / "repository").read_bytes()
        signed, mac = body(b"KDNArepo", record)
        ident, suite, features, _ = msgpack(signed)[0]
        assert features == []
        if self.user_secret is None:
            assert suite == 0
            keys = Keys(ident, b"")
            assert hmac.digest(keys.named("auth"), b"KDNArepo\1" + signed, "sha256") == mac
            return keys
        slot = expand(self.user_secret, ident, "kdna 1 slot name", length=16).hex()
        return Keys(*unlock(record, (self.folder / "keys" / slot).read_bytes(), self.user_secret))

    def objects(self, folder: str) -> list[str]:
        """Names of all objects in a folder."""
        return [f"{folder}/{name}" for name in sorted(os.listdir(self.folder / folder))]

    def record(self, name: str, kind: int) -> Any:
        """What the record of that name holds."""
        opened = Object(self.keys, (self.folder / name).read_bytes(), name)
        assert opened.kind == kind
        assert opened.first_end == len(opened.data)
        return opened.record()

    @cached_property
    def packs(self) -> dict[str, list[Any]]:
        """By name, where the first frame of a pack begins and what its table says, from the index or from itself."""
        found = {}
        for segment in self.objects("index") if (self.folder / "index").exists() else []:
            for name, _, _, first, frames, *_ in self.record(segment, 3):
                found[f"packs/{name.hex()[0]}/{name.hex()}"] = [first, frames]
        for digit in self.objects("packs"):
            for name in self.objects(digit):
                if name not in found:
                    pack = Object(self.keys, (self.folder / name).read_bytes())
                    found[name] = [pack.first_end, pack.record(last=False)]
        return found

    @cached_property
    def places(self) -> dict[bytes, tuple[str, int, int, int]]:
        """For each blob its pack, frame, where it begins in the frame, and its length."""
        found = {}
        for name, (_, frames) in self.packs.items():
            for number, (_, raw, _, ids, lengths, *_) in enumerate(frames, 1):
                sizes, at = struct.unpack(f"<{len(lengths) // 4}I", lengths), 0
                assert len(sizes) * 32 == len(ids)
                assert sum(sizes) == raw
                for place, size in enumerate(sizes):
                    found[ids[place * 32 : place * 32 + 32]] = (name, number, at, size)
                    at += size
        return found

    def frame(self, name: str, number: int) -> bytes:
        """The raw bytes of one frame of a pack."""
        first, frames = self.packs[name]
        data = (self.folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
        assert len(data) == padded(first + sum(frame[0] for frame in frames))
        begin = first + sum(frame[0] for frame in frames[: number - 1])
        sealed, raw, method = frames[number - 1][:3]
        content = Object(self.keys, data).frame(number, begin, begin + sealed, number == len(frames))
        return unpack(method, content, raw)

    def blob(self, ident: bytes, label: str) -> bytes:
        """One blob; `label` says which kind of id it has."""
        name, number, at, length = self.places[ident]
        data = self.frame(name, number)[at : at + length]
        assert blake3(data, key=self.keys.named(label)).digest() == ident
        return data

    def manifest(self, sid: str) -> Any:
        """The manifest of a backup that exists."""
        assert (self.folder / "snapshots" / sid).exists()
        version, manifest = self.record(f"manifests/{sid}", 4)
        assert version == 1
        return manifest

    def tags(self) -> dict[tuple[str, str], str]:
        """Project and tag of each tag that is held, and the backup that holds it."""
        newest: dict[str, str] = {}
        for name in self.objects("tags"):  # in ascending order
            newest[name.rpartition("-")[0]] = name
        found = {}
        for name in newest.values():
            sid, names, *_ = self.record(name, 6)
            if sid and (self.folder / "snapshots" / sid).exists():
                opened = Object(self.keys, names, name)
                assert opened.kind == 7
                project, tag = opened.record()
                found[project, tag] = sid
        return found


@dataclass
class Restore:
    """One backup on its way into a folder."""

    repository: Repository
    links: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def all(self, sid: str, target: bytes) -> None:
        """Restore a backup, so that its root becomes `target`."""
        self.entry(self.repository.manifest(sid)["root"], target)

    def entry(self, node: Any, path: bytes) -> None:
        _, kind, mode, _, _, mtime, _, _, size, content, extra, *_ = [*node, b"", None][: max(11, len(node))]
        extra = extra or {}
        ids = [content[at : at + 32] for at in range(0, len(content), 32)]
        if kind == FOLDER:
            os.mkdir(path)
            before = b""
            for child in (
                child for part in ids for child in msgspec.msgpack.decode(self.repository.blob(part, "tree id"))
            ):
                name = child[0]
                assert name > before
                assert b"/" not in name
                assert b"\0" not in name
                assert name != b".."
                self.entry(child, os.path.join(path, name))
                before = name
        elif kind == FILE:
            link = extra.get("link")
            if link and tuple(link) in self.links:
                os.link(self.links[tuple(link)], path)
                return
            self.file(path, ids, size, extra)
            if link:
                self.links[tuple(link)] = path
        elif kind == SYMLINK:
            os.symlink(extra["target"], path)
        elif kind == FIFO:
            os.mkfifo(path)
        if kind != SYMLINK:
            os.chmod(path, mode)
        os.utime(path, ns=(mtime, mtime), follow_symlinks=False)

    def file(self, path: bytes, ids: list[bytes], size: int, extra: dict[str, Any]) -> None:
        if extra.get("listed"):
            lists = b"".join(self.repository.blob(ident, "tree id") for ident in ids)
            ids = [lists[at : at + 32] for at in range(0, len(lists), 32)]
        content = b"".join(self.repository.blob(ident, "data id") for ident in ids)
        with open(path, "xb") as file:
            at = 0
            for offset, length in extra.get("extents") or [(0, size)]:
                file.seek(offset)
                file.write(content[at : at + length])
                at += length
            file.truncate(size)
        assert at == len(content)
