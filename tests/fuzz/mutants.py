"""Mutants that know the structure of a valid file: its lengths, counts, offsets, instructions, lines and numbers."""

import json
import re
import struct
from typing import NamedTuple

INTERESTING = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    255,
    256,
    4096,
    65_535,
    65_536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
NUMBERS = (b"0", b"1", b"-1", b"2", b"00", b"999999999", b"1234567890", b"9" * 30, b"1e9", b"0.5", b"nan", b"inf")
PIECES = (b"\n", b"\r", b"\t", b" ", b",", b'"', b"#", b"\0", b"\xff", b"..", b"/", b"{", b"[", b"null", b"true")

VALUES = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**64,
    10**400,
    0.5,
    1e308,
    "",
    "a",
    "..",
    "\n",
    "\ud800",
    [],
    [1],
    {},
    {"a": 1},
)


class Field(NamedTuple):
    """Where a whole number stands: `<` or `>` and its size in bytes."""

    at: int
    size: int
    order: str = "<"


def mutate(content, fields, pick):
    """Return a mutant of bytes; `pick` is a `random.Random`."""
    for _ in range(pick.choice((1, 1, 1, 2, 3))):
        if fields and pick.random() < 0.6:
            content = with_number(content, pick.choice(fields), pick)
        else:
            content = with_bytes(content, pick)
    return content


def mutate_text(content, pick):
    """Return a mutant of text: of its numbers, fields and lines."""
    for _ in range(pick.choice((1, 1, 1, 2, 3))):
        kind = pick.randrange(6)
        if kind < 3:
            content = with_token(content, pick)
        elif kind < 5:
            content = with_lines(content, pick)
        else:
            content = with_bytes(content, pick)
    return content


def mutate_json(content, pick):
    """Return a mutant of JSON: of its values and keys, or of its text."""
    if pick.random() < 0.4:
        return mutate_text(content, pick)
    value = json.loads(content)
    for _ in range(pick.choice((1, 1, 1, 2, 3))):
        value = with_value(value, pick)
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def with_value(value, pick):
    """Replace, remove, repeat or add something in nested dictionaries and lists."""
    if not isinstance(value, dict | list) or not value or pick.random() < 0.1:
        return pick.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, other, kind = pick.choice(keys), pick.choice(keys), pick.randrange(8)
    changed = value.copy()
    if kind == 0:
        del changed[key]
    elif kind == 1 and isinstance(value, list):
        changed.append(value[key])
    elif kind == 1:
        changed[pick.choice(("more", "", "format"))] = value[key]
    elif kind == 2:
        changed[key] = value[other]
    elif kind == 3 and isinstance(value[key], int | float) and abs(value[key]) < 2**1000:
        changed[key] = value[key] + pick.choice((-1, 1, 0.5, 2**31))
    else:
        changed[key] = with_value(value[key], pick)
    return changed


def with_number(content, field, pick):
    """Replace a number by one at an edge, near what it was, or near the size of the file."""
    if field.at + field.size > len(content):
        return content
    old = int.from_bytes(content[field.at : field.at + field.size], "little" if field.order == "<" else "big")
    near = pick.choice((old - 1, old + 1, old * 2, old // 2, old ^ 1 << pick.randrange(8 * field.size), len(content)))
    new = pick.choice((near, near, pick.choice(INTERESTING), pick.getrandbits(8 * field.size)))
    new = (new % (1 << 8 * field.size)).to_bytes(field.size, "little" if field.order == "<" else "big")
    return content[: field.at] + new + content[field.at + field.size :]


def with_bytes(content, pick):
    """Change a byte, or cut, repeat, remove or insert some."""
    at, length = pick.randrange(len(content) + 1), pick.randrange(1, 9)
    kind = pick.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at : at + 8 * length] * pick.choice((2, 3, 50)) + content[at + 8 * length :]
    if kind == 2:
        return content[:at] + content[at + length :]
    if kind == 3:
        return content[:at] + pick.choice(PIECES) + content[at:]
    return content[:at] + bytes([pick.randrange(256)]) + content[at + 1 :]


def with_token(content, pick):
    """Replace, remove or repeat a word or a number."""
    words = list(re.finditer(rb"[^\s,:\"\[\]{}]+", content))
    if not words:
        return pick.choice(PIECES)
    word, other = pick.choice(words), pick.choice(words)[0]
    new = pick.choice((pick.choice(NUMBERS), pick.choice(NUMBERS), other, b"", word[0] * 40, pick.choice(PIECES)))
    return content[: word.start()] + new + content[word.end() :]


def with_lines(content, pick):
    """Repeat, remove or exchange lines, or change their ends."""
    lines = content.splitlines(keepends=True) or [b""]
    one, two = pick.randrange(len(lines)), pick.randrange(len(lines))
    kind = pick.randrange(4)
    if kind == 0:
        lines[one] = lines[one] * pick.choice((2, 2, 30))
    elif kind == 1:
        del lines[one]
    elif kind == 2:
        lines[one], lines[two] = lines[two], lines[one]
    else:
        lines[one] = lines[one].rstrip(b"\n") + pick.choice((b"", b"\r\n", b"\t\n", b"\xe2\x80\xa8\n", b"\f"))
    return b"".join(lines)


def words(content, start=0, step=4):
    """Every aligned word as a field."""
    return [Field(at, step) for at in range(start, len(content) - step + 1, step)]


def places_of(content, *numbers):
    """The fields in which one of the numbers stands, of four or eight bytes."""
    found = []
    for number in numbers:
        for size, code in ((4, "<I"), (8, "<Q")):
            packed = struct.pack(code, number)
            found += [Field(match.start(), size) for match in re.finditer(re.escape(packed), content)]
    return found
