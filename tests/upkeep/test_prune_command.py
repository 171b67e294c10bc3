"""`kdna backup prune` and `kdna server sessions` as a user meets them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from program import Terminal, done, finish, run, start

from kdna.actions.caller import Caller
from kdna.actions.pruning import prune_if_worthwhile
from kdna.config.home import Home
from kdna.errors import Interrupted
from kdna.progress import Silent

DAY = 86400 * 10**9
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs what Windows does not have")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("KDNA_HOME", str(tmp_path / "home" / ".kdna"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    fill(folder, range(10))
    return folder


def fill(folder: Path, numbers: range) -> None:
    for number in numbers:
        (folder / f"{number}").write_bytes(os.urandom(100_000))


@pytest.fixture
def nas(tmp_path: Path, docs: Path) -> Path:
    """A server with two backups, of which one was deleted."""
    done("server", "add", "-ad", "local", "-a", "nas", "-r", tmp_path / "nas")
    done("backup", "add", "papers", docs, "one")
    fill(docs, range(9))
    done("backup", "add", "papers", docs, "two")
    done("backup", "delete", "-t", "papers:one", "--yes")
    for path in (tmp_path / "nas").rglob("*"):  # else whatever runs now might have sent them
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return tmp_path / "nas" / "kdna" / "encrypted"


def packs(nas: Path) -> set[str]:
    return {path.name for path in (nas / "packs").rglob("*") if path.is_file()}


def test_a_dry_run_prints_the_very_plan_that_is_carried_out(nas, docs, tmp_path):
    before = packs(nas)
    dry = done("backup", "prune", "--dry-run")
    assert packs(nas) == before
    *plan, last = dry.out.splitlines()
    assert last == "Nothing was deleted."
    wet = done("backup", "prune", "--yes")
    assert wet.out.splitlines()[: len(plan)] == plan
    assert "Deleted" in wet.out.splitlines()[len(plan)]
    assert len(packs(nas)) < len(before)
    assert "nothing on nas that no backup needs" in done("backup", "prune").out
    done("backup", "restore", "-t", "papers:two", tmp_path / "restored")
    for path in docs.iterdir():
        assert (tmp_path / "restored" / "docs" / path.name).read_bytes() == path.read_bytes()


def test_the_json_of_a_dry_run_and_of_the_run_say_the_same_plan(nas):
    dry = done("backup", "prune", "--dry-run", "--json").answer
    wet = done("backup", "prune", "--yes", "--json").answer
    (planned,), (carried_out,) = dry["repositories"], wet["repositories"]
    assert planned["plan"] == carried_out["plan"]
    assert planned["outcome"] is None
    outcome, plan = carried_out["outcome"], planned["plan"]
    assert outcome["packs"] == plan["delete"]["packs"] + plan["rewrite"]["packs"] > 1
    assert outcome["leftovers"] == plan["leftovers"]


def shape(value):
    """Keys, and those of what is inside."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items() if key not in ("problems", "plan")}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


def documented(heading: str):
    page = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    found = re.search(rf"^### {heading}\n.*?```json\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_json_is_as_documented(nas):
    page, answer = documented("kdna backup prune"), done("backup", "prune", "--yes", "--json").answer
    (theirs,), (ours,) = page["repositories"], answer["repositories"]
    assert theirs["plan"].keys() == ours["plan"].keys()
    assert page.keys() == answer.keys()
    theirs["outcome"]["waiting"] = []
    assert shape(theirs) == shape(ours)


def test_without_a_terminal_it_wants_to_be_told(nas):
    before = packs(nas)
    outcome = run("backup", "prune")
    assert outcome.code == 1
    assert "no terminal to ask on" in outcome.error
    assert packs(nas) == before


@posix
def test_on_a_terminal_it_shows_the_plan_and_asks(nas):
    before = packs(nas)
    terminal = Terminal("backup", "prune")
    terminal.expect("Do it? [y/N]")
    assert "free about" in terminal.screen
    terminal.type("n\n")
    assert terminal.wait() == 1
    assert packs(nas) == before


def test_wrong_amounts_are_wrong_usage(nas):
    assert run("backup", "prune", "--max-repack", "lots").code == 2
    assert run("backup", "prune", "--max-unused", "101%").code == 2


def test_nothing_to_prune_where_there_is_nothing(tmp_path):
    done("server", "add", "-ad", "local", "-a", "nas", "-r", tmp_path / "nas")
    outcome = run("backup", "prune")
    assert outcome.code == 1
    assert "no backups on nas yet" in outcome.error


@posix
def test_a_backup_that_was_killed_is_shown_and_does_not_hold_up_a_prune_of_this_machine(nas, docs):
    process = stopped_backup(nas, docs)
    answer = done("server", "sessions", "nas", "--json").answer
    assert [session["work"] for session in answer["sessions"]] == ["backup"]
    assert shape(answer) == shape(documented("kdna server sessions"))
    assert [session["dead"] for session in answer["sessions"]] == [""]
    pending = run("backup", "prune", "--yes")
    assert pending.code == 6
    assert "Pending" in pending.err
    assert answer["sessions"][0]["id"][:12] in pending.err
    process.kill()
    finish(process)
    assert "its process on this machine has ended" in done("server", "sessions", "nas").out
    assert done("backup", "prune", "--yes").code == 0
    assert done("server", "sessions", "nas", "--json").answer["sessions"] == []


def stopped_backup(nas, docs):
    """A backup that was stopped after it had created its token, with most of its work to do."""
    (docs / "huge").write_bytes(os.urandom(100_000_000))
    process = start("backup", "add", "papers", docs, "three")
    while not list((nas / "sessions").iterdir()):  # asked so often that little of it can be done until it is seen
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    return process


@posix
def test_a_live_backup_that_is_fenced_starts_over_and_is_whole(nas, docs, tmp_path):
    process = stopped_backup(nas, docs)
    (session,) = done("server", "sessions", "nas", "--json").answer["sessions"]
    refused = run("server", "sessions", "nas", "--fence", session["id"][:8])
    assert refused.code == 1
    fenced = done("server", "sessions", "nas", "--fence", session["id"][:8], "--yes", "--json").answer
    assert [one["id"] for one in fenced["fenced"]] == [session["id"]]
    assert done("backup", "prune", "--yes").code == 0
    process.send_signal(signal.SIGCONT)
    assert finish(process).code == 0
    done("backup", "restore", "-t", "papers:three", tmp_path / "restored")
    assert (tmp_path / "restored" / "docs" / "huge").read_bytes() == (docs / "huge").read_bytes()


def test_who_is_fenced_has_to_be_there(nas):
    assert run("server", "sessions", "nas", "--fence", "abc", "--yes").code == 2
    assert "No backup is running" in done("server", "sessions", "nas").err
    assert "taken for dead" in done("server", "sessions", "nas", "--dead", "--yes").err


class Later:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 2_000_000_000 * 10**9

    def now_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 10**9

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 10**9)


