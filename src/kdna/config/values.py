"""What one field of kdna.conf may hold: each check returns the value, or raises UsageError saying what is allowed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from kdna.errors import UsageError

ID_HINT = "Allowed: 1 to 64 letters (a-z), digits, '.', '_' and '-', not beginning with '-'."
FREQUENCIES = ("hourly", "daily", "weekly", "monthly", "custom")
TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")

# Those that every command checks are prepared when this is loaded, the others when they are used.
_ID = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")
# Whatever would break a line in some editor, move a terminal's cursor, or cannot be written as UTF-8.
_CONTROL = "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
_MOMENT = r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?(Z|[+-](\d\d):?(\d\d))?)?"
_CRON_PART = r"[A-Za-z0-9*/,?#-]+"
_COLON_PART = r"[A-Za-z0-9*/,?#-]*"


def show(text: str) -> str:
    """The text quoted for a message: control characters escaped, at most 60 characters of it."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


def check_id(text: str, what: str = "id") -> str:
    """A name used in commands: the id of a server or auto-backup, or an alias (say so in `what`)."""
    if not _ID.fullmatch(text) or not text.strip("."):
        raise UsageError(f"{show(text)} cannot be the {what}", ID_HINT)
    return text


def check_text(text: str, what: str) -> str:
    """One line of printable text, not empty."""
    if not text:
        raise UsageError(f"the {what} is empty", f"Give the {what} a value.")
    found = None if text.isprintable() else re.search(_CONTROL, text)
    if found:
        raise UsageError(
            f"the {what} {show(text)} holds the character {found.group()!r}",
            f"kdna.conf holds one line of text per entry: the {what} can have no line breaks or control characters, "
            "and must be valid Unicode.",
        )
    return text


def check_path(text: str, what: str = "path") -> str:
    """A path as the user wrote it; whether it exists is not asked."""
    if len(check_text(text, what)) > 32_767:  # the longest that any of our systems takes (Windows)
        raise UsageError(f"the {what} has {len(text)} characters", "A path has at most 32767.")
    return text


def parse_boolean(text: str, what: str) -> bool:
    """True or false from the words a person writes for it."""
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise UsageError(f"{what} is {show(text)}", "Allowed: true or false (also yes, no, on, off, 1, 0).")


def boolean_text(value: bool) -> str:
    """How kdna.conf writes a boolean."""
    return "true" if value else "false"


def check_boolean(text: str, what: str) -> str:
    """One of those words."""
    parse_boolean(text, what)
    return text


def parse_timestamp(text: str) -> datetime:
    """The moment of an ISO date, or date and time: 2024-02-29, 2024-02-29T03:15, with seconds and offset if wanted.

    A date alone is its first moment. Without an offset from UTC the result is naive: a time of this machine's zone.
    """
    hint = "Allowed: 2024-02-29, or with a time 2024-02-29T03:15:00, which may end in Z or +01:00."
    match = re.fullmatch(_MOMENT, text, re.ASCII)
    if not match:
        raise UsageError(f"{show(text)} is no date", hint)
    *numbers, zone, offset_hour, offset_minute = match.groups()
    year, month, day, hour, minute, second = (int(part or 0) for part in numbers)
    offset = timedelta(hours=int(offset_hour or 0), minutes=int(offset_minute or 0))
    try:
        moment = datetime(year, month, day, hour, minute, second)
    except ValueError as error:
        raise UsageError(f"{show(text)} is no date: {error}", hint) from None
    if offset >= timedelta(days=1) or int(offset_minute or 0) > 59:
        raise UsageError(f"{show(text)} is no date: there is no such offset from UTC", hint)
    return moment.replace(tzinfo=timezone(-offset if zone.startswith("-") else offset)) if zone else moment


def check_timestamp(text: str, _what: str = "") -> str:
    """A date, or date and time, as `parse_timestamp` reads it."""
    parse_timestamp(text)
    return text


def check_frequency(text: str) -> str:
    """How often: a word, five cron fields, or the colon form; whether cron can follow it is asked by the schedule."""
    fields, parts = text.split(" "), text.split(":")
    cron = len(fields) == 5 and all(re.fullmatch(_CRON_PART, field) for field in fields)
    colons = len(parts) == 5 and all(re.fullmatch(_COLON_PART, part) for part in parts)
    if text in FREQUENCIES or cron or colons:
        return text
    raise UsageError(
        f"{show(text)} is no frequency",
        f"Allowed: {', '.join(FREQUENCIES)}, five cron fields ('30 2 * * 1'), "
        "or minute:hour:day:month:weekday ('30:2:::1').",
    )
