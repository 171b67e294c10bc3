"""A recovery sheet: a key on one page, as words and as a QR code of them, in text or SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from kdna.seal import words

if TYPE_CHECKING:
    from segno import QRCode

_COLUMNS = 4
_WIDTH = 17  # characters of a column
_ABOUT = (
    "These words are a key. Whoever has them can read every backup that was made with it, and without",
    "them or the key file nobody can. Keep this sheet where you keep your passport. Show it to nobody.",
)
_USE = (
    "The 25th is the check word: it catches mistakes. To get the key back, on any machine with KDNA:",
    "",
    "    kdna encrypt restore-key",
    "",
    "and type the words, or what a scanner reads from the code below; or name this page's file, if you",
    "have it, with --sheet. Then tell KDNA where the backups are, and look at them:",
    "",
    "    kdna server add -a NAME -ad USER@SERVER -r FOLDER",
    "    kdna backup list",
    "",
    "To see, without changing anything, that the words open your backups: kdna encrypt recovery --test",
)


def as_text(secret: bytes, origin: str) -> str:
    """The sheet as text; `origin` says when and of which key it was made."""
    lines = ["KDNA recovery sheet", "", *_ABOUT, "", origin, ""]
    lines += [f"----- {words.BEGIN} -----", *_rows(words.to_words(secret)), f"----- {words.END} -----", ""]
    return "\n".join([*lines, *_USE, "", *_blocks(_code(secret)), ""])


def as_svg(secret: bytes, origin: str) -> str:
    """The sheet as SVG, one page of A4, for a browser to print."""
    told = [f"----- {words.BEGIN} -----", *_rows(words.to_words(secret)), f"----- {words.END} -----"]
    code = _code(secret).svg_inline(scale=1, border=4, dark="#000", light="#fff")
    side = _code(secret).symbol_size(border=4)[0]
    text = [_line(20, 25, 7, "sans-serif", "KDNA recovery sheet")]
    text += [_line(20, 36 + 5 * at, 3.4, "sans-serif", line) for at, line in enumerate((*_ABOUT, "", origin))]
    text += [_line(20, 65 + 7 * at, 4.4, "monospace", line) for at, line in enumerate(told)]
    text += [_line(20, 136 + 5 * at, 3.4, "sans-serif", line) for at, line in enumerate(_USE)]
    place = f'<g transform="translate(65 200) scale({80 / side:.4f})">{code}</g>'
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="210mm" height="297mm" viewBox="0 0 210 297">'
    return "\n".join([head, '<rect width="210" height="297" fill="#fff"/>', *text, place, "</svg>", ""])


def _rows(listed: Sequence[str]) -> list[str]:
    """The words with their numbers, to be read from left to right."""
    cells = [f"{number:2} {word}".ljust(_WIDTH) for number, word in enumerate(listed, 1)]
    return ["".join(cells[at : at + _COLUMNS]).rstrip() for at in range(0, len(cells), _COLUMNS)]


def _code(secret: bytes) -> QRCode:
    """The words as a QR code; in capitals, which it can hold more tightly."""
    import segno  # 30 ms to import, and only this needs it

    return segno.make_qr(" ".join(words.to_words(secret)).upper(), error="q", boost_error=False)


def _blocks(code: QRCode) -> list[str]:
    """A QR code in characters, two of its squares above each other in each."""
    rows = [[bool(module) for module in row] for row in code.matrix_iter(border=2)]
    rows += [[False] * len(rows[0])] * (len(rows) % 2)
    signs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return ["".join(signs[pair] for pair in zip(upper, lower, strict=True)).rstrip() for upper, lower in pairs]


def _line(x: float, y: float, size: float, font: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" font-family="{font}" font-size="{size}" xml:space="preserve">{escape(text)}</text>'