def test_auto_backups_prune_once_a_week(nas, home):
    caller, clock = Caller(Home.locate(), Silent()), Later()
    before = packs(nas)
    for day in range(7):
        assert prune_if_worthwhile(caller, "nas", True, clock=clock) is None, day
        clock.now += DAY
    outcome = prune_if_worthwhile(caller, "nas", True, clock=clock)
    assert outcome is not None
    assert outcome.packs > 1
    assert packs(nas) != before
    for _ in range(6):
        clock.now += DAY
        assert prune_if_worthwhile(caller, "nas", True, clock=clock) is None
    clock.now += DAY
    assert prune_if_worthwhile(caller, "nas", True, clock=clock) is not None


def test_what_goes_wrong_with_an_automatic_prune_is_told_and_tried_the_next_day(nas, home):
    caller, clock = Caller(Home.locate(), Silent()), Later()
    prune_if_worthwhile(caller, "nas", True, clock=clock)
    clock.now += 8 * DAY
    (manifest,) = [path for path in (nas / "manifests").iterdir() if (nas / "snapshots" / path.name).exists()]
    hidden = manifest.rename(manifest.with_name("hidden"))
    for path in (home / ".kdna" / "cache").rglob("manifests/*"):
        path.unlink()
    assert prune_if_worthwhile(caller, "nas", True, clock=clock) is None
    assert "was not deleted" in caller.sink.notices[-1]  # type: ignore[attr-defined]  # of the silent sink
    hidden.rename(manifest)
    assert prune_if_worthwhile(caller, "nas", True, clock=clock) is None
    clock.now += DAY
    assert prune_if_worthwhile(caller, "nas", True, clock=clock) is not None


def test_a_signal_during_an_automatic_prune_is_not_taken_for_trouble_of_the_server(nas, home):
    class Signal(Later):
        """Whoever asks what time it is meets Ctrl-C."""

        def now_ns(self) -> int:
            raise Interrupted("interrupted")

    caller = Caller(Home.locate(), Silent())
    with pytest.raises(Interrupted):
        prune_if_worthwhile(caller, "nas", True, clock=Signal())
    assert not caller.sink.notices


def test_two_machines_over_ssh(sshd, docs, tmp_path, monkeypatch):
    """One backs up and deletes, the other, with the same key and nothing else, prunes."""
    done("server", "add", "-ad", sshd.address, "-a", "nas", "-r", sshd.root)
    done("backup", "add", "papers", docs, "one")
    fill(docs, range(9))
    done("backup", "add", "papers", docs, "two")
    done("backup", "delete", "-t", "papers:one", "--yes")
    first = tmp_path / "home" / ".kdna"
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    for name in ("kdna.key", "kdna.conf"):
        (other / name).write_bytes((first / name).read_bytes())
        (other / name).chmod(0o600)
    monkeypatch.setenv("KDNA_HOME", str(other))
    nas = sshd.root / "kdna" / "encrypted"
    before = packs(nas)
    assert done("backup", "prune", "--yes", "--json").answer["repositories"][0]["outcome"]["packs"] > 1
    assert before - packs(nas)
    assert list((nas / "condemned").iterdir()) == list((nas / "sessions").iterdir()) == []
    monkeypatch.setenv("KDNA_HOME", str(first))
    done("backup", "restore", "-t", "papers:two", tmp_path / "restored")
    for path in docs.iterdir():
        assert (tmp_path / "restored" / "docs" / path.name).read_bytes() == path.read_bytes()
    done("backup", "add", "papers", docs, "three")
    assert done("backup", "prune", "--dry-run", "--json").answer["repositories"][0]["plan"]["rewrite"]["packs"] == 0
