"""`kdna encrypt passphrase`: typed, from a command, from a keyring, and on a server; nowhere is one ever shown."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Outcome, Terminal, done, run, start

from kdna.seal import keyfile, passphrase
from kdna.seal.keyfile_io import read_key

PHRASE = "correct horse battery"
COMMAND = "KDNA_PASSPHRASE_COMMAND"
SMALL = 64 * 1024  # KiB, the least that is accepted: quick


@pytest.fixture
def key(home: Path, first: str) -> Path:
    return home / ".kdna" / "kdna.key"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick to stretch, in this process; the strength of new ones is tested where they are made."""
    fresh = passphrase.fresh
    quick = lambda entropy=os.urandom: passphrase.Stretch(fresh(entropy).salt, SMALL, passes=1, lanes=1)  # noqa: E731 - a stand-in
    monkeypatch.setattr(passphrase, "fresh", quick)
    monkeypatch.delenv(COMMAND, raising=False)


def printing(text: str) -> str:
    """A command that prints a text, with more behind it."""
    return shlex.join([sys.executable, "-c", f"import sys; sys.stdout.buffer.write({text.encode()!r} + b'\\nmore\\n')"])


def protect(text: str = PHRASE, *more: str) -> Outcome:
    return done("encrypt", "passphrase", "--from-command", printing(text), *more)


def silent(*outcomes: Outcome, phrase: str = PHRASE) -> None:
    for outcome in outcomes:
        assert phrase not in outcome.out + outcome.err


# around the key file


def test_a_passphrase_is_put_on_changed_and_taken_off(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_key(key)
    said = protect()
    assert "protected by the passphrase" in said.out
    assert isinstance(read_key(key), keyfile.ProtectedKey)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert run("backup", "list").code == 1
    monkeypatch.setenv(COMMAND, printing(PHRASE))
    assert len(done("backup", "list", "--json").answer["backups"]) == 1
    changed = protect("another passphrase")
    wrong = run("backup", "list")
    assert wrong.code == 1
    assert "not the passphrase" in wrong.error
    assert COMMAND in wrong.hint
    monkeypatch.setenv(COMMAND, printing("another passphrase"))
    removed = done("encrypt", "passphrase", "--remove")
    assert "no passphrase any more" in removed.out
    assert read_key(key) == before
    monkeypatch.delenv(COMMAND)
    assert len(done("backup", "list", "--json").answer["backups"]) == 1
    assert [path.name for path in key.parent.iterdir() if "key" in path.name] == ["kdna.key"]
    silent(said, changed, wrong, removed)
    silent(changed, phrase="another")


def test_json_says_how_it_is_afterwards(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert protect(PHRASE, "--json").answer == {"path": str(key), "protected": True, "keyring": False}
    monkeypatch.setenv(COMMAND, printing(PHRASE))
    outcome = done("encrypt", "passphrase", "--remove", "--json")
    assert outcome.answer == {"path": str(key), "protected": False, "keyring": False}


def test_it_is_typed_twice_and_unseen(key: Path) -> None:
    before = key.read_bytes()
    for again, code in (("something else", 1), (PHRASE, 0)):
        terminal = Terminal("encrypt", "passphrase")
        terminal.expect("New passphrase of")
        terminal.type(f"{PHRASE}\n")
        terminal.expect(", again")
        terminal.type(f"{again}\n")
        assert terminal.wait() == code
        assert PHRASE not in terminal.screen
        assert again not in terminal.screen
        if code:
            assert "differ" in terminal.screen
            assert key.read_bytes() == before
    terminal = Terminal("backup", "list")
    terminal.expect("Passphrase of")
    terminal.type(f"{PHRASE}\n")
    assert terminal.wait() == 0
    assert "papers" in terminal.screen


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/no/such/program --at all", "cannot be started"),
        (f"{shlex.quote(sys.executable)} -c 'raise SystemExit(3)'", "exit code 3"),
        (f"{shlex.quote(sys.executable)} -c 'pass'", "empty"),
        (shlex.join([sys.executable, "-c", "import os; os.write(1, b'\\xff\\xfe\\n')"]), "not UTF-8"),
        ("an 'open quote", "no command line"),
        (" ", "no command line"),
    ],
)
def test_a_command_that_gives_none_is_told_and_nothing_changes(
    key: Path, monkeypatch: pytest.MonkeyPatch, command: str, says: str
) -> None:
    before = key.read_bytes()
    outcome = run("encrypt", "passphrase", "--from-command", command)
    assert outcome.code == 1
    assert says in outcome.error
    assert outcome.hint
    assert key.read_bytes() == before
    protect()
    monkeypatch.setenv(COMMAND, command)
    outcome = run("backup", "list")
    assert outcome.code == 1
    assert says in outcome.error


