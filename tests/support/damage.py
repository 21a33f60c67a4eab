"""Damaged and hostile files for property-based tests: what a bad disk, a bad copy or a bad person makes of a good file."""

import copy
import json
import math
import struct

from hypothesis import strategies as st

VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.5, 1e308, -1e308, 1e-320, math.nan, math.inf, -math.inf,
    "", "x", "nan", "x" * 3000, "\x00", "\u202e", "../../../etc/passwd", "{}", "9" * 400, [], [[]], [None], {}, {"": {}}, [0] * 300,
)  # fmt: skip
"""What stands in the place of a value."""
WORDS = (
    b"", b"nan", b"inf", b"1e999", b"-1e999", b"9" * 400, b"9" * 5000, b"-1", b"NaN", b"Infinity", b'"', b"''", b"[" * 3000,
    b"{" * 3000, b"&a [*a, *a]", b"!!python/object/apply:os.system [ls]", b"*b", b"${a.a}", b"\n", b"\r", b",", b";", b"\t", b"\0",
    b"\xff\xfe", b"\xef\xbb\xbf", b"," * 3000, b"x" * 200_000, b"\xf0\x9f", b"null", b"true", b"? ", b"- ", b": ", b"#",
)  # fmt: skip
"""What stands in the place of some bytes."""
NUMBERS = tuple(
    struct.pack(form, number)
    for form, numbers in {
        "<f": (math.nan, math.inf, -math.inf, 3e38, 1e-45), "<d": (math.nan, 1e308), "<q": (-1, 2**63 - 1, 2**40), "<i": (-1, 2**31 - 1),
        "<h": (-1, 2**15 - 1, 0x7E00), "<H": (0x7FC0,),
    }.items() for number in numbers
)  # fmt: skip
"""What stands in the place of a tensor's first or last number."""
KINDS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "U64", "C64", "F8_E4M3", "I1", "", 3)
place = st.integers(0, 2**20)


@st.composite
def damaged_bytes(draw, whole):
    """Return bytes that were cut, flipped, spliced, doubled or overwritten."""
    at = draw(place) % (len(whole) + 1)
    length = draw(st.sampled_from((1, 2, 7, 64, len(whole))))
    how = draw(st.sampled_from(("cut", "flip", "put", "replace", "drop", "double", "swap")))
    if how == "cut":
        return whole[:at]
    if how == "flip":
        return whole[:at] + bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in whole[at : at + 1]) + whole[at + 1 :]
    if how == "double":
        return whole[:at] + whole[at : at + length] * 2 + whole[at + length :]
    if how == "swap":
        return whole[at:] + whole[:at]
    word = b"" if how == "drop" else draw(st.sampled_from(WORDS))
    return whole[:at] + word + whole[at + (0 if how == "put" else length) :]


def places(value, path=()):
    """Yield the path of every value in a JSON value."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


@st.composite
def damaged_value(draw, value):
    """Return a JSON value with one or two of its parts replaced, doubled or missing."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 2))):
        paths = list(places(value))
        path = paths[draw(place) % len(paths)]
        new = copy.deepcopy(draw(st.sampled_from(VALUES)))
        if not path:
            return new if draw(st.booleans()) else value
        home = value
        for key in path[:-1]:
            home = home[key]
        how = draw(st.sampled_from(("replace", "drop", "double")))
        if how == "replace":
            home[path[-1]] = new
        elif how == "drop":
            del home[path[-1]]
        elif isinstance(home, list):
            home.insert(path[-1], home[path[-1]])
        else:
            home[f"{path[-1]} more"] = home[path[-1]]
    return value


@st.composite
def damaged_json(draw, whole):
    """Return a JSON file with other values in it, or with damaged bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(whole))
    return json.dumps(draw(damaged_value(json.loads(whole)))).encode("utf-8", "replace")


@st.composite
def damaged_tensors(draw, whole):
    """Return a safetensors file whose header or numbers are others, or with damaged bytes."""
    how = draw(st.sampled_from(("bytes", "header", "kind", "shape", "number", "metadata", "length")))
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    entry = header[names[draw(place) % len(names)]]
    if how == "bytes":
        return draw(damaged_bytes(whole))
    if how == "length":
        return struct.pack("<Q", draw(st.sampled_from((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1)))) + whole[8:]
    if how == "header":
        header = draw(damaged_value(header))
    elif how == "kind":
        entry["dtype"] = draw(st.sampled_from(KINDS))
    elif how == "shape":
        entry["shape"] = draw(
            st.sampled_from(([], [0], [1, *entry["shape"]], entry["shape"][::-1], [2**40], [2**62, 4], [-1], [1.5]))
        )
    elif how == "metadata":
        stored = header.get("__metadata__") or {"x": "{}"}
        key = list(stored)[draw(place) % len(stored)]
        try:
            inner = json.dumps(draw(damaged_value(json.loads(stored[key]))))
        except ValueError:
            inner = draw(st.sampled_from(("", "{", "[" * 3000, "NaN")))
        header["__metadata__"] = stored | {key: inner}
    else:
        start, end = entry["data_offsets"]
        number = draw(st.sampled_from(NUMBERS))[: end - start]
        at = start if draw(st.booleans()) else end - len(number)
        data = data[:at] + number + data[at + len(number) :]
    raw = json.dumps(header).encode("utf-8", "replace")
    return struct.pack("<Q", len(raw)) + raw + data


def damaged(path, whole):
    """Return the strategy that fits a file's ending."""
    if path.suffix == ".json":
        return damaged_json(whole)
    return damaged_tensors(whole) if path.suffix == ".safetensors" else damaged_bytes(whole)
