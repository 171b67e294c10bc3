"""Connections that are begun before they are needed: used once, by nobody else, and ended when nobody needs them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from kdna.actions.caller import Caller
from kdna.actions.places import connected
from kdna.actions.reaching import Begun, let_go, opened, reach
from kdna.config.file import edit
from kdna.config.home import Home
from kdna.config.records import Server
from kdna.errors import ConnectionLost, HostKeyUnknown, Unreachable
from sshd import Server as Sshd
from sshd import missing, start


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    server = start(tmp_path_factory.mktemp("reached"))
    yield server
    server.stop()


@pytest.fixture
def caller(tmp_path, monkeypatch, sshd) -> Caller:
    monkeypatch.setenv("HOME", str(sshd.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Caller(Home(tmp_path / "kdna", tmp_path / "kdna" / "kdna.key"))


def configured(caller: Caller, sshd: Sshd, port: int | None = None) -> Server:
    server = Server("S1", f"{sshd.user}@{sshd.host}", str(sshd.root), port or sshd.port, "nas")
    with edit(caller.home) as document:
        document.add_server(server)
    return server


def test_what_was_begun_is_used_once(caller, sshd):
    server = configured(caller, sshd)
    reach(caller, "nas")
    begun = caller.begun["S1"]
    storage = opened(caller, server, None)
    assert storage is begun.storage.result()
    assert not caller.begun
    storage.create("one", [b"x"])
    other = opened(caller, server, None)
    assert other is not storage
    assert other.read("one") == b"x"
    storage.close()
    other.close()


def test_a_server_that_is_another_by_now_is_connected_to_anew(caller, sshd):
    server = configured(caller, sshd)
    reach(caller, None)
    begun = caller.begun["S1"]
    caller.begun["S1"] = Begun(Server("S1", "somebody@elsewhere", "/", 22, "nas"), begun.storage)
    storage = opened(caller, server, None)
    assert storage is not begun.storage.result(20)
    storage.close()
    begun.storage.result().close()


def test_what_one_action_is_done_with_serves_the_next_where_the_caller_keeps_it(caller, sshd):
    server = configured(caller, sshd)
    keeping = replace(caller, keeps=True)
    with connected(keeping, server) as place:
        storage = place.storage(encrypted=True)
    storage.list("")
    begun = keeping.begun["S1"]
    reach(keeping, "nas")
    assert keeping.begun["S1"] is begun, "there is one already"
    with connected(keeping, server) as place, connected(keeping, server) as other:
        assert place.storage(encrypted=True).connection is storage.connection
        assert other.storage(encrypted=True).connection is not storage.connection
    let_go(keeping)
    with pytest.raises(ConnectionLost, match="closed"):
        storage.list("")
    with connected(caller, server) as place:
        storage = place.storage(encrypted=True)
    assert not caller.begun
    with pytest.raises(ConnectionLost, match="closed"):
        storage.list("")


def test_what_nobody_needs_is_ended(caller, sshd):
    configured(caller, sshd)
    reach(caller, "nas")
    storage = caller.begun["S1"].storage.result(20)
    let_go(caller)
    assert not caller.begun
    with pytest.raises(ConnectionLost, match="closed"):
        storage.list("")
    reach(caller, "nas")
    later = caller.begun["S1"].storage
    let_go(caller)
    assert later.result(20) is not storage


def test_what_stands_in_the_way_is_told_to_who_needs_the_server(caller, sshd):
    server = configured(caller, sshd, port=1)
    reach(caller, "nas")
    with pytest.raises(Unreachable, match="nothing listens"):
        opened(caller, server, None)


def test_an_unknown_host_key_is_asked_about_by_who_needs_the_server(caller, sshd, tmp_path, monkeypatch):
    home = tmp_path / "other"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (home / ".ssh" / "id_ed25519").write_bytes(sshd.key.read_bytes())
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    server = configured(caller, sshd)
    reach(caller, "nas")
    with pytest.raises(HostKeyUnknown):
        opened(caller, server, None)
    asked = []
    reach(caller, "nas")
    opened(caller, server, lambda *what: not asked.append(what)).close()
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["nobody", None])
def test_where_it_is_not_plain_which_server_is_meant_nothing_is_begun(caller, name):
    reach(caller, name)
    assert not caller.begun