def test_a_command_is_no_shell_gets_no_input_and_what_it_prints_is_never_shown(
    key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    protect()
    reads = shlex.join([sys.executable, "-c", f"import sys; assert not sys.stdin.read(); print({PHRASE!r})"])
    monkeypatch.setenv(COMMAND, reads)
    process = start("backup", "list", stdin=subprocess.PIPE)
    assert process.communicate(b"not for the command\n", timeout=60)[0]
    assert process.returncode == 0
    monkeypatch.setenv(COMMAND, f"{printing(PHRASE)} ; touch {tmp_path}/made")
    assert run("backup", "list").code == 0
    assert not (tmp_path / "made").exists()
    fails = shlex.join([sys.executable, "-c", f"print({PHRASE!r}); raise SystemExit(1)"])
    monkeypatch.setenv(COMMAND, fails)
    for words in (["backup", "list"], ["backup", "list", "--debug"], ["backup", "list", "--json", "--debug"]):
        outcome = run(*words)
        assert outcome.code == 1
        silent(Outcome(0, outcome.out, "\n".join(line for line in outcome.err.splitlines())))


def test_short_empty_or_needless_ones_are_refused(key: Path) -> None:
    before = key.read_bytes()
    outcome = run("encrypt", "passphrase", "--from-command", printing("short"))
    assert outcome.code == 2
    assert "8 characters" in outcome.error
    assert run("encrypt", "passphrase", "--remove").code == 2
    for words in (["--remove", "--keyring"], ["--remove", "--from-command", "x"], ["--server", "nas", "--keyring"]):
        assert run("encrypt", "passphrase", *words).code == 2
    no_terminal = run("encrypt", "passphrase")
    assert no_terminal.code == 1
    assert "--from-command" in no_terminal.hint
    assert key.read_bytes() == before


def test_without_a_key_there_is_nothing_to_protect(home: Path, nas: Path) -> None:
    outcome = run("encrypt", "passphrase", "--from-command", printing(PHRASE))
    assert outcome.code == 1
    assert "no key file" in outcome.error
    assert "keygen" in outcome.hint


def test_the_first_backup_with_a_protected_key_asks_once(home: Path, nas: Path, docs: Path, tmp_path: Path) -> None:
    done("encrypt", "keygen", home / ".kdna")
    protect()
    terminal = Terminal("backup", "add", "papers", docs, "t")
    terminal.expect("Passphrase of")
    terminal.type(f"{PHRASE}\n")
    assert terminal.wait() == 0
    assert terminal.screen.count("Passphrase of") == 1


# the system's keyring


@pytest.fixture
def keyring_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real keyring, which is a file."""
    alternative = pytest.importorskip("keyrings.alt.file", reason="keyrings.alt is not installed")
    import keyring

    before = keyring.get_keyring()
    backend = alternative.PlaintextKeyring()
    monkeypatch.setattr(type(backend), "file_path", str(home / "keyring.cfg"))
    keyring.set_keyring(backend)
    yield home / "keyring.cfg"
    keyring.set_keyring(before)


def test_the_keyring_keeps_it_until_told_otherwise(
    key: Path, keyring_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = protect(PHRASE, "--keyring")
    silent(said)
    assert done("encrypt", "status", "--json").answer["key"]["keyring"] is True
    assert "keyring keeps" in done("encrypt", "status").out
    assert len(done("backup", "list", "--json").answer["backups"]) == 1
    assert keyring_file.read_text().count("key_20file") == 1
    moved = key.with_name("elsewhere.key")
    key.rename(moved)
    monkeypatch.setenv("KDNA_KEY_FILE", str(moved))
    assert len(done("backup", "list", "--json").answer["backups"]) == 1
    protect("another passphrase", "--keyring")
    assert len(done("backup", "list", "--json").answer["backups"]) == 1
    assert keyring_file.read_text().count("key_20file") == 1
    done("encrypt", "passphrase", "--remove")
    assert keyring_file.read_text().count("key_20file") == 0
    assert done("encrypt", "status", "--json").answer["key"]["keyring"] is False
    assert "keyring =" not in (key.parent / "kdna.conf").read_text()


def test_a_keyring_that_forgot_is_told_and_the_passphrase_asked_for(
    key: Path, keyring_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(PHRASE, "--keyring")
    keyring_file.unlink()
    outcome = run("backup", "list")
    assert outcome.code == 1
    assert "has no passphrase for this key file" in outcome.err
    assert COMMAND in outcome.hint
    monkeypatch.setenv(COMMAND, printing(PHRASE))
    assert done("encrypt", "passphrase", "--remove").code == 0


def test_a_system_without_a_keyring_is_told_and_nothing_changes(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring", reason="keyring is not installed")
    from keyring.backends.fail import Keyring

    before, content = keyring.get_keyring(), key.read_bytes()
    keyring.set_keyring(Keyring())
    try:
        outcome = run("encrypt", "passphrase", "--keyring", "--from-command", printing(PHRASE))
    finally:
        keyring.set_keyring(before)
    assert outcome.code == 1
    assert "no keyring that can be used" in outcome.error
    assert COMMAND in outcome.hint
    assert key.read_bytes() == content


def test_without_the_library_it_says_what_to_install(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    outcome = run("encrypt", "passphrase", "--keyring", "--from-command", printing(PHRASE))
    assert outcome.code == 1
    assert "kdna[keyring]" in outcome.hint


# on a server


def test_a_passphrase_on_a_server_brings_the_backups_back_without_the_key(
    key: Path, nas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = run("encrypt", "passphrase", "--server", "nas", "--from-command", printing(PHRASE))
    assert asked.code == 1
    assert "guess the passphrase" in asked.error
    assert "--yes" in asked.hint
    silent(done("encrypt", "passphrase", "-s", "nas", "--yes", "--from-command", printing(PHRASE)))
    shutil.rmtree(key.parent)
    added = done("server", "add", "-ad", "local", "-a", "nas", "-r", nas)
    assert "cannot be opened yet" in added.err
    monkeypatch.setenv(COMMAND, printing("not the passphrase"))
    wrong = run("encrypt", "restore-key", "--server", "nas")
    assert wrong.code == 1
    assert "not the passphrase" in wrong.error
    assert not key.exists()
    monkeypatch.setenv(COMMAND, printing(PHRASE))
    assert done("encrypt", "restore-key", "--server", "nas", "--json").answer == {"path": str(key), "used": True}
    monkeypatch.delenv(COMMAND)
    done("backup", "restore", "-t", "papers:first", tmp_path / "back")
    assert (tmp_path / "back" / "docs" / "a.txt").read_text() == "first\n"
    out = done("encrypt", "passphrase", "-s", "nas", "--remove")
    assert "can still guess" in out.out
    assert run("encrypt", "passphrase", "-s", "nas", "--remove").code == 2
    assert len(done("backup", "list", "--json").answer["backups"]) == 1


def test_a_passphrase_lets_the_key_there_is_into_a_server(
    key: Path, nas: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("encrypt", "passphrase", "-s", "nas", "--yes", "--from-command", printing(PHRASE))
    key.unlink()
    done("encrypt", "keygen", key)
    mine = key.read_bytes()
    assert run("backup", "list").code == 1
    monkeypatch.setenv(COMMAND, printing(PHRASE))
    done("encrypt", "restore-key", "-s", "nas")
    assert key.read_bytes() == mine
    assert len(done("backup", "list", "--json").answer["backups"]) == 1


def test_a_server_without_backups_or_passphrase_is_told(home: Path, nas: Path, docs: Path, key: Path) -> None:
    done("server", "add", "-ad", "local", "-a", "empty", "-r", home / "empty")
    outcome = run("encrypt", "passphrase", "-s", "empty", "--yes", "--from-command", printing(PHRASE))
    assert outcome.code == 1
    assert "no backups on empty" in outcome.error
