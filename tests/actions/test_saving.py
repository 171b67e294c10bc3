"""Saving as an action: what it tells a display, what it remembers, and how it takes other clients."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from moments import around
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.catalog import Wanted, list_backups
from kdna.actions.keys import access_key
from kdna.actions.places import connected
from kdna.actions.saving import SaveRequest, SaveResult, add_backup
from kdna.actions.servers import NewServer, add_server
from kdna.config.durable import locked
from kdna.config.file import load
from kdna.config.home import Home
from kdna.errors import Fenced, TagTaken, WrongKey
from kdna.progress import Counts, Silent
from kdna.repository import layout
from kdna.storage.local import LocalStorage


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    folder = tmp_path / "home"
    caller = Caller(Home(folder, folder / "kdna.key"), Silent())
    add_server(caller, NewServer(address="local", path=str(tmp_path / "nas"), alias="nas"))
    return caller


@pytest.fixture
def request_(tmp_path: Path) -> SaveRequest:
    (tmp_path / "docs").mkdir()
    for number in range(20):
        (tmp_path / "docs" / str(number)).write_bytes(os.urandom(50_000))
    return SaveRequest("papers", str(tmp_path / "docs"), "t")


def save(caller: Caller, request: SaveRequest) -> SaveResult:
    return add_backup(caller, request, Counts())


def test_backups_of_one_client_are_numbered_and_chained(caller: Caller, request_: SaveRequest) -> None:
    sids = [save(caller, replace(request_, tag=str(n))).snapshot for n in range(3)]
    clients = [backup.manifest.client for backup in list_backups(caller, Wanted()).backups]
    assert [client.number for client in clients] == [1, 2, 3]
    assert [client.previous for client in clients] == ["", *sids[:2]]
    assert len({client.ident for client in clients}) == 1
    assert (caller.home.state / "client.json").stat().st_mode & 0o777 == 0o600


def test_a_lost_or_broken_memory_begins_a_new_client(caller: Caller, request_: SaveRequest) -> None:
    save(caller, request_)
    (caller.home.state / "client.json").write_text("{nonsense")
    save(caller, replace(request_, tag="u"))
    clients = [backup.manifest.client for backup in list_backups(caller, Wanted()).backups]
    assert [client.number for client in clients] == [1, 1]
    assert clients[0].ident != clients[1].ident


def test_two_repositories_have_chains_of_their_own(caller: Caller, request_: SaveRequest, tmp_path: Path) -> None:
    add_server(caller, NewServer(address="local", path=str(tmp_path / "b"), alias="b"))
    for server in ("nas", "b", "nas"):
        save(caller, replace(request_, tag=f"{server}{time.monotonic_ns()}", server=server))
    found = list_backups(caller, Wanted(server="nas")).backups
    assert [backup.manifest.client.number for backup in found] == [1, 2]
    assert list_backups(caller, Wanted(server="b")).backups[0].manifest.client.number == 1


def test_nobody_waits_for_a_turn_while_packs_are_sent(caller: Caller, request_: SaveRequest) -> None:
    sending, go_on = threading.Event(), threading.Event()

    def hold_back(arguments: dict[str, Any]) -> None:
        if arguments["name"].startswith(f"{layout.PACKS}/"):
            sending.set()
            go_on.wait(30)

    with around(LocalStorage.create, hold_back, lambda _: None), ThreadPoolExecutor(1) as pool:
        saving = pool.submit(save, caller, request_)
        try:
            assert sending.wait(30)
            with locked(os.path.realpath(caller.home.state / "client.json"), 1):
                assert not saving.done()
        finally:
            go_on.set()
        assert saving.result(30).snapshot


def test_the_backup_before_tells_how_much_there_is_to_do(caller: Caller, request_: SaveRequest) -> None:
    save(caller, request_)
    counts = Counts()
    add_backup(caller, replace(request_, tag="u", project="another"), counts)
    assert (counts.files_total, counts.bytes_total) == (20, 1_000_000)
    assert counts.bytes_new == 0


def test_without_one_before_it_is_estimated(caller: Caller, request_: SaveRequest) -> None:
    counts = Counts()
    add_backup(caller, replace(request_, estimate=True, dry_run=True), counts)
    assert counts.files_total in (0, 20)  # 0 when the backup was quicker than the walk beside it


def test_a_source_behind_a_symlink_is_its_content(caller: Caller, request_: SaveRequest, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "docs")
    result = save(caller, replace(request_, path=str(tmp_path / "link")))
    assert result.counts.files == 20
    assert result.source == str(tmp_path / "link")


def fence(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Another client, which declares the next sessions dead at the last moment before they commit."""
    promote, left = LocalStorage.promote, [*range(times)]

    def overtaken(storage: LocalStorage, old: str, new: str) -> None:
        if left and new.startswith(layout.SNAPSHOTS):
            left.pop()
            storage.rename(old, old.replace(layout.SESSIONS, layout.FENCED))
        promote(storage, old, new)

    monkeypatch.setattr(LocalStorage, "promote", overtaken)


