"""kdna.conf read and edited in memory: both formats, every error with its line, edits that keep the rest."""

from __future__ import annotations

import re
from pathlib import Path

import asyncssh
import pytest
from msgspec.structs import replace

from kdna.config.document import Document
from kdna.config.records import AutoBackup, Defaults, Server, built_in
from kdna.errors import ConfigError, UsageError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "src/kdna/config/kdna.conf.example"
MANUAL = ROOT / "docs/kdna-conf.md"

CONTRACT = """\
[servers]
S4, user@host, /path, 5432, hello, true

[auto-backups]
B2, daily, fezf, 2022-09-02, S2, /home/backup
"""
S4 = Server("S4", "user@host", "/path", 5432, "hello", True)
B2 = AutoBackup("B2", "daily", "fezf", "2022-09-02", "S2", "/home/backup")


def read(text: str) -> Document:
    return Document(text.encode())


def text_of(document: Document) -> str:
    return bytes(document).decode()


# Reading


def test_the_example_of_the_contract() -> None:
    document = read(CONTRACT)
    assert document.servers == [S4]
    assert document.auto_backups == [B2]
    assert document.defaults == Defaults()
    assert text_of(document) == CONTRACT


def test_the_annotated_example() -> None:
    document = Document(EXAMPLE.read_bytes())
    assert [server.id for server in document.servers] == ["S4", "nas", "disk", "S5"]
    assert document.find_server("attic").key_file == "~/.ssh/id_nas"
    assert document.find_server("S4").ssh_config == "host"
    assert document.find_server("S5").path == "/srv/backups, old"
    assert document.find_auto_backup("B2").tag == "nightly"
    assert document.find_auto_backup("B3").frequency == "0,30 8 * * 1-5"
    assert document.defaults.server == "attic"
    assert all(document.find_server(backup.id_server) for backup in document.auto_backups)


