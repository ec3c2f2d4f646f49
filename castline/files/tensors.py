"""Arrays in a safetensors file, read with NumPy alone: a device needs no other package. Writing is the library's.

Source: the format as safetensors' README has it: the header's length (u64, little-endian), the header (JSON: name →
dtype, shape, data_offsets; `__metadata__`: text → text), the arrays one after another.
"""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_tensors"]

# BF16 and the 8-bit floats have no NumPy type; no file of ours has them.
_DTYPES = {
    "BOOL": "?", "I8": "<i1", "U8": "<u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8",
    "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # as the library has it


def read_tensors(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays by name, and the metadata, of a file's bytes.

    Every array lies inside the file, none overlaps another, and no byte is left over.

    Raises: ValueError when it is not as the format has it.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _LONGEST_HEADER):
        raise ValueError("the header is longer than the file")
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("the header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("the metadata is not text by name")
    start = 8 + length
    arrays, spans = {}, []
    for name, said in header.items():
        dtype, shape, (begin, end) = _checked(name, said)
        count = math.prod(shape)
        if end - begin != count * dtype.itemsize or start + end > len(data):
            raise ValueError(f"{name}: bytes {begin} to {end} do not hold {shape} {dtype}")
        spans.append((begin, end))
        # Of native byte order and its own memory: the file's bytes are let go.
        arrays[name] = np.frombuffer(data, dtype, count, start + begin).reshape(shape).astype(dtype.newbyteorder("="))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ValueError(f"at byte {begin}: arrays overlap, or there is a gap")
        at = end
    if start + at != len(data):
        raise ValueError(f"{len(data) - start - at} bytes after the last array")
    return arrays, metadata


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose names have to differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _checked(name: str, said: Any) -> tuple["np.dtype[Any]", list[int], list[int]]:
    """What the header says of an array: dtype, shape, and where it begins and ends. Raises: ValueError."""
    match said:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest}:
            numbers = [*shape, begin, end]
            if not rest and dtype in _DTYPES and all(type(number) is int and number >= 0 for number in numbers):
                return np.dtype(_DTYPES[dtype]), shape, [begin, end]
    raise ValueError(f"{name}: not an array of a known type: {str(said)[:200]}")
