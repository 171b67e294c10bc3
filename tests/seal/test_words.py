"""A key as words: they come back as they were, and no slip of whoever copies them passes."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seal_inputs import USER_SECRET

from kdna.errors import KeyFileError
from kdna.seal import sheet, words

SECRETS = st.binary(min_size=32, max_size=32)
LISTED = words._list().wordlist
OURS = words.to_words(USER_SECRET)
FIXED = (  # what this version makes of the bytes 80 to 9f; every later one must read it
    "letter army path animal flash duck captain course merit good glove busy "
    "animal sing exact naive notable rubber chapter cry right excite kidney utility expect"
)


@given(secret=SECRETS)
def test_a_key_comes_back_from_its_words(secret: bytes) -> None:
    made = words.to_words(secret)
    assert len(made) == 25
    assert words.to_secret(made) == secret
    assert words.to_secret(made[:24]) == secret
    assert words.to_secret(words.split(sheet.as_text(secret, "made today"))) == secret


def test_the_24_words_are_those_of_the_published_list_and_rule() -> None:
    vectors = {  # from the test vectors of the proposal's authors
        "00" * 32: "abandon " * 23 + "art",
        "7f" * 32: "legal winner thank year wave sausage worth useful " * 2
        + "legal winner thank year wave sausage worth title",
        "ff" * 32: "zoo " * 23 + "vote",
    }
    for secret, expected in vectors.items():
        assert words.to_words(bytes.fromhex(secret))[:24] == expected.split()


def test_what_was_printed_once_is_read_for_ever() -> None:
    assert words.to_secret(FIXED.split()) == USER_SECRET
    assert FIXED.split() == OURS


def test_the_page_of_the_format_has_the_same_example() -> None:
    page = (Path(words.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```words\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert words.to_secret(words.split(example)) == USER_SECRET
    assert len(words.split(example)) == 25


def test_the_powers_behind_the_check_word_differ() -> None:
    """x has order 2047 modulo the polynomial, so x^0 … x^24 are 25 different elements: the proof of what follows."""
    value, seen = 1, []
    for _ in range(2047):
        seen.append(value)
        value <<= 1
        value ^= words._POLYNOMIAL if value > 2047 else 0
    assert value == 1
    assert len(set(seen)) == 2047


def test_every_single_wrong_word_is_caught() -> None:
    for position in range(25):
        for word in LISTED:
            if word != OURS[position]:
                with pytest.raises(KeyFileError, match="do not fit together"):
                    words.to_secret([*OURS[:position], word, *OURS[position + 1 :]])


@settings(max_examples=20)
@given(secret=SECRETS)
def test_every_two_words_that_changed_places_are_caught(secret: bytes) -> None:
    made = words.to_words(secret)
    for one, other in itertools.combinations(range(25), 2):
        changed = list(made)
        changed[one], changed[other] = changed[other], changed[one]
        if changed != made:
            with pytest.raises(KeyFileError, match="do not fit together"):
                words.to_secret(changed)


def test_without_the_check_word_about_one_mistake_in_256_passes() -> None:
    chance, passed = random.Random(5), 0
    for _ in range(2000):
        made = words.to_words(chance.randbytes(32))[:24]
        made[chance.randrange(24)] = chance.choice(LISTED)
        with contextlib.suppress(KeyFileError):
            words.to_secret(made)
            passed += 1
    assert 1 <= passed <= 25  # 2000 / 256 = 8, and a few that drew the same word


def test_more_than_two_mistakes_pass_once_in_half_a_million() -> None:
    chance = random.Random(6)
    for _ in range(3000):
        made = list(OURS)
        chance.shuffle(made)
        with pytest.raises(KeyFileError):
            words.to_secret(made)


@pytest.mark.parametrize("count", [0, 1, 12, 23, 26, 48])
def test_another_number_of_words_is_told(count: int) -> None:
    with pytest.raises(KeyFileError, match=f"there are {count} words"):
        words.to_secret((OURS * 2)[:count])


def test_every_typo_is_told_with_the_nearest_words() -> None:
    """Each letter left out, doubled, exchanged or mistyped: it is another word of the list, or it is not accepted."""
    for word in random.Random(7).sample(LISTED, 25):
        for at in range(len(word)):
            for typed in (
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
                word[:at] + "q" + word[at + 1 :],
            ):
                if typed in LISTED:
                    continue  # what the check word is for
                if len(typed) == 4 and any(known.startswith(typed) for known in LISTED):
                    continue  # the same
                with pytest.raises(KeyFileError, match="word 3") as told:
                    words.known(typed, 3)
                assert told.value.hint
    with pytest.raises(KeyFileError, match="'abandn'") as caught:
        words.known("abandn", 1)
    assert "abandon" in caught.value.hint


def test_four_letters_are_a_word_and_fewer_or_others_are_not() -> None:
    assert len({word[:4] for word in LISTED}) == len(LISTED) == 2048
    assert [words.known(word[:4].upper(), 1) for word in OURS] == OURS
    for typed in ("aban0", "abandoning", "aba", "abandom"):
        with pytest.raises(KeyFileError):
            words.known(typed, 1)


def test_words_are_read_however_they_are_written() -> None:
    for text in (
        " ".join(OURS).upper(),
        "\n".join(f"{number}. {word}" for number, word in enumerate(OURS, 1)),
        ", ".join(word[:4] for word in OURS),
        "\ufeff" + "\r\n".join(OURS),
        sheet.as_text(USER_SECRET, "made"),
        sheet.as_svg(USER_SECRET, "made"),
        "\r\n".join(f"> {line}" for line in sheet.as_text(USER_SECRET, "made").splitlines()),
    ):
        assert words.to_secret(words.split(text)) == USER_SECRET


def test_what_a_sheet_says_of_its_origin_is_never_taken_for_its_words() -> None:
    origin = f"abandon {words.BEGIN} zoo <b>&amp; {words.END}"
    for form in (sheet.as_text, sheet.as_svg):
        assert words.to_secret(words.split(form(USER_SECRET, origin))) == USER_SECRET


@pytest.mark.parametrize("form", [sheet.as_text, sheet.as_svg], ids=["text", "svg"])
def test_every_cut_of_a_sheet_is_noticed(form) -> None:
    text = form(USER_SECRET, "made")
    end = text.rindex(words.END) + len(words.END)
    for length in range(0, end, 7):
        with pytest.raises(KeyFileError):
            words.to_secret(words.split(text[:length]))


@pytest.mark.parametrize("form", [sheet.as_text, sheet.as_svg], ids=["text", "svg"])
def test_every_changed_letter_of_a_sheet_gives_the_same_key_or_none(form) -> None:
    text = form(USER_SECRET, "made")
    start, end = text.rindex(words.BEGIN), text.rindex(words.END)
    for at in range(start, end):
        for other in "q ":
            with contextlib.suppress(KeyFileError):
                assert words.to_secret(words.split(text[:at] + other + text[at + 1 :])) == USER_SECRET


def test_a_sheet_fits_on_a_page() -> None:
    text = sheet.as_text(USER_SECRET, "Made on 2026-11-22 on laptop")
    assert len(text.splitlines()) <= 66
    assert all(len(line) <= 100 for line in text.splitlines())
    svg = sheet.as_svg(USER_SECRET, 'a "quoted" <name> & more')
    assert "<name>" not in svg
    assert all(
        0 < float(y) < 200 for y in re.findall(r'<text [^>]* y="([\d.]+)"', svg) or re.findall(r' y="([\d.]+)"', svg)
    )


def test_the_code_holds_the_words() -> None:
    """Its squares are those of the words, drawn anew by the library; that a scanner reads them was seen by hand."""
    import segno

    rows = [list(row) for row in segno.make_qr(" ".join(OURS).upper(), error="q", boost_error=False).matrix]
    drawn = [line[2:] for line in sheet.as_text(USER_SECRET, "x").splitlines() if re.match(" *[█▀▄]", line)]
    for y, row in enumerate(rows):
        line = drawn[y // 2].ljust(len(row))
        for x, dark in enumerate(row):
            assert (line[x] in ("█▀" if y % 2 == 0 else "█▄")) == bool(dark)


TYPED = st.lists(st.sampled_from([*OURS, "7", "-", "<", ">", words.BEGIN, words.END, "é", "\x00", "zzzz"]), max_size=40)


@given(text=st.text(max_size=3000) | TYPED.map(" ".join) | TYPED.map("".join))
def test_any_text_is_a_key_or_an_error(text: str) -> None:
    with contextlib.suppress(KeyFileError):
        assert len(words.to_secret(words.split(text))) == 32


def test_a_text_that_is_far_too_long_is_not_looked_at() -> None:
    with pytest.raises(KeyFileError, match="too long"):
        words.split("<" * (words.TEXT_MAX + 1))
    words.split("<" * words.TEXT_MAX)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_only_a_key_has_words(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        words.to_words(bytes(length))