def test_a_backup_declared_dead_starts_again(
    caller: Caller, request_: SaveRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(caller, request_)
    fence(monkeypatch, 2)
    result = save(caller, replace(request_, tag="u"))
    assert isinstance(caller.sink, Silent)
    assert sum("declared this backup dead" in notice for notice in caller.sink.notices) == 2
    assert result.counts.files == 20
    assert len(list_backups(caller, Wanted()).backups) == 2


def test_one_declared_dead_again_and_again_gives_up(
    caller: Caller, request_: SaveRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(caller, request_)
    fence(monkeypatch, 5)
    with pytest.raises(Fenced):
        save(caller, replace(request_, tag="u"))
    assert len(list_backups(caller, Wanted()).backups) == 1


def test_a_key_that_another_first_backup_made_after_we_looked_is_used(caller: Caller, request_: SaveRequest) -> None:
    key = access_key(caller)
    assert key is None
    save(caller, request_)
    with connected(caller, load(caller.home).find_server("nas")) as place:
        assert place.repository(True, key).encrypted
        caller.home.key_file.rename(caller.home.key_file.with_suffix(".away"))
        with pytest.raises(WrongKey, match="no key file"):
            place.repository(True, key)


def test_of_two_that_want_a_tag_one_gets_it(caller: Caller, request_: SaveRequest) -> None:
    outcomes: list[object] = []

    def one() -> None:
        try:
            outcomes.append(save(replace(caller, sink=Silent()), request_))
        except TagTaken as error:
            outcomes.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    winners = [outcome for outcome in outcomes if isinstance(outcome, SaveResult)]
    found = list_backups(caller, Wanted()).backups
    assert len(found) == len(winners) == 1
    assert found[0].names == (("papers", "t"),)


def test_a_repository_of_an_earlier_kdna_gets_its_spare_copies(
    caller: Caller, request_: SaveRequest, tmp_path: Path
) -> None:
    save(caller, request_)
    repository = tmp_path / "nas" / "kdna" / "encrypted"
    spares = [*repository.glob("repository.2"), *repository.glob("keys/*.2")]
    assert len(spares) == 2
    for spare in spares:
        spare.unlink()
    save(caller, replace(request_, tag="same machine"))
    assert not any(spare.exists() for spare in spares), "it knows that it made them, and asks no more"
    another = replace(caller, home=Home(tmp_path / "another", caller.home.key_file))
    add_server(another, NewServer(address="local", path=str(tmp_path / "nas"), alias="nas"))
    save(another, replace(request_, tag="dry", dry_run=True))
    assert not any(spare.exists() for spare in spares)
    save(another, replace(request_, tag="u"))
    assert all(spare.read_bytes() == spare.with_name(spare.name[:-2]).read_bytes() for spare in spares)