def test_the_example_of_the_manual() -> None:
    blocks = re.findall(r"^```\n(.*?)^```", MANUAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert read(blocks[0]).servers == [S4]
    with pytest.raises(ConfigError) as caught:
        read(CONTRACT.replace("\n", "\n\n", 1).replace("5432", "70000"))
    assert f"{caught.value}\n{caught.value.hint}\n" == blocks[1]


@pytest.mark.parametrize(
    ("row", "alias", "encrypted"),
    [
        ("1, u@h, /p, 22, hello, true", "hello", True),
        ("1, u@h, /p, 22, true, hello", "hello", True),
        ("1, u@h, /p, 22, False, hello", "hello", False),
        ("1, u@h, /p, 22, hello, False", "hello", False),
        ("1, u@h, /p, 22, no, hello", "hello", False),
        ("1, u@h, /p, 22, hello, 0", "hello", False),
        ("1, u@h, /p, 22, true, false", "true", False),
        ("1, u@h, /p, 22, 1, true", "1", True),
        ("1, u@h, /p, 22, true, 1", "1", True),
        ("1, u@h, /p, 22, on, off", "on", False),
    ],
)
def test_true_or_false_tells_the_order_of_columns(row: str, alias: str, encrypted: bool) -> None:
    (server,) = read(f"[servers]\n{row}\n").servers
    assert (server.alias, server.encrypted) == (alias, encrypted)


@pytest.fixture(params=["openssh", "pkcs8-pem", "pkcs1-pem"])
def key_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "id_test"
    path.write_bytes(asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_private_key(request.param))
    return path


def test_a_path_that_is_a_private_key_is_the_key(key_file: Path) -> None:
    (server,) = read(f"[servers]\nS4, user@host, {key_file}, 22, True, hello\n").servers
    assert server.key_file == str(key_file)
    assert server.path == "."
    assert server.alias == "hello"


def test_a_path_that_is_another_file_or_folder_is_the_repository(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("-----BEGIN CERTIFICATE-----\n")
    for path in (tmp_path, tmp_path / "notes", tmp_path / "missing"):
        (server,) = read(f"[servers]\nS4, user@host, {path}, 22, hello, true\n").servers
        assert (server.path, server.key_file) == (str(path), None)


def test_a_relative_path_is_the_repository_wherever_kdna_is_started(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(key_file.parent)
    (server,) = read(f"[servers]\nS4, user@host, {key_file.name}, 22, hello, true\n").servers
    assert server.path == key_file.name


def test_changing_a_row_with_a_key_moves_the_key_to_the_section(key_file: Path) -> None:
    row = f"S4, user@host, {key_file}, 22, True, hello\n"
    document = read(f"[servers]\n{row}")
    server = document.find_server("hello")
    document.update_server(server)
    assert text_of(document) == f"[servers]\n{row}", "nothing changed, so nothing is written"
    document.update_server(replace(server, port=23))
    assert text_of(document) == (
        f"[servers]\nS4, user@host, ., 23, hello, true\n\n[server S4]\nkey_file = {key_file}\n"
    )
    assert document.find_server("S4") == replace(server, port=23)


def test_taking_the_key_of_such_a_row_away_takes_it_out_of_the_row(key_file: Path) -> None:
    document = read(f"[servers]\nS4, user@host, {key_file}, 22, True, hello\n")
    document.update_server(replace(document.find_server("hello"), key_file=None))
    assert text_of(document) == "[servers]\nS4, user@host, ., 22, hello, true\n"


def test_a_private_key_is_no_folder_for_backups(key_file: Path) -> None:
    document = read(CONTRACT)
    with pytest.raises(UsageError, match="is a private key"):
        document.add_server(replace(S4, id="1", alias="x", path=str(key_file)))
    with pytest.raises(UsageError, match="is a private key"):
        document.update_server(replace(S4, path=str(key_file)))
    assert text_of(document) == CONTRACT


def test_a_table_may_be_in_pieces_and_a_section_too() -> None:
    document = read(
        "[servers]\n1, u@h, /p, 22, one, true\n[other]\n[Servers]\n2, u@h, /p, 22, two, true\n"
        "[server 2]\nkey_file = /k\n[x]\n[server 2]\nssh_config = h\n"
    )
    assert [server.alias for server in document.servers] == ["one", "two"]
    assert document.find_server("two").key_file == "/k"
    assert document.find_server("two").ssh_config == "h"


def test_a_known_key_without_a_value_is_as_good_as_not_there() -> None:
    assert read(CONTRACT + "[server S4]\nkey_file =\nnote =\n").servers == [replace(S4, settings={"note": ""})]


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "# nothing\n", "[servers]", "[servers]\n[auto-backups]\n"])
def test_files_without_entries(text: str) -> None:
    document = read(text)
    assert (document.servers, document.auto_backups) == ([], [])
    assert text_of(document) == text


# What is wrong, and where


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("S4, user@host\n[servers]\n", 1, "before the first section"),
        ("[servers]\n\nS4, user@host, /path, 22, hello\n", 3, "expected 6 fields"),
        ("[servers]\nS4, user@host, /path, 22, hello, true, more\n", 2, "here are 7"),
        ("[servers]\nkey = value\n", 2, "expected 6 fields"),
        ("[servers]\nS4, user@host, /path, 22, hello, maybe\n", 2, "encrypted is 'maybe'"),
        ("[servers]\nS4, user@host, /path, 70000, hello, true\n", 2, "'70000' is no port"),
        ("[servers]\nS4, user@host, /path, , hello, true\n", 2, "'' is no port"),
        ("[servers]\nS 4, user@host, /path, 22, hello, true\n", 2, "'S 4' cannot be the id"),
        ("[servers]\nS4, user@host, /path, 22, hel lo, true\n", 2, "'hel lo' cannot be the alias"),
        ("[servers]\nS4, user@ho st, /path, 22, hello, true\n", 2, "'ho st' is no host"),
        ("[servers]\nS4, user@host, , 22, hello, true\n", 2, "repository path is empty"),
        ('[servers]\nS4, user@host, "/path, 22, hello, true\n', 2, "never closed"),
        ("[servers]\nS4, user@host, /pa\tth, 22, hello, true\n", 2, "holds the character '\\t'"),
        ("[servers]\nS4, user@host, /path, 22, hello, true\r\r\n", 2, "encrypted is 'true\\r'"),
        ("[auto-backups]\nB2, often, fezf, 2022-09-02, S2, /home\n", 2, "'often' is no frequency"),
        ("[auto-backups]\nB2, daily, fezf, 2022-02-30, S2, /home\n", 2, "'2022-02-30' is no date"),
        ("[auto-backups]\nB2, daily, fezf, 2022-09-02, S2\n", 2, "expected 6 fields (id, frequency, name"),
        (CONTRACT + "[auto-backup B2]\nstart = soon\n", 7, "'soon' is no date"),
        (CONTRACT + "[auto-backup B2]\n\nscheduled = perhaps\n", 8, "scheduled is 'perhaps'"),
        (CONTRACT + "[auto-backup B2]\nkeep_last = few\n", 6, "keep-last: 'few' is not a number of backups"),
        (CONTRACT + "[auto-backup B2]\nkeep_daily = 0\n", 6, "a policy of zeros keeps nothing"),
        (CONTRACT + "[auto-backup B2]\nkeep_lst = 3\n", 6, "there is no retention rule 'keep_lst'"),
        ("[server]\n", 1, "lacks the id"),
        ("# x\n[server a/b]\n", 2, "'a/b' cannot be the id"),
        ("[servers S4]\n", 1, "with nothing after it"),
        (CONTRACT + "[server S4]\nkey_file\n", 7, "expected: key = value"),
        (CONTRACT + "[server S4]\nkey_file = a\tb\n", 7, "key_file"),
        (CONTRACT + "[server S4]\nssh_config = a b\n", 7, "is no ssh_config"),
        (CONTRACT + "[server S4]\nkey_file = /a\n\nKEY-FILE = /b\n", 9, "key_file stands on line 7 already"),
        (CONTRACT + "[server S4]\nkey_file = /a\n[server S4]\nkey_file = /b\n", 9, "line 7"),
        (CONTRACT + "[defaults]\nserver = a b\n", 7, "'a b'"),
    ],
)
def test_a_bad_line_is_named(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Document(text.encode(), "/home/anna/.kdna/kdna.conf")
    assert str(caught.value).startswith(f"/home/anna/.kdna/kdna.conf, line {line}: ")
    assert message in str(caught.value)
    assert caught.value.hint.endswith("Nothing was changed.")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a, u@h, /p, 22, x, true", "a, u@h, /p, 22, y, true"], "line 4: the id a stands on line 2 already"),
        (["a, u@h, /p, 22, x, true", "b, u@h, /p, 22, x, true"], "line 4: the alias x stands on line 2 already"),
        (["a, u@h, /p, 22, x, true", "b, u@h, /p, 22, true, x"], "line 4: the alias x stands on line 2 already"),
    ],
)
def test_two_rows_with_one_id_or_alias_are_both_named(rows: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read("[servers]\n" + "\n# between\n".join(rows) + "\n")


def test_two_auto_backups_with_one_id_are_both_named() -> None:
    with pytest.raises(ConfigError, match="line 6: the id B2 stands on line 5 already"):
        read(CONTRACT + "B2, weekly, x, 2022-09-02, S4, /x\n")


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"[servers]\n# caf\xe9\n", 2, "not UTF-8"),
        (b"[servers]\n\n[other]\n\xff\xfe\n", 4, "not UTF-8"),
        (b"[servers]\n# a\x00b\n", 2, "NUL byte"),
        ("[servers]\n".encode("utf-16"), 1, "NUL byte"),
        (b"\xff" * 10, 1, "not UTF-8"),
        (b"# \xed\xb2\x80\n", 1, "not UTF-8"),
    ],
)
def test_what_is_no_text_is_named_too(data: bytes, line: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"line {line}: .*{message}"):
        Document(data)


