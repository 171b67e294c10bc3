"""Sealed objects: round trips, and everything that must not go unnoticed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from seal_inputs import OTHER_SECRET, REPOSITORY_ID, SECRET, contents, full_keys, sample

from kdna.errors import Damaged, KdnaError, NewerFormat, WrongKey
from kdna.seal.encrypted import Encrypted
from kdna.seal.envelope import FRAME_MAX, HEADER_MAX, TAG, Kind, ObjectWriter, Seal, Suite
from kdna.seal.header import Header, decode
from kdna.seal.keys import derive
from kdna.seal.plain import Plain

FULL = Encrypted(full_keys())
PUT = Encrypted(full_keys().put)
PLAIN = Plain(REPOSITORY_ID)
STRANGER = Encrypted(derive(OTHER_SECRET, REPOSITORY_ID))
NEIGHBOUR = Encrypted(derive(SECRET, bytes(16)))
SEALS = pytest.mark.parametrize("seal", [FULL, PLAIN], ids=["sealed", "plain"])
KINDS = pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name.lower())
FRAMES = [b"table", b"", b"content"]
LENGTHS = [len(frame) for frame in FRAMES]


def outcome(seal: Seal, data: bytes, lengths: list[int]) -> list[bytes] | type[KdnaError]:
    """The frames, or the class of the error."""
    try:
        return contents(seal, data, lengths)
    except KdnaError as error:
        return type(error)


@given(
    st.sampled_from([(FULL, FULL), (PUT, FULL), (PLAIN, PLAIN)]),
    st.sampled_from(list(Kind)),
    st.lists(st.binary(max_size=300), min_size=1, max_size=6),
)
def test_what_is_sealed_opens(seals: tuple[Seal, Seal], kind: Kind, frames: list[bytes]) -> None:
    writer, reader = seals
    data = sample(writer, kind, frames)
    assert contents(reader, data + b"padding", [len(frame) for frame in frames]) == frames


@SEALS
def test_frames_open_in_any_order_and_from_any_buffer(seal: Seal) -> None:
    writer = seal.writer(Kind.DATA_PACK)
    sealed = {number: writer.frame(number, memoryview(b"x" * number), last=number == 3) for number in (3, 1, 0, 2)}
    reader = seal.reader(memoryview(bytearray(writer.header(len(sealed[0])))))
    for number in (2, 0, 3, 1):
        assert reader.frame(number, memoryview(sealed[number]), last=number == 3) == b"x" * number


@SEALS
@KINDS
def test_a_header_tells_what_is_needed_to_read_on(seal: Seal, kind: Kind) -> None:
    writer = seal.writer(kind)
    sealed = writer.frame(0, b"12345", last=True)
    header = writer.header(len(sealed))
    reader = seal.reader(header)
    assert (reader.kind, reader.header_length, reader.first_length) == (kind, len(header), 5 + TAG)
    assert len(header) == writer.header_length
    assert len(header) == (HEADER_MAX if seal.suite is Suite.SEALED and not kind.shared else 80)


@SEALS
@KINDS
def test_every_flipped_bit_is_noticed(seal: Seal, kind: Kind) -> None:
    data = sample(seal, kind, FRAMES)
    told = set()
    for position, bit in itertools.product(range(len(data)), range(8)):
        broken = bytearray(data)
        broken[position] ^= 1 << bit
        result = outcome(seal, bytes(broken), LENGTHS)
        told.add(result if isinstance(result, type) else position)
    assert told <= {Damaged, NewerFormat}, "noticed, and never blamed on the key"


@SEALS
def test_a_later_format_is_told_from_damage_by_three_bytes_only(seal: Seal) -> None:
    data = sample(seal, Kind.INDEX, FRAMES)
    for position in range(80):
        broken = data[:position] + bytes([data[position] ^ 0x80]) + data[position + 1 :]
        expected = NewerFormat if position in (4, 5, 6) else Damaged
        assert outcome(seal, broken, LENGTHS) is expected


@SEALS
@KINDS
def test_an_object_cut_short_is_damaged(seal: Seal, kind: Kind) -> None:
    data = sample(seal, kind, FRAMES)
    for length in range(len(data)):
        assert outcome(seal, data[:length], LENGTHS) is Damaged


@SEALS
def test_frames_cannot_change_places(seal: Seal) -> None:
    writer = seal.writer(Kind.DATA_PACK)
    first, second = writer.frame(0, b"same length", last=False), writer.frame(1, b"other words", last=True)
    reader = seal.reader(writer.header(len(first)))
    for number, sealed, last in [(0, second, False), (1, first, True), (0, first, True), (1, second, False)]:
        with pytest.raises(Damaged):
            reader.frame(number, sealed, last)
    assert reader.frame(1, second, last=True) == b"other words"


@SEALS
def test_a_frame_of_another_object_is_damaged(seal: Seal) -> None:
    one, other = seal.writer(Kind.TREE_PACK), seal.writer(Kind.TREE_PACK)
    sealed = one.frame(0, b"content", last=True)
    other.frame(0, b"content", last=True)
    with pytest.raises(Damaged):
        seal.reader(other.header(len(sealed))).frame(0, sealed, last=True)


@SEALS
@pytest.mark.parametrize("pair", list(itertools.permutations(Kind, 2)), ids=str)
def test_an_object_does_not_pass_for_another_kind(seal: Seal, pair: tuple[Kind, Kind]) -> None:
    data = sample(seal, pair[0], FRAMES)
    assert not isinstance(outcome(seal, relabelled(data, kind=pair[1]), LENGTHS), list)


@SEALS
@KINDS
@pytest.mark.parametrize("other", ["", "two", "on", "one ", "öne"])
def test_an_object_opens_under_its_own_name_only(seal: Seal, kind: Kind, other: str) -> None:
    """Or a server could hand out one backup's manifest for another's."""
    data = sample(seal, kind, FRAMES, "one")
    assert contents(seal, data, LENGTHS, "one") == FRAMES
    with pytest.raises(Damaged):
        contents(seal, data, LENGTHS, other)
    with pytest.raises(Damaged):
        contents(seal, sample(seal, kind, FRAMES, other), LENGTHS, "one")


@KINDS
def test_an_encrypted_object_does_not_pass_for_a_plain_one(kind: Kind) -> None:
    assert outcome(FULL, sample(PLAIN, kind, FRAMES), LENGTHS) is Damaged
    assert outcome(PLAIN, sample(FULL, kind, FRAMES), LENGTHS) is Damaged
    assert outcome(PLAIN, relabelled(sample(FULL, kind, FRAMES), suite=Suite.PLAIN), LENGTHS) is Damaged


@KINDS
def test_another_key_or_repository_is_told_from_damage(kind: Kind) -> None:
    data = sample(FULL, kind, FRAMES)
    assert outcome(STRANGER, data, LENGTHS) is WrongKey
    assert outcome(NEIGHBOUR, data, LENGTHS) is WrongKey


@KINDS
def test_a_plain_object_of_another_repository_is_damaged(kind: Kind) -> None:
    assert outcome(Plain(bytes(16)), sample(PLAIN, kind, FRAMES), LENGTHS) is Damaged


@pytest.mark.parametrize("field", ["salt", "commitment"])
def test_a_forged_header_opens_no_frame(field: str) -> None:
    header = decode(sample(FULL, Kind.DATA_PACK, FRAMES))
    forged = replace(header, **{field: bytes(32)})
    with pytest.raises(WrongKey):
        FULL.reader(forged.encode())


def test_a_forged_sealed_session_opens_nothing() -> None:
    """Each byte altered, and each bit of the ephemeral X25519 key's last byte, of which X25519 ignores one."""
    data = sample(FULL, Kind.MANIFEST, FRAMES)
    header = decode(data)
    ephemeral_end = 1088 + 32 - 1
    flips = [(at, at % 8) for at in range(1168)] + [(ephemeral_end, bit) for bit in range(8)]
    for position, bit in flips:
        session = bytearray(header.sealed_session)
        session[position] ^= 1 << bit
        forged = replace(header, sealed_session=bytes(session)).encode() + data[header.length :]
        assert outcome(FULL, forged, LENGTHS) is WrongKey


