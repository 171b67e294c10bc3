"""kdna.conf on a real disk: made, edited under its lock, whole after every crash."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kdna.config import durable
from kdna.config.document import Document
from kdna.config.file import EMPTY, LIMIT, create, edit, load
from kdna.config.home import Home
from kdna.config.records import Server
from kdna.errors import ConfigError, UsageError

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits, fork or fifos")
ROW = "S4, user@host, /path, 5432, hello, true\n"
ONE = Server("1", "u@h", "/p", 22, "one")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.locate({"KDNA_HOME": str(tmp_path / "home")})


def give(home: Home, text: str) -> None:
    """A kdna.conf with this text."""
    home.ensure()
    home.conf.write_bytes(text.encode())
    home.conf.chmod(0o600)


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own that runs a script."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def test_it_is_made_with_both_sections_and_never_again(home: Home) -> None:
    assert create(home)
    assert home.conf.read_bytes() == EMPTY
    lines = home.conf.read_text().splitlines()
    assert lines.index("[servers]") < lines.index("[auto-backups]")
    home.conf.write_bytes(b"")
    assert not create(home)
    assert home.conf.read_bytes() == b""


def test_loading_makes_it(home: Home) -> None:
    document = load(home)
    assert (document.servers, document.auto_backups) == ([], [])
    assert home.conf.read_bytes() == EMPTY


def test_loading_writes_nothing_else(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    before = home.conf.stat()
    assert load(home).find_server("hello").port == 5432
    after = home.conf.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert not Path(f"{home.conf}.lock").exists(), "readers need no lock"


def test_an_edit_is_on_the_disk_when_the_block_ends(home: Home) -> None:
    with edit(home) as document:
        document.add_server(ONE)
        assert not home.conf.exists()
    assert load(home).servers == [ONE]
    assert home.conf.read_bytes() == EMPTY.replace(b"[servers]\n", b"[servers]\n1, u@h, /p, 22, one, true\n")


def change_and_fail(document: Document) -> None:
    document.add_server(ONE)
    document.delete_server("S9")


def test_an_error_in_the_block_changes_nothing(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    with pytest.raises(UsageError, match="no server"), edit(home) as document:
        change_and_fail(document)
    assert home.conf.read_text() == "[servers]\n" + ROW
    with edit(home) as document:
        document.add_server(ONE)


def test_an_edit_that_changes_nothing_writes_nothing(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    before = home.conf.stat()
    with edit(home) as document:
        document.update_server(document.find_server("S4"))
    after = home.conf.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_bad_line_is_reported_and_nothing_changed(home: Home) -> None:
    give(home, "[servers]\nnonsense\n")
    with pytest.raises(ConfigError, match="line 2"):
        load(home)
    with pytest.raises(ConfigError) as caught, edit(home) as document:
        document.add_server(ONE)
    assert str(caught.value).startswith(f"{home.conf}, line 2: ")
    assert home.conf.read_text() == "[servers]\nnonsense\n"


@posix
def test_files_are_for_the_user_alone(home: Home) -> None:
    old = os.umask(0)
    try:
        load(home)
        with edit(home) as document:
            document.add_server(ONE)
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.folder.iterdir() if path.is_file()}
    assert modes == {"kdna.conf": 0o600, "kdna.conf.lock": 0o600}


@posix
def test_an_open_file_is_closed_to_others_by_the_next_edit(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    home.conf.chmod(0o644)
    with edit(home) as document:
        document.add_server(ONE)
    assert stat.S_IMODE(home.conf.stat().st_mode) == 0o600


@posix
def test_a_file_that_anybody_can_write_is_refused(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    home.conf.chmod(0o646)
    with pytest.raises(ConfigError, match="every user") as caught:
        load(home)
    assert "chmod 600" in caught.value.hint


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_for_a_user_belongs_to_the_user(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    os.chown(home.folder, 12345, 12346)
    with edit(home) as document:
        document.add_server(ONE)
    for name in ("kdna.conf", "kdna.conf.lock"):
        status = (home.folder / name).stat()
        assert (status.st_uid, status.st_gid) == (12345, 12346)


@posix
def test_a_symbolic_link_stays_one(home: Home, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    real = tmp_path / "dotfiles" / "my-kdna.conf"
    home.ensure()
    home.conf.symlink_to("../dotfiles/my-kdna.conf")
    assert load(home).servers == []
    with edit(home) as document:
        document.add_server(ONE)
    assert home.conf.is_symlink()
    assert load(home).servers == [ONE]
    assert b"1, u@h" in real.read_bytes()
    assert sorted(path.name for path in real.parent.iterdir()) == ["my-kdna.conf", "my-kdna.conf.lock"]


@posix
def test_links_that_lead_nowhere_are_named(home: Home) -> None:
    home.ensure()
    home.conf.symlink_to("kdna.conf")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(home)
    home.conf.unlink()
    home.conf.symlink_to("missing/kdna.conf")
    with pytest.raises(ConfigError, match="No such file"):
        load(home)


@posix
def test_what_is_no_file_is_refused_at_once(home: Home) -> None:
    home.ensure()
    os.mkfifo(home.conf)
    with pytest.raises(ConfigError, match="not a regular file"):
        load(home)
    with pytest.raises(ConfigError, match="not a regular file"), edit(home):
        pass
    home.conf.unlink()
    home.conf.mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        load(home)


def test_a_huge_file_is_refused(home: Home) -> None:
    give(home, "#" * (LIMIT + 1))
    with pytest.raises(ConfigError, match="is larger than"):
        load(home)
    give(home, "#" * (LIMIT - 1) + "\n")
    with pytest.raises(ConfigError, match="would become larger"), edit(home) as document:
        document.add_server(ONE)
    assert home.conf.stat().st_size == LIMIT


def test_a_leftover_of_a_crash_is_harmless_and_goes(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    leftover = home.folder / ".kdna.conf.new"
    leftover.write_text("[servers]\nhalf of a li")
    assert [server.id for server in load(home).servers] == ["S4"]
    with edit(home) as document:
        document.add_server(ONE)
    assert not leftover.exists()
    assert [server.id for server in load(home).servers] == ["S4", "1"]


@posix
def test_a_leftover_that_is_a_link_is_not_followed(home: Home, tmp_path: Path) -> None:
    give(home, "[servers]\n" + ROW)
    (tmp_path / "victim").write_text("precious")
    (home.folder / ".kdna.conf.new").symlink_to(tmp_path / "victim")
    with edit(home) as document:
        document.add_server(ONE)
    assert (tmp_path / "victim").read_text() == "precious"
    assert not home.conf.is_symlink()


def test_twenty_commands_at_once_lose_nothing(home: Home) -> None:
    script = """
        import sys
        from kdna.config.file import edit
        from kdna.config.home import Home
        from kdna.config.records import Server
        home = Home.locate({"KDNA_HOME": sys.argv[1]})
        with edit(home) as document:
            id_ = document.next_server_id()
            document.add_server(Server(id_, "u@h", "/p", 22, sys.argv[2], key_file=f"/k/{sys.argv[2]}"))
    """
    running = [python(script, str(home.folder), f"alias{number}") for number in range(20)]
    outcomes = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 20, outcomes
    document = load(home)
    assert sorted(int(server.id) for server in document.servers) == list(range(1, 21))
    assert {(server.alias, server.key_file) for server in document.servers} == {
        (f"alias{number}", f"/k/alias{number}") for number in range(20)
    }
    assert sorted(path.name for path in home.folder.iterdir() if path.is_file()) == ["kdna.conf", "kdna.conf.lock"]


def test_readers_never_see_half_a_file(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    script = """
        import sys
        from msgspec.structs import replace
        from kdna.config.file import edit
        from kdna.config.home import Home
        home = Home.locate({"KDNA_HOME": sys.argv[1]})
        for number in range(60):
            with edit(home) as document:
                server = document.find_server("S4")
                document.update_server(replace(server, path="/" + "x" * (number % 2 * 20_000 + 1)))
    """
    writer = python(script, str(home.folder))
    seen = set()
    while writer.poll() is None:
        seen.add(len(load(home).find_server("S4").path))
    assert writer.wait() == 0, writer.communicate()
    assert seen <= {5, 2, 20_002}
    writer.communicate()


def test_a_lock_held_too_long_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdna.config.file.LOCK_SECONDS", 0.1)
    script = """
        import sys
        from kdna.config.file import edit
        from kdna.config.home import Home
        with edit(Home.locate({"KDNA_HOME": sys.argv[1]})):
            print("held", flush=True)
            sys.stdin.read()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(home.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="another command") as caught, edit(home):
        pass
    assert "try again" in caught.value.hint
    holder.communicate("")
    with edit(home) as document:
        document.add_server(ONE)