def test_a_line_of_a_million_characters_is_read_and_shown_short() -> None:
    path = "/" + "x" * 30_000
    assert read(f"[servers]\nS4, user@host, {path}, 22, hello, true\n").servers[0].path == path
    assert read("# " + "x" * 1_000_000 + "\n").servers == []
    with pytest.raises(ConfigError) as caught:
        read("[servers]\n" + "x" * 1_000_000 + ", u@h, /p, 22, hello, true\n")
    assert len(str(caught.value)) < 200


# Finding


def test_a_server_is_found_by_id_or_alias() -> None:
    document = read(CONTRACT)
    assert document.find_server("S4") == document.find_server("hello") == S4
    with pytest.raises(UsageError, match="no server 'nas'") as caught:
        document.find_server("nas")
    assert "kdna server list" in caught.value.hint


def test_a_name_of_two_servers_is_ambiguous() -> None:
    document = read("[servers]\n1, u@h, /p, 22, 2, true\n2, u@h, /p, 22, 1, true\n")
    with pytest.raises(UsageError, match="id of one server and the alias of another"):
        document.find_server("1")


def test_the_server_a_command_works_with() -> None:
    local = built_in(Path("/repository"))
    none, one = read(""), read(CONTRACT)
    two = read(CONTRACT)
    two.add_server(Server("1", "u@h", "/p", 22, "nas"))
    assert none.choose_server(None, local) == local
    assert one.choose_server(None, local) == S4
    assert one.choose_server("local", local) == local
    assert two.choose_server("nas", local).id == "1"
    with pytest.raises(UsageError, match="none is the default") as caught:
        two.choose_server(None, local)
    assert "hello, nas" in caught.value.hint
    with pytest.raises(UsageError, match="no server 'x'"):
        two.choose_server("x", local)
    two.set_defaults(Defaults(server="nas"))
    assert two.choose_server(None, local).id == "1"
    two.set_defaults(Defaults(server="local"))
    assert two.choose_server(None, local) == local