@pytest.mark.parametrize("session", [bytes(1168), b"\xff" * 1168], ids=["zeros", "ones"])
def test_a_sealed_session_that_is_none_is_a_wrong_key(session: bytes) -> None:
    data = sample(FULL, Kind.MANIFEST, FRAMES)
    header = decode(data)
    assert outcome(FULL, replace(header, sealed_session=session).encode() + data[header.length :], LENGTHS) is WrongKey


def test_a_session_secret_of_another_length_is_refused() -> None:
    """Whoever has the public key can seal anything to it."""
    header = decode(sample(FULL, Kind.MANIFEST, FRAMES))
    sealed = full_keys().put.public_key.seal(bytes(31), b"kdna 1 session\0\1" + REPOSITORY_ID)
    assert full_keys().private_key.open(sealed, b"kdna 1 session\0\1" + REPOSITORY_ID) == bytes(31)
    with pytest.raises(KdnaError):
        FULL.reader(replace(header, sealed_session=sealed + b"\0").encode())


def test_a_session_secret_from_another_object_opens_nothing() -> None:
    header = decode(sample(FULL, Kind.MANIFEST, FRAMES))
    FULL.new_session()
    other = decode(sample(FULL, Kind.MANIFEST, FRAMES))
    assert header.sealed_session != other.sealed_session
    with pytest.raises(WrongKey):
        FULL.reader(replace(header, sealed_session=other.sealed_session).encode())


