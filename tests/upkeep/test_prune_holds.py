"""A prune deletes nothing that a held backup needs, also when the backup is deleted by somebody who saw no hold."""

from __future__ import annotations

from pathlib import Path

from pruning import back_up, check, client, names, prune

from kdna.repository import layout
from kdna.storage.memory import Medium, MemoryStorage


def test_what_a_held_backup_needs_stays_until_it_is_released(tmp_path: Path) -> None:
    medium = Medium()
    repository = client(medium, tmp_path / "a")
    held, other = back_up(repository, {1, 2, 3}, "held"), back_up(repository, {4, 5}, "other")
    repository.holds.put(held, {})
    repository.storage.rename(layout.snapshot(held), layout.forgotten(held))  # by a client that looked before the hold
    for _ in range(2):
        prune(client(medium, tmp_path / "b"))
        assert check(medium, tmp_path) == {held: {1, 2, 3}, other: {4, 5}}
    client(medium, tmp_path / "b").holds.release(held)
    for _ in range(2):
        prune(client(medium, tmp_path / "b"))
    assert check(medium, tmp_path) == {other: {4, 5}}
    assert names(medium, layout.FORGOTTEN) == set()


def test_a_hold_and_a_deletion_at_any_moment_of_a_prune(tmp_path: Path) -> None:
    base = Medium()
    repository = client(base, tmp_path / "a")
    held, other = back_up(repository, {1, 2, 3}), back_up(repository, {3, 4})
    repository.forget(back_up(repository, {5, 6}))

    def run(at: int, cache: str) -> int:
        """A prune before whose so manyth listing one client holds the backup, and another deletes it."""
        medium = base.copy()
        pruning = client(medium, tmp_path / cache)
        storage, listings = pruning.storage, 0
        assert isinstance(storage, MemoryStorage)

        def before(verb: str, name: str) -> None:
            nonlocal listings
            listings += verb == "list"
            if verb == "list" and listings == at:
                client(medium, tmp_path / "holder").holds.put(held, {})
                MemoryStorage(medium).rename(layout.snapshot(held), layout.forgotten(held))

        storage.before = before
        prune(pruning)
        if at:
            assert check(medium, tmp_path) == {held: {1, 2, 3}, other: {3, 4}}, at
        return listings

    count = run(0, "count")
    assert count > 10
    for at in range(1, count + 1):
        run(at, f"{at}")