def test_a_configured_server_goes_before_the_built_in_one_of_its_name() -> None:
    document = read("[servers]\n1, file:///mnt, /mnt, 22, local, true\n")
    assert document.choose_server("local", built_in(Path("/repository"))).id == "1"


def test_a_default_that_is_not_there_is_named() -> None:
    document = read(CONTRACT + "\n[defaults]\nserver = gone\n")
    with pytest.raises(ConfigError, match=r"kdna.conf, section \[defaults\] on line 7: there is no server 'gone'"):
        document.choose_server(None, built_in(Path("/repository")))


def test_auto_backups_of_a_server_point_at_its_id_or_alias() -> None:
    document = read(CONTRACT + "B3, daily, a, 2021-09-02, S4, /a\nB4, monthly, b, 2021-01-01, hello, /b\n")
    assert [backup.id for backup in document.auto_backups_of("S4")] == ["B3", "B4"]
    assert [backup.id for backup in document.auto_backups_of("S2")] == ["B2"]
    assert document.auto_backups_of("S9") == []


def test_the_next_id_is_a_number_that_nothing_refers_to() -> None:
    assert read("").next_server_id() == "1"
    assert read(CONTRACT).next_server_id() == "1"
    document = read("[servers]\n1, u@h, /p, 22, 2, true\n[auto-backups]\nB, daily, b, 2021-01-01, 3, /b\n[server 4]\n")
    assert document.next_server_id() == "5"


# Editing


def test_a_server_goes_below_the_last_row() -> None:
    document = read(CONTRACT)
    document.add_server(Server("1", "u@h", "a, b", 22, "nas", False, key_file="/k", settings={"note": ' "x" '}))
    assert text_of(document) == (
        "[servers]\nS4, user@host, /path, 5432, hello, true\n"
        '1, u@h, "a, b", 22, nas, false\n'
        "\n[auto-backups]\nB2, daily, fezf, 2022-09-02, S2, /home/backup\n"
        '\n[server 1]\nkey_file = /k\nnote = " ""x"" "\n'
    )


def test_a_first_server_goes_below_the_header_and_its_comments() -> None:
    document = read("[servers]\n# columns\n\n# about\n[auto-backups]\n")
    document.add_server(S4)
    assert text_of(document) == (
        "[servers]\n# columns\nS4, user@host, /path, 5432, hello, true\n\n# about\n[auto-backups]\n"
    )


def test_a_missing_table_is_made() -> None:
    document = read("")
    document.add_server(S4)
    document.add_auto_backup(B2)
    assert text_of(document) == CONTRACT