def test_the_public_key_alone_seals_nothing() -> None:
    """A server knows the public key and the repository id, and can seal a session secret of its own; not more."""
    server = Encrypted(replace(derive(OTHER_SECRET, REPOSITORY_ID).put, public=full_keys().put.public))
    for kind in (Kind.DATA_PACK, Kind.TOKEN, Kind.INDEX):
        assert outcome(FULL, sample(server, kind, FRAMES), LENGTHS) is WrongKey


@KINDS
def test_a_put_key_reads_shared_kinds_only(kind: Kind) -> None:
    assert not PUT.can_read
    for seal in (FULL, PUT):
        result = outcome(PUT, sample(seal, kind, FRAMES), LENGTHS)
        assert result == (FRAMES if kind in (Kind.INDEX, Kind.TAG, Kind.CONDEMNED, Kind.DELETED) else WrongKey)


def test_a_put_key_authenticates_nothing() -> None:
    with pytest.raises(WrongKey):
        PUT.mac(b"record")


def test_put_and_full_keys_name_things_alike() -> None:
    assert PUT.cut_seed == FULL.cut_seed
    assert PUT.tag_name("p", "t") == FULL.tag_name("p", "t")
    for tree in (False, True):
        assert PUT.hasher(tree)(b"x") == FULL.hasher(tree)(memoryview(b"x"))


@SEALS
def test_a_frame_number_is_sealed_once(seal: Seal) -> None:
    writer = seal.writer(Kind.DATA_PACK)
    writer.frame(7, b"x", last=False)
    with pytest.raises(ValueError, match="sealed before"):
        writer.frame(7, b"x", last=False)
    for number in (-1, 1 << 32):
        with pytest.raises(ValueError, match="out of bounds"):
            writer.frame(number, b"x", last=False)


def test_two_threads_never_get_the_same_number() -> None:
    writer = FULL.writer(Kind.DATA_PACK)

    def attempt(number: int) -> int:
        try:
            writer.frame(number, b"x" * 1000, last=False)
        except ValueError:
            return 0
        return 1

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(attempt, [number for number in range(500) for _ in range(4)]))
    assert sum(done) == 500


def test_impossible_lengths_are_refused() -> None:
    writer = FULL.writer(Kind.INDEX)
    for length in (0, TAG - 1, FRAME_MAX + 1):
        with pytest.raises(ValueError, match="cannot have"):
            writer.header(length)
    header = decode(sample(FULL, Kind.INDEX, FRAMES))
    for length in (0, TAG - 1, FRAME_MAX + 1):
        with pytest.raises(Damaged):
            decode(header.starting(length).encode())