@posix
def test_the_lock_of_a_killed_command_is_free(home: Home) -> None:
    script = """
        import os, signal, sys
        from kdna.config.file import edit
        from kdna.config.home import Home
        with edit(Home.locate({"KDNA_HOME": sys.argv[1]})):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = python(script, str(home.folder))
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    with edit(home) as document:
        document.add_server(ONE)
    assert load(home).servers == [ONE]


@posix
def test_a_crash_at_any_moment_leaves_the_old_file_or_the_new(home: Home) -> None:
    """A child ends itself, without any clean-up, at the first file operation of an edit, the second, and so on."""
    script = """
        import os, sys
        import filelock  # whatever importing opens is no file operation of the edit
        from kdna.config.file import edit
        from kdna.config.home import Home
        from kdna.config.records import Server

        def edit_and_crash(step):
            operations = 0
            def crash(event, arguments):
                nonlocal operations
                if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate"):
                    operations += 1
                    if operations == step:
                        os._exit(9)
            sys.addaudithook(crash)
            with edit(home) as document:
                document.add_server(Server(document.next_server_id(), "u@h", "/p", 22, f"alias{step}"))
            os._exit(0)

        home = Home.locate({"KDNA_HOME": sys.argv[1]})
        for step in range(1, 100):
            child = os.fork()
            if child == 0:
                edit_and_crash(step)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(step, code, home.conf.read_bytes().hex() if home.conf.exists() else "", flush=True)
            if code == 0:
                break
    """
    process = python(script, str(home.folder))
    out, err = process.communicate()
    assert process.returncode == 0, err
    steps = [line.split(" ") for line in out.splitlines()]
    assert len(steps) > 5, "there are several operations to crash at"
    assert steps[-1][1] == "0"
    known = b""
    for step, code, content in steps:
        data = bytes.fromhex(content)
        assert code in ("9", "0")
        aliases = [server.alias for server in Document(data).servers]
        before = [server.alias for server in Document(known).servers]
        assert aliases in (before, [*before, f"alias{step}"])
        known = data
    assert [server.alias for server in load(home).servers][-1] == f"alias{len(steps)}"


@posix
def test_a_full_disk_leaves_the_old_file(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    script = """
        import resource, sys
        import filelock  # imported before files cannot grow any more
        from kdna.config.file import edit
        from kdna.config.home import Home
        from kdna.config.records import Server
        from kdna.errors import ConfigError
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
        try:
            with edit(Home.locate({"KDNA_HOME": sys.argv[1]})) as document:
                document.add_server(Server("1", "u@h", "/" + "x" * 1000, 22, "one"))
        except ConfigError as error:
            print(error)
    """
    process = python(script, str(home.folder))
    out, err = process.communicate()
    assert "cannot be written: File too large" in out, err
    assert home.conf.read_text() == "[servers]\n" + ROW
    assert not (home.folder / ".kdna.conf.new").exists()


def test_create_never_overwrites(tmp_path: Path) -> None:
    durable.create(str(tmp_path / "x"), b"first")
    with pytest.raises(FileExistsError):
        durable.create(str(tmp_path / "x"), b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    if sys.platform != "win32":
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError):
            durable.create(str(tmp_path / "link"), b"x")
        assert not (tmp_path / "elsewhere").exists()


def test_loading_stays_out_of_the_way_of_a_fast_start(home: Home) -> None:
    give(home, "[servers]\n" + ROW)
    script = """
        import sys
        from kdna.config.file import load
        from kdna.config.home import Home
        load(Home.locate({"KDNA_HOME": sys.argv[1]}))
        print(" ".join(name for name in ("filelock", "asyncssh", "rich", "cryptography", "asyncio", "ssl")
                       if name in sys.modules))
    """
    out, err = python(script, str(home.folder)).communicate()
    assert (out.strip(), err) == ("", ""), "modules that only writers or other commands need"
