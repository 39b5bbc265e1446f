"""A first look at a pickle, before anything of it is carried out: which instructions, and how large.

A pickle is a program for a small stack machine. Its instructions are read here one after the other, as the
machine would, and only compared with a list; nothing is made but a few counters.
"""

MOST_LISTS = 16
LONGEST_NUMBER = 32
HARMLESS_NAMES = frozenset(
    ["_codecs.encode", "__builtin__.bytes", "builtins.bytes", "numpy.ndarray", "numpy.dtype"]
    + [
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    ]
)


class UnsafePickleError(ValueError):
    """A pickle wants something that could run code. Nothing of it was run."""


class BrokenPickleError(ValueError):
    """Bytes are no pickle, only the beginning of one, or a pickle of things that are not read here."""


# What follows the instruction: n bytes; a length of n bytes and then so many bytes; or lines.
FIXED = {
    **dict.fromkeys(b"(.NR]aebt)l\x85\x86\x87\x88\x89\x93\x94", 0),
    **{ord("\x80"): 1, ord("K"): 1, ord("h"): 1, ord("q"): 1, ord("M"): 2, ord("J"): 4, ord("j"): 4, ord("r"): 4},
    **{ord("G"): 8, 0x95: 8},
}
COUNTED = {ord("C"): 1, ord("U"): 1, 0x8C: 1, 0x8A: 1, ord("B"): 4, ord("T"): 4, ord("X"): 4}
COUNTED.update({0x8E: 8, 0x8D: 8, 0x96: 8})
LINES = {**dict.fromkeys(b"ILFSVpg", 1), ord("c"): 2}
UNSAFE = {
    **{ord("i"): "INST", ord("o"): "OBJ", 0x81: "NEWOBJ", 0x92: "NEWOBJ_EX", 0x82: "EXT1", 0x83: "EXT2"},
    **{0x84: "EXT4", ord("P"): "PERSID", ord("Q"): "BINPERSID", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER"},
}
OTHER_THINGS = {
    **dict.fromkeys(b"}dsu", "a dictionary"),
    **dict.fromkeys(b"\x8f\x90\x91", "a set"),
    0x8B: "an enormous number",
}
STOP, FRAME, MEMOIZE, GLOBAL, STACK_GLOBAL, SHORT_BINUNICODE = ord("."), 0x95, 0x94, ord("c"), 0x93, 0x8C
LISTS = frozenset(b"]l")
TUPLES = frozenset(b"t\x85\x86\x87")
NUMBER_LINES = frozenset(b"ILFpg")
PUTS = {ord("p"): None, ord("q"): 1, ord("r"): 4}


def scan_pickle(content):
    """Refuse a pickle with instructions that none of our files needs, or with claims larger than itself.

    After this, the memory that carrying it out takes is at most about twenty times its size, and that only for
    files made to that end: lengths lie inside it, and it has far fewer lists, tuples and memo places than bytes.

    Args:
        content: Bytes, one pickle of protocol 0 to 5 and nothing after it.

    Raises:
        UnsafePickleError: If it names what is not in `HARMLESS_NAMES`, or an instruction could make objects of
            classes or ask for things from outside. A name may hide from this look: the unpickler must refuse it.
        BrokenPickleError: If it is no whole pickle, or holds things like dictionaries.

    Example:
    >>> import pickle
    >>> scan_pickle(pickle.dumps([b"image"]))
    >>> scan_pickle(pickle.dumps({"a": 1}))
    Traceback (most recent call last):
    ...
    keras_normface.data.pickle_scan.BrokenPickleError: it holds a dictionary, at byte 11
    """
    position, lists, tuples, memo, strings = 0, 0, 0, 0, []
    most_tuples, most_memo = 64 + len(content) // 8, 64 + len(content) // 3
    while True:
        if position >= len(content):
            raise BrokenPickleError("it is truncated, or no pickle: its end is missing")
        start, code = position, content[position]
        argument, position = _argument(content, start)
        _check_name(code, content[start + 1 : position] if code == GLOBAL else strings)
        if code == SHORT_BINUNICODE:
            strings.append(content[start + 2 : position])
        elif code != MEMOIZE and code not in PUTS:
            strings = []
        lists += code in LISTS
        tuples += code in TUPLES
        memo += code == MEMOIZE
        memo = max(memo, _place(code, argument)) if code in PUTS else memo
        if lists > MOST_LISTS or tuples > most_tuples or memo > most_memo:
            raise BrokenPickleError(f"it has more lists, tuples or memo places than such a file needs, at byte {start}")
        if code == STOP:
            break
    if position < len(content):
        raise BrokenPickleError(f"{len(content) - position} bytes follow its end")


def _argument(content, start):
    """Return the short argument of an instruction (`None` for a long one), and where the next one starts."""
    code, first = content[start], start + 1
    if code in FIXED:
        end = first + FIXED[code]
        argument = content[first:end]
        if code == FRAME and int.from_bytes(argument, "little") > len(content) - end:
            raise BrokenPickleError(f"it is truncated: a frame reaches beyond its end, at byte {start}")
    elif code in COUNTED:
        argument, after = None, first + COUNTED[code]
        end = after + int.from_bytes(content[first:after], "little")
    elif code in LINES:
        argument, end = None, first
        for _ in range(LINES[code]):
            end = content.find(b"\n", end) + 1 or len(content) + 1
        if code in NUMBER_LINES:
            argument = content[first : min(end - 1, first + LONGEST_NUMBER + 1)]
            if len(argument) > LONGEST_NUMBER and end <= len(content):
                raise BrokenPickleError(f"it holds an enormous number, at byte {start}")
    else:
        raise _refused(code, start)
    if end > len(content):
        raise BrokenPickleError(
            f"it is truncated, or no pickle: the instruction at byte {start} reaches beyond its end"
        )
    return argument, end


def _refused(code, start):
    if code in UNSAFE:
        return UnsafePickleError(f"it has the instruction {UNSAFE[code]}, at byte {start}")
    if code in OTHER_THINGS:
        return BrokenPickleError(f"it holds {OTHER_THINGS[code]}, at byte {start}")
    return BrokenPickleError(f"it is no pickle, or one with the odd instruction {code:#04x}, at byte {start}")


def _check_name(code, parts):
    """Refuse a name that is written out where it is used; the unpickler's `find_class` meets all the others."""
    if code == GLOBAL:
        parts = parts.split(b"\n")[:2]
    if code == GLOBAL or (code == STACK_GLOBAL and len(parts) >= 2):
        name = b".".join(parts[-2:]).decode("utf-8", "replace")
        if name not in HARMLESS_NAMES:
            raise UnsafePickleError(f"it names {name[:200]!r}, which could run code")


def _place(code, argument):
    if PUTS[code] is not None:
        return int.from_bytes(argument, "little")
    if not argument.isdigit():
        raise BrokenPickleError(f"it is no pickle: {argument!r} is no place in its memo")
    return int(argument)
