"""The real crontab(1), on the crontab of a user of this test's own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from jobs import HOME, job

import cron
from kdna.errors import SchedulerError
from kdna.schedule.cron import Crontab
from kdna.schedule.crontab import entry

FOREIGN = b'# one\n# two\n# three\nMAILTO=""\n5 4 * * 1\tdate +\\%s # caf\xe9\r\n\n'


def test_a_user_without_a_crontab_gets_one_and_loses_it_again(account: cron.Account) -> None:
    assert Crontab().installed(HOME) == {}
    Crontab().remove("B2", HOME)
    assert account.crontab() is None
    Crontab().install(job())
    assert account.crontab() == entry(job())
    assert Crontab().installed(HOME) == {"B2": entry(job()).decode()}
    assert Crontab().installed(Path("/elsewhere")) == {}
    Crontab().remove("B2", HOME)
    assert account.crontab() is None


def test_what_is_not_ours_stays_as_it_is(account: cron.Account) -> None:
    account.put(FOREIGN)
    for timing in ("daily", "daily", "0 4 1 * 1", "hourly"):
        Crontab().install(job(timing))
        assert account.crontab() == entry(job(timing)) + FOREIGN
    Crontab().install(job("weekly", ident="B3"))
    assert set(Crontab().installed(HOME)) == {"B2", "B3"}
    Crontab().remove("B2", HOME)
    Crontab().remove("B3", HOME)
    assert account.crontab() == FOREIGN


def test_comments_at_the_top_survive_in_a_file_without_crons_header(account: cron.Account) -> None:
    account.put(FOREIGN)
    account.spool.write_bytes(FOREIGN[:-2])  # as configuration management does; and its last line has no line break
    Crontab().install(job())
    assert account.crontab() == entry(job()) + FOREIGN[:-1]


def test_a_crontab_that_cron_refuses_is_left_as_it_was(account: cron.Account) -> None:
    account.put(FOREIGN)
    account.spool.write_bytes(b"61 4 * * * broken\n")
    with pytest.raises(SchedulerError, match="bad minute") as caught:
        Crontab().install(job())
    assert "Nothing was changed" in caught.value.hint
    assert account.spool.read_bytes() == b"61 4 * * * broken\n"


def test_a_user_whom_cron_denies_is_told_so(account: cron.Account) -> None:
    program = account.programs / "crontab"
    program.write_text("#!/bin/sh\necho 'You (anna) are not allowed to use this program (crontab)' >&2\nexit 1\n")
    for action in (
        lambda: Crontab().install(job()),
        lambda: Crontab().remove("B2", HOME),
        lambda: Crontab().installed(HOME),
    ):
        with pytest.raises(SchedulerError, match="not allowed to use"):
            action()


def test_two_commands_at_once_lose_no_entry(account: cron.Account) -> None:
    account.put(FOREIGN)
    jobs = [job(ident=f"B{number}") for number in range(6)]
    threads = [threading.Thread(target=Crontab().install, args=(one,)) for one in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(Crontab().installed(HOME)) == {one.ident for one in jobs}
    text = account.crontab()
    assert text is not None
    assert text.endswith(FOREIGN)


def test_what_another_program_writes_meanwhile_is_kept(account: cron.Account) -> None:
    """The program `crontab` of this test changes the crontab by itself between the first reading and the second."""
    account.put(FOREIGN)
    program = account.programs / "crontab"
    real = program.read_text()
    (account.programs / "theirs").write_bytes(FOREIGN + b"9 9 * * * theirs\n")
    (account.programs / "real").write_text(real)
    (account.programs / "real").chmod(0o755)
    program.write_text(
        f"""#!/bin/sh
cd {account.programs}
[ "$1" != -l ] || echo >>reads
[ "$1" != -l ] || [ "$(wc -l <reads)" != 2 ] || ./real theirs
exec ./real "$@"
"""
    )
    Crontab().install(job())
    assert account.crontab() == entry(job()) + FOREIGN + b"9 9 * * * theirs\n"


def test_a_crontab_that_never_stands_still_is_given_up_on(account: cron.Account) -> None:
    program = account.programs / "crontab"
    program.write_text(
        f"""#!/bin/sh
cd {account.programs}
[ "$1" = -l ] || {{ touch written; exit 0; }}
echo x >>reads
echo "# $(wc -l <reads)"
"""
    )
    with pytest.raises(SchedulerError, match="again and again"):
        Crontab().install(job())
    assert not (account.programs / "written").exists()


def test_control_characters_that_the_listing_hides_survive(account: cron.Account) -> None:
    for text in (
        b"# \r\x08\\r\\b\n",
        b"# \\r\n# \\b\n",
        b"#\r\n#\r\n#\r\n1 1 * * * a\r\n",
        b"1 1 * * * \\r \x0b\x1b[1m\n",
    ):
        account.put(text)
        Crontab().install(job())
        assert account.crontab() == entry(job()) + text
        Crontab().remove("B2", HOME)
        assert account.crontab() == text


def test_where_the_listing_is_ambiguous_nothing_is_changed(account: cron.Account) -> None:
    account.put(b"x=y\n")
    account.spool.write_bytes(b"# \r\n# \\r\n# three\n# four\n")  # without cron's header; no way shows the first three
    with pytest.raises(SchedulerError, match="control characters"):
        Crontab().install(job())
    assert account.crontab() == b"# \r\n# \\r\n# three\n# four\n"
