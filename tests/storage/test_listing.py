"""A folder whose listing fails in its middle is not taken for a shorter one."""

from __future__ import annotations

import asyncio

import pytest

from kdna.storage.listing import _read_all
from kdna.storage.ssh_library import asyncssh


def entry(number: int) -> asyncssh.SFTPName:
    kind = asyncssh.FILEXFER_TYPE_REGULAR
    return asyncssh.SFTPName(b"%d" % number, attrs=asyncssh.SFTPAttrs(type=kind, size=number or None, mtime=7))


class Server:
    """Answers requests for entries as it is told, and then says that there are no more."""

    def __init__(self, answers):
        self.answers = list(answers)

    async def opendir(self, path):
        return b"handle"

    async def close(self, handle):
        pass

    async def readdir(self, handle):
        answer = self.answers.pop(0) if self.answers else asyncssh.SFTPEOFError("no more")
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("error", [asyncssh.SFTPFailure("the disk errs"), asyncssh.SFTPConnectionLost("gone")])
def test_what_fails_in_the_middle_of_a_listing_is_told(at, error):
    answers = [([entry(number)], False) for number in range(6)]
    with pytest.raises(type(error)):
        asyncio.run(_read_all(Server([*answers[:at], error, *answers[at:]]), b"handle"))


@pytest.mark.parametrize("count", range(9))
def test_a_listing_is_whole_and_in_order_however_many_answers_it_takes(count):
    answers = [([entry(number)], False) for number in range(count)]
    found = asyncio.run(_read_all(Server(answers), b"handle"))
    assert found == [(str(number), asyncssh.FILEXFER_TYPE_REGULAR, number, 7) for number in range(count)]