def test_a_missing_last_newline_is_given() -> None:
    document = read("[servers]\nS4, user@host, /path, 5432, hello, true")
    document.add_server(Server("1", "u@h", "/p", 22, "nas"))
    assert text_of(document) == "[servers]\nS4, user@host, /path, 5432, hello, true\n1, u@h, /p, 22, nas, true\n"


def test_windows_line_endings_and_a_byte_order_mark_stay() -> None:
    document = Document(("\ufeff" + CONTRACT.replace("\n", "\r\n")).encode())
    assert document.servers == [S4]
    document.add_server(Server("1", "u@h", "/p", 22, "nas", key_file="/k"))
    document.update_server(replace(S4, port=22))
    after = text_of(document)
    assert after.startswith("\ufeff[servers]\r\nS4, user@host, /path, 22, hello, true\r\n1, u@h")
    assert after.replace("\r\n", "").count("\n") == 0
    assert after.endswith("\r\n[server 1]\r\nkey_file = /k\r\n")


def test_a_byte_order_mark_survives_the_removal_of_the_first_line() -> None:
    document = read("\ufeff[server S4]\nkey_file = /k\n[servers]\nS4, user@host, /path, 5432, hello, true\n")
    document.delete_server("S4")
    assert text_of(document) == "\ufeff[servers]\n"


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (Server("S4", "u@h", "/p", 22, "new"), r"the id S4 is taken by server S4 \(hello\)"),
        (Server("1", "u@h", "/p", 22, "hello"), "the alias hello is taken"),
        (Server("hello", "u@h", "/p", 22, "new"), "the id hello is taken"),
        (Server("1", "u@h", "/p", 22, "S4"), "the alias S4 is taken"),
    ],
)
def test_an_id_or_alias_that_is_taken_is_refused(server: Server, message: str) -> None:
    document = read(CONTRACT)
    with pytest.raises(UsageError, match=message):
        document.add_server(server)
    assert text_of(document) == CONTRACT


def test_a_server_may_have_one_word_for_id_and_alias() -> None:
    document = read("")
    document.add_server(Server("nas", "u@h", "/p", 22, "nas"))
    assert document.find_server("nas").id == "nas"


def test_a_new_alias_must_be_free_too() -> None:
    document = read(CONTRACT)
    document.add_server(Server("1", "u@h", "/p", 22, "nas"))
    before = bytes(document)
    for taken in ("hello", "S4"):
        with pytest.raises(UsageError, match=f"the alias {taken} is taken"):
            document.update_server(replace(document.find_server("nas"), alias=taken))
    assert bytes(document) == before


def test_a_new_alias_keeps_everything() -> None:
    text = (
        "# mine\n[servers]\n; old format below\n  S4 ,user@host,/path,5432,True,hello\n\n"
        "[auto-backups]\nB3, daily, a, 2021-09-02, S4, /a\nB4, daily, b, 2021-09-02, hello, /b\n\n"
        "[server S4]\n# the key\nkey_file = /k\nfuture = kept\n\n[defaults]\nserver=hello\nother = kept\n"
    )
    document = read(text)
    document.update_server(replace(document.find_server("hello"), alias="new"))
    assert text_of(document) == (
        text.replace("  S4 ,user@host,/path,5432,True,hello", "S4, user@host, /path, 5432, new, true")
        .replace("2021-09-02, hello", "2021-09-02, S4")
        .replace("server=hello", "server=new")
    )
    assert document.find_server("new").settings == {"future": "kept"}


def test_a_setting_alone_leaves_the_row_as_it_is() -> None:
    text = "[servers]\nS4,user@host,/path,5432,True,hello\n"
    document = read(text)
    document.update_server(replace(document.find_server("S4"), key_file="/k"))
    assert text_of(document) == text + "\n[server S4]\nkey_file = /k\n"


