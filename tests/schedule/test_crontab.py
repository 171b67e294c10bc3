"""What is written into a crontab, and that nothing else in it changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jobs import COMMAND, HOME, expressions, job, words

from kdna.errors import UsageError
from kdna.schedule.crontab import entries, entry, put, quote, without_header
from kdna.schedule.timing import Timing

NAME = job().name
FOREIGN_LINES = [
    b"SHELL=/bin/bash",
    b"MAILTO=anna@example.org\r",
    b"# a comment",
    b"#",
    b"",
    b"   ",
    b"5 4 * * 1\t/usr/bin/date +\\%s%first line%second line",
    b"# caf\xe9 in Latin-1",
    b"@daily /usr/bin/true # kdna",
    b"0 0 * * * kdna auto-backup run -i B2",
    b"# kdna-B2-0000000",
    b"0 0 * * * echo kdna-B2-ead7fd79",
    b"\x00\xff\x80",
    b"10 * * * * echo '\x0b\x0c\x1c\xc2\x85\xe2\x80\xa8'",
]

crontabs = st.tuples(
    st.lists(
        st.sampled_from(FOREIGN_LINES) | st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=6
    ),
    st.booleans(),
).map(lambda drawn: b"".join(line + b"\n" for line in drawn[0])[: None if drawn[1] else -1])


def test_a_daily_job() -> None:
    assert entry(job()).decode() == (
        f"# {NAME} KDNA auto-backup B2: my home. Change it with 'kdna auto-backup', not here.\n"
        f"@reboot /usr/bin/env nice -n 10 /usr/bin/kdna auto-backup run --due -i B2 # {NAME}\n"
        f"17 4 * * * /usr/bin/env nice -n 10 /usr/bin/kdna auto-backup run --due -i B2 # {NAME}\n"
        f"47 * * * * /usr/bin/env nice -n 10 /usr/bin/kdna auto-backup run --due -i B2 # {NAME}\n"
    )


@pytest.mark.parametrize(
    ("timing", "times"),
    [
        ("hourly", ["17 * * * *"]),
        ("weekly", ["17 5 * * 0", "47 * * * *"]),
        ("monthly", ["17 6 1 * *", "47 * * * *"]),
        ("0,30 8-17 * * mon-fri", ["0,30 8-17 * * 1-5", "31 * * * *"]),
        ("*/20 * * * *", ["0,20,40 * * * *"]),
        ("5/20 4 * * 7", ["5,25,45 4 * * 0", "35 * * * *"]),
        ("0 4 1,15 * 1", ["0 4 1,15 * *", "0 4 * * 1", "30 * * * *"]),
        ("0 4 */2 * 1", ["0 4 * * 1", "30 * * * *"]),
        ("0 4 L feb *", ["0 4 28-31 2 *", "30 * * * *"]),
        ("0 4 * * fri#2", ["0 4 * * 5", "30 * * * *"]),
        ("* * * * *", ["* * * * *"]),
    ],
)
def test_the_times_of_an_entry(timing: str, times: list[str]) -> None:
    lines = entry(job(timing)).decode().splitlines()
    assert [line.partition(" /usr/bin/env")[0] for line in lines[1:]] == ["@reboot", *times]


def test_what_the_command_needs_is_given_to_it_alone() -> None:
    text = entry(job(environment={"KDNA_HOME": "/srv/my home", "KDNA_KEY_FILE": "/srv/50%.key"})).decode()
    start = "/usr/bin/env 'KDNA_HOME=/srv/my home' KDNA_KEY_FILE=/srv/50\\%.key nice -n 10 /usr/bin/kdna"
    assert all(start in line for line in text.splitlines()[1:])


def test_a_name_with_line_breaks_stays_in_its_line() -> None:
    text = entry(job(description="x\n* * * * * evil\r\n\udcff"))
    assert text.count(b"\n") == 4
    assert b"x * * * * * evil  ?." in text


@pytest.mark.parametrize("command", [(), ("kdna", "run"), ("/usr/bin/kdna", "a\nb"), ("/usr/bin/kdna", "\x00")])
def test_a_command_that_no_entry_can_hold_is_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        job(command=command)


def test_an_id_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(UsageError):
        entry(job(ident="a b"))


def test_entries_of_two_homes_and_ids_in_capitals_do_not_meet() -> None:
    names = {job(ident=ident, home=Path(home)).name for ident in ("B2", "b2") for home in ("/a", "/b")}
    assert len({name.lower() for name in names}) == 4


@given(crontabs)
@example(b"")
@example(b"# no line break at the end")
def test_adding_and_removing_leaves_every_byte(text: bytes) -> None:
    installed = put(text, NAME, entry(job()))
    assert entries(installed) == {NAME: entry(job())}
    assert put(installed, NAME, entry(job())) == installed
    whole = text if not text or text.endswith(b"\n") else text + b"\n"  # cron takes none without
    assert installed == entry(job()) + whole
    assert put(installed, NAME, b"") == whole
    assert put(text, NAME, b"") == text


@given(crontabs, crontabs)
def test_an_entry_is_brought_up_to_date_where_it_stands(above: bytes, below: bytes) -> None:
    above = above if not above or above.endswith(b"\n") else above + b"\n"
    below = below if not below or below.endswith(b"\n") else below + b"\n"
    other = entry(job("weekly", ident="other"))
    text = above + entry(job("daily")) + below + other
    changed = put(text, NAME, entry(job("0 4 1 * 1")))
    assert changed == above + entry(job("0 4 1 * 1")) + below + other
    assert put(changed, NAME, b"") == above + below + other


def test_lines_that_somebody_has_moved_or_commented_out_are_ours_still() -> None:
    comment, reboot, daily, hourly = entry(job()).splitlines(keepends=True)
    text = b"1 1 * * * a\n" + daily + b"2 2 * * * b\n#" + hourly + comment + b"3 3 * * * c\n" + reboot[:-1] + b"\r\n"
    assert put(text, NAME, b"") == b"1 1 * * * a\n2 2 * * * b\n3 3 * * * c\n"
    assert put(text, NAME, entry(job())) == b"1 1 * * * a\n" + entry(job()) + b"2 2 * * * b\n3 3 * * * c\n"


def strips_backslashes(command: str) -> str:
    """What Debian's cron makes of a command: a backslash before a percent sign goes."""
    return re.sub(r"(\\*)%", lambda found: _run_of(found[1]), command)


