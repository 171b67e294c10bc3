"""What --json prints has the shapes that docs/json.md promises: the same keys, no more and no fewer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from program import done, finish, run, start

from sshd import Server

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")


def promised(heading: str) -> Any:
    """The example below a heading."""
    match = re.search(rf"^### {heading}\n.*?```json\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"docs/json.md has no {heading}"
    return json.loads(match[1])


def shape(value: Any) -> Any:
    """Keys and kinds of a value; of a list, those of its first element."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


def same(heading: str, answer: dict[str, Any]) -> None:
    there, here = shape(promised(heading)), shape(answer)
    for key in there.keys() & here.keys():
        if not there[key] or not here[key]:  # an empty list or nothing says nothing of what would be in it
            there[key] = here[key] = None
    assert here == there


def test_servers(home: Path, tmp_path: Path) -> None:
    same("kdna server init", done("server", "init", "--json").answer)
    words = ["-ad", "local", "-a", "nas", "-r", str(tmp_path / "nas"), "--json"]
    same("kdna server add", done("server", "add", *words).answer)
    same("kdna server update", done("server", "update", "nas", "--default", "--json").answer)
    same("kdna server list", done("server", "list", "--json").answer)
    same("kdna server status", done("server", "status", "nas", "--json").answer)
    same("kdna server update", done("server", "delete", "-a", "nas", "--json").answer)


def test_imported_servers(sshd: Server) -> None:
    entry = f"HostName {sshd.host}\n  Port {sshd.port}\n  User {sshd.user}\n"
    config = sshd.home / ".ssh" / "config"
    config.write_text(f"Host nas office\n  {entry}Host old\n  HostName old.invalid\n")
    try:
        done("server", "ssh_import", "--host", "nas", "-r", "x")
        outcome = run("server", "ssh_import", "--all", "-r", "x", "--json")
    finally:
        config.unlink()
    assert outcome.code == 1
    same("kdna server ssh_import", outcome.answer)


def test_backups(docs: Path, nas: Path, tmp_path: Path) -> None:
    added = done("backup", "add", "papers", docs, "first", "--json")
    same("kdna backup add", added.answer)
    same("notice", added.lines[0])
    done("server", "add", "-ad", f"file://{tmp_path}", "-a", "usb", "-r", "x")
    same("kdna backup restore", done("backup", "restore", "-t", "papers:first", "back", "-n", "--json").answer)
    same("kdna server status", done("server", "status", "nas", "--json").answer)
    same("kdna backup list", done("backup", "list", "--json").answer)
    same("error", json.loads(run("backup", "restore", "-t", "papers:none", "--json").err))
    same("kdna backup delete", done("backup", "delete", "-t", "papers:first", "--yes", "--json").answer)


def test_retention_holds_and_tags(docs: Path, nas: Path) -> None:
    for tag in ("first", "second"):
        done("backup", "add", "papers", docs, tag)
    same("kdna tag add", done("tag", "add", "-t", "t", "-p", "papers", "-f", "first", "--json").answer)
    same("kdna tag update", done("tag", "update", "-t", "t", "-n", "u", "--json").answer)
    same("kdna tag list", done("tag", "list", "--json").answer)
    same("kdna tag add", done("tag", "delete", "-t", "u", "--json").answer)
    same("kdna backup hold", done("backup", "hold", "-t", "papers:first", "--json").answer)
    same("kdna backup release", done("backup", "release", "-t", "papers:first", "--json").answer)
    words = ["--keep-last", "1", "--keep-within", "1h", "--json"]
    forgotten = done("backup", "forget", *words, "--dry-run").answer
    assert forgotten["policy"] == promised("kdna backup forget")["policy"] | {"keep_within": "1h"}
    same("kdna backup forget", forgotten)
    same(
        "kdna backup forget",
        done("backup", "forget", "--keep-last", "1", "--yes", "--json").answer
        | {"policy": promised("kdna backup forget")["policy"]},
    )


def test_encryption(home: Path, nas: Path, tmp_path: Path) -> None:
    key = home / ".kdna" / "kdna.key"
    same("kdna encrypt keygen", done("encrypt", "keygen", tmp_path / "k", "--json").answer)
    same("kdna encrypt status", done("encrypt", "status", "--json").answer)
    (tmp_path / "k").rename(key)
    words = done("encrypt", "recovery", "--json").answer
    same("kdna encrypt recovery", words)
    same("kdna encrypt put-key", done("encrypt", "put-key", tmp_path / "put", "--json").answer)
    typed = " ".join([*words["words"], words["check_word"]])
    same("kdna encrypt recovery --test", run("encrypt", "recovery", "--test", "--json", stdin=typed).answer)
    restored = run("encrypt", "restore-key", tmp_path / "again", "--json", stdin=typed)
    same("kdna encrypt restore-key", restored.answer)
    new = ["--from-command", "echo a long passphrase", "--json"]
    same("kdna encrypt passphrase --server", done("encrypt", "passphrase", "-s", "nas", "-y", *new).answer)
    same("kdna encrypt passphrase", done("encrypt", "passphrase", *new).answer)
    same("kdna encrypt deactivate", done("encrypt", "deactivate", "--yes", "--json").answer)


def test_progress(nas: Path, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    with open(tmp_path / "big" / "sparse", "wb") as file:
        for _ in range(600):
            file.write(bytes(1 << 20))
    lines = finish(start("backup", "add", "papers", tmp_path / "big", "t", "--json")).lines
    for line in lines:
        if line["type"] == "progress":
            same("progress", line)