def test_settings_are_changed_where_they_stand() -> None:
    document = read(CONTRACT + "\n[server S4]\n# a\n  Key-File   =   /old\n# b\nfuture = 1\n\n# c\n[other]\nx\n")
    server = document.find_server("S4")
    document.update_server(replace(server, key_file="/new", ssh_config="host"))
    assert text_of(document) == (
        CONTRACT + "\n[server S4]\n# a\n  Key-File   =   /new\n# b\nfuture = 1\nssh_config = host\n\n# c\n[other]\nx\n"
    )
    document.update_server(replace(document.find_server("S4"), key_file=None, settings={}))
    assert text_of(document) == CONTRACT + "\n[server S4]\n# a\n# b\nssh_config = host\n\n# c\n[other]\nx\n"


def test_replacing_the_last_setting_of_a_file_without_a_newline() -> None:
    document = read(CONTRACT + "[server S4]\nkey_file = /old")
    document.update_server(replace(S4, ssh_config="host"))
    assert text_of(document) == CONTRACT + "[server S4]\nssh_config = host\n"


def test_deleting_a_server_takes_its_sections_and_its_default() -> None:
    document = read(
        "[servers]\n# hello is\nS4, user@host, /path, 5432, hello, true\n1, u@h, /p, 22, nas, true\n\n"
        "[server S4]\n# its key\nkey_file = /k\n\n# about defaults\n[defaults]\nserver = hello\nother = x\n\n"
        "[server S4]\nfuture = x\n"
    )
    document.delete_server("S4")
    assert text_of(document) == (
        "[servers]\n# hello is\n1, u@h, /p, 22, nas, true\n\n# about defaults\n[defaults]\nother = x\n\n"
    )


def test_deleting_what_is_not_there_is_refused() -> None:
    document = read(CONTRACT)
    with pytest.raises(UsageError, match="no server with the id 'hello'"):
        document.delete_server("hello")
    with pytest.raises(UsageError, match="no auto-backup with the id 'B9'"):
        document.delete_auto_backup("B9")
    with pytest.raises(UsageError, match="no server"):
        document.update_server(replace(S4, id="S9"))
    with pytest.raises(UsageError, match="no auto-backup"):
        document.update_auto_backup(replace(B2, id="B9"))
    assert text_of(document) == CONTRACT


def test_a_new_server_does_not_inherit_what_an_old_one_left() -> None:
    document = read("[servers]\n\n[server 1]\nkey_file = /somebody/elses\n\n[auto-backups]\n")
    document.add_server(Server("1", "u@h", "/p", 22, "nas"))
    assert document.find_server("1").key_file is None
    assert "somebody" not in text_of(document)


def test_what_an_old_server_left_may_even_be_wrong() -> None:
    document = read("[servers]\n\n[server 1]\nssh_config = not a host\n")
    document.add_server(Server("1", "u@h", "/p", 22, "nas", ssh_config="host"))
    assert text_of(document) == "[servers]\n1, u@h, /p, 22, nas, true\n\n[server 1]\nssh_config = host\n"


def test_auto_backups_are_added_changed_and_deleted() -> None:
    document = read(CONTRACT)
    document.add_auto_backup(replace(B2, id="B3", frequency="0,30 * * * *", tag="t", settings={"keep_last": "7"}))
    row = 'B3, "0,30 * * * *", fezf, 2022-09-02, S2, /home/backup\n'
    assert text_of(document) == CONTRACT + row + "\n[auto-backup B3]\ntag = t\nkeep_last = 7\n"
    with pytest.raises(UsageError, match="there is an auto-backup B3 already"):
        document.add_auto_backup(document.find_auto_backup("B3"))
    document.update_auto_backup(replace(document.find_auto_backup("B3"), timestamp="2024-02-29T03:15:00Z", tag=None))
    assert text_of(document) == (
        CONTRACT + row.replace("2022-09-02", "2024-02-29T03:15:00Z") + "\n[auto-backup B3]\nkeep_last = 7\n"
    )
    document.delete_auto_backup("B3")
    assert text_of(document) == CONTRACT + "\n"


def test_defaults_are_made_changed_and_cleared() -> None:
    document = read(CONTRACT)
    document.set_defaults(Defaults(server="hello", settings={"color": "never"}))
    assert text_of(document) == CONTRACT + "\n[defaults]\nserver = hello\ncolor = never\n"
    document.set_defaults(Defaults())
    assert text_of(document) == CONTRACT + "\n[defaults]\n"