def _run_of(backslashes: str) -> str:
    assert len(backslashes) % 2 == 1, "a bare % is a line break for cron"
    return backslashes[:-1] + "%"


def strips_pairs(command: str) -> str:
    """What others make of it: of two backslashes one goes, too."""
    return re.sub(r"\\([%\\])", r"\1", command)


@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("sh"), reason="needs a POSIX shell")
@settings(max_examples=40)
@given(st.lists(words(), min_size=1, max_size=6))
@example(["%", "\\", "\\%", "%\\", "\\\\%%", "'\\'", "", "a b", "\\'%"])
def test_the_shell_reads_the_words_as_they_were_whichever_cron_it_is(arguments: list[str]) -> None:
    line = os.fsdecode(b" ".join(quote(word) for word in arguments))
    for variant in (strips_backslashes(line), strips_pairs(line), line):
        done = subprocess.run(["sh", "-c", f"printf '%s\\0' {variant} # {NAME}"], capture_output=True, check=True)
        assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in arguments), variant


@given(expressions())
def test_cron_reads_what_is_written_as_the_same_times(text: str) -> None:
    try:
        timing = Timing(text)
    except UsageError:
        return
    for line in entry(job(timing.text)).decode().splitlines()[2:]:
        written = " ".join(line.split()[:5])
        assert Timing(written), written
        assert re.fullmatch(r"[0-9*,-]+( [0-9*,-]+){4}", written)


def test_the_header_that_cron_writes_is_not_taken_for_the_users() -> None:
    header = (
        b"# DO NOT EDIT THIS FILE - edit the master and reinstall.\n"
        b"# (- installed on Sun Nov 22 22:33:29 2026)\n"
        b"# (Cron version -- $Id: crontab.c,v 2.13 1994/01/17 03:20:37 vixie Exp $)\n"
    )
    own = b"# mine\n# (mine, too)\n1 2 3 4 5 x\n"
    assert without_header(header + own) == own
    assert without_header(own) == own
    assert without_header(header.splitlines(keepends=True)[0] + own) == own
    assert COMMAND[0].encode() in entry(job(home=HOME))
