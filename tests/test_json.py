"""The manual's page of JSON shapes is what the program writes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from kdna.cli.main import kdna
from kdna.progress import Counts

PAGE = Path(__file__).resolve().parent.parent / "docs/json.md"


def documented() -> dict[str, Any]:
    """The example below each heading of the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^### (.+?)$(.*?)^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return {heading: json.loads(example) for heading, _, example in found}


def shape(value: Any) -> Any:
    """A value with scalars replaced by their kind: numbers alike, and nothing said of null and of empty lists."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def fits(real: Any, example: Any) -> bool:
    """Whether two shapes agree as far as both say something."""
    if "NoneType" in (real, example):
        return True
    if isinstance(real, dict) and isinstance(example, dict):
        return real.keys() == example.keys() and all(fits(real[key], example[key]) for key in real)
    if isinstance(real, list) and isinstance(example, list):
        return not real or not example or fits(real[0], example[0])
    return bool(real == example)


def test_the_manual_shows_what_commands_write(tmp_path: Path) -> None:
    source, disk, spare = tmp_path / "Documents", tmp_path / "disk", str(tmp_path / "spare.key")
    source.mkdir()
    disk.mkdir()
    (source / "letter.txt").write_text("Dear all\n", encoding="utf-8")
    (source / ".kdnaignore").write_text("this can never match\\\n", encoding="utf-8")
    environment = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "KDNA_HOME": None, "KDNA_KEY_FILE": None}

    def run(*arguments: str) -> list[Any]:
        ended = CliRunner().invoke(kdna, [*arguments, "--json"], env=environment)
        return [json.loads(line) for line in (ended.stdout + ended.stderr).splitlines()]

    written = [
        ("kdna server init", run("server", "init")[-1]),
        ("kdna server add", run("server", "add", "-a", "usb", "-ad", disk.as_uri(), "-r", "backups")[-1]),
        *zip(
            ["notice", "warning", "kdna backup add"],
            run("backup", "add", "documents", str(source), "first"),
            strict=True,
        ),
        ("kdna backup list", run("backup", "list")[-1]),
        ("kdna server update", run("server", "update", "usb", "--default")[-1]),
        ("kdna server list", run("server", "list")[-1]),
        ("kdna server status", run("server", "status", "usb")[-1]),
        ("kdna backup restore", run("backup", "restore", "-t", "documents:first", str(tmp_path), "--dry-run")[-1]),
        ("kdna backup delete", run("backup", "delete", "-t", "documents:first", "--yes")[-1]),
        ("error", run("backup", "restore", "-t", "documents:first", str(tmp_path))[-1]),
        ("kdna encrypt status", run("encrypt", "status")[-1]),
        ("kdna encrypt keygen", run("encrypt", "keygen", spare)[-1]),
        ("kdna encrypt deactivate", run("encrypt", "deactivate", "--yes")[-1]),
        ("kdna server update", run("server", "delete", "-a", "usb")[-1]),
        ("progress", {"type": "progress", **asdict(Counts())}),
    ]
    examples = documented()
    for heading, real in written:
        assert fits(shape(real), shape(examples[heading])), f"{heading}: the program writes {json.dumps(real)}"
    assert examples.keys() == {heading for heading, _ in written}