@SEALS
@pytest.mark.parametrize("number", [-1, 1 << 32, 1 << 80])
def test_an_impossible_frame_number_is_damage(seal: Seal, number: int) -> None:
    with pytest.raises(Damaged):
        seal.reader(sample(seal, Kind.INDEX, FRAMES)).frame(number, bytes(40), last=False)


def test_a_frame_shorter_than_its_tag_is_damage() -> None:
    for seal in (FULL, PLAIN):
        reader = seal.reader(sample(seal, Kind.INDEX, FRAMES))
        for length in range(TAG + 1):
            with pytest.raises(Damaged):
                reader.frame(1, bytes(length), last=False)


def test_keys_salts_and_sessions_are_never_used_again() -> None:
    seal = Encrypted(full_keys())
    kinds = list(itertools.islice(itertools.cycle(Kind), 4000))
    headers = [decode(seal.writer(kind).header(TAG)) for kind in kinds]
    assert len({header.salt for header in headers}) == len(headers)
    assert len({header.commitment for header in headers}) == len(headers)
    assert len({header.sealed_session for header in headers} - {b""}) == 1
    sessions = set()
    for _ in range(50):
        seal.new_session()
        sessions.add(decode(seal.writer(Kind.TOKEN).header(TAG)).sealed_session)
    assert len(sessions) == 50


def test_the_same_content_is_never_sealed_to_the_same_bytes() -> None:
    seen: set[bytes] = set()
    for _ in range(200):
        writer = FULL.writer(Kind.DATA_PACK)
        seen |= {writer.frame(number, b"same", last=False) for number in range(20)}
    assert len(seen) == 4000


def test_one_seal_serves_many_threads() -> None:
    seal = Encrypted(full_keys())

    def there_and_back(number: int) -> bool:
        frames = [bytes([number % 256]) * 1000, b"end"]
        if number % 7 == 0:
            seal.new_session()
        return contents(seal, sample(seal, Kind.DATA_PACK, frames), [1000, 3]) == frames

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(there_and_back, range(300)))


def test_opened_sessions_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdna.seal.encrypted._SESSIONS_KEPT", 3)
    writer, reader = Encrypted(full_keys()), Encrypted(full_keys())
    objects = []
    for _ in range(6):
        writer.new_session()
        objects.append(sample(writer, Kind.TOKEN, [b"token"]))
    for data in objects + objects:
        assert contents(reader, data, [5]) == [b"token"]
    assert len(reader._opened) == 3


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_tag_names_are_unambiguous(project: str, tag: str, other_project: str, other_tag: str) -> None:
    name = FULL.tag_name(project, tag)
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")
    same = (project, tag) == (other_project, other_tag)
    assert (name == FULL.tag_name(other_project, other_tag)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "bc"), ("ab", "c")), (("", "a"), ("a", "")), (("é", "t"), ("\udcc3\udca9", "t"))],
)
def test_tag_names_keep_project_and_tag_apart(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert FULL.tag_name(*one) != FULL.tag_name(*other)


def test_data_and_trees_and_repositories_are_named_apart() -> None:
    names: list[Callable[[bytes | memoryview], bytes]] = [
        seal.hasher(tree) for seal in (FULL, STRANGER, NEIGHBOUR, PLAIN, Plain(bytes(16))) for tree in (False, True)
    ]
    assert len({name(b"same bytes") for name in names}) == 10


def relabelled(data: bytes, kind: Kind | None = None, suite: Suite | None = None) -> bytes:
    """The object with another kind or suite in its header, and a CRC to match, as a forger would make it."""
    header = decode(data)
    new_kind, new_suite = header.kind if kind is None else kind, header.suite if suite is None else suite
    needs_session = new_suite is Suite.SEALED and not new_kind.shared
    session = (header.sealed_session or bytes(1168)) if needs_session else b""
    forged = Header(new_suite, new_kind, header.salt, header.commitment, header.first_length, session)
    return forged.encode() + data[header.length :]


def test_a_writer_tells_its_kind() -> None:
    assert isinstance(FULL.writer(Kind.TAG), ObjectWriter)
    assert FULL.writer(Kind.TAG).kind is Kind.TAG
