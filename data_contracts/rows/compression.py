"""Open a drop as a stream of bytes, plain, gzip or zstd by its first bytes, with a count of what was read from the disk."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data_contracts.errors import DropError

_BLOCK = 1 << 18
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
#: zstd streams may need windows of gigabytes; here they may not.
_WINDOW = 1 << 27
_WAY_OUT = "compress and copy the file again"
#: Text packs to a tenth, rows from one template to a fiftieth. What unpacks to more than this times its size is no data, and reading a
#: megabyte of it could take as long as a gigabyte. The first megabytes are free: small files of repeated rows pack very well.
_MOST_UNPACKED, _FREE = 200, 16 << 20


class CountedReader(io.RawIOBase):
    """A file that counts the bytes read from it, so that progress is exact for compressed drops too."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self.count = raw, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._raw.read(len(buffer))
        buffer[: len(block)] = block
        self.count += len(block)
        return len(block)


class UnpackedReader(io.RawIOBase):
    """A decompressing stream that refuses to become many times larger than what was read from the disk."""

    def __init__(self, stream: Any, packed: CountedReader, path: Path) -> None:
        self._stream, self._packed, self._path, self._count = stream, packed, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self._count += len(block)
        if self._count > _FREE + _MOST_UNPACKED * self._packed.count:
            what = f"unpacks to more than {_MOST_UNPACKED} times its size, which no data does"
            raise DropError(str(self._path), what, "check what made it; unpack it yourself if it is right")
        return len(block)


@contextmanager
def open_drop(path: Path) -> Iterator[tuple[io.BufferedReader[Any], CountedReader]]:
    """(stream of the decompressed bytes, the counter below it). Raises DropError where the file is missing, damaged or cut off."""
    if not path.exists():
        raise DropError(str(path), "does not exist", "give the path of a .jsonl, .jsonl.gz or .jsonl.zst file")
    if not path.is_file():
        raise DropError(str(path), "is not a file", "give the path of one .jsonl, .jsonl.gz or .jsonl.zst file")
    try:
        with path.open("rb", buffering=0) as raw:
            head = raw.read(4)
            raw.seek(0)
            counted = CountedReader(raw)
            buffered = io.BufferedReader(counted, _BLOCK)
            if head[:2] == _GZIP:
                yield io.BufferedReader(UnpackedReader(gzip.GzipFile(fileobj=buffered), counted, path), _BLOCK), counted
            elif head == _ZSTD:
                yield from _zstd(path, buffered, counted)
            else:
                yield buffered, counted
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DropError(str(path), f"is a damaged gzip file: {error}", _WAY_OUT) from error
    except OSError as error:
        raise DropError(str(path), f"cannot be read: {error.strerror or error}", "copy the file again or check its permissions") from error


def _zstd(path: Path, buffered: IO[bytes], counted: CountedReader) -> Iterator[tuple[io.BufferedReader[Any], CountedReader]]:
    try:
        import zstandard
    except ImportError as error:  # a trainer's image holds no more than the engine imports
        raise DropError(str(path), "is a zstd file, and zstandard is not installed", "pip install zstandard, or unpack it") from error
    _check_zstd_is_whole(path)
    try:
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(buffered, read_across_frames=True) as stream:
            yield io.BufferedReader(UnpackedReader(stream, counted, path), _BLOCK), counted
    except zstandard.ZstdError as error:
        raise DropError(str(path), f"is a damaged zstd file: {error}", _WAY_OUT) from error


def _check_zstd_is_whole(path: Path) -> None:
    """Walk the frames and blocks (RFC 8878, section 3.1): the decompressor ends a stream that was cut off without a word."""
    import zstandard

    size = path.stat().st_size
    with path.open("rb") as stream:
        while stream.tell() < size:
            begin = stream.tell()
            head = stream.read(18)
            magic = int.from_bytes(head[:4], "little")
            if magic in _SKIPPABLE:
                end = begin + 8 + int.from_bytes(head[4:8], "little")
            else:
                try:
                    checksum = 4 if zstandard.get_frame_parameters(head).has_checksum else 0
                    stream.seek(begin + zstandard.frame_header_size(head))
                except zstandard.ZstdError as error:
                    raise DropError(str(path), f"is a damaged zstd file: {error}", _WAY_OUT) from error
                end = _end_of_blocks(stream) + checksum
            if end > size:
                raise DropError(str(path), "is a zstd file that was cut off", _WAY_OUT)
            stream.seek(end)


def _end_of_blocks(stream: IO[bytes]) -> int:
    """Where the last block of the frame ends; beyond the end of the file where it was cut off."""
    while True:
        head = stream.read(3)
        if len(head) < 3:
            return stream.tell() + 3
        value = int.from_bytes(head, "little")
        last, kind, length = value & 1, (value >> 1) & 3, value >> 3
        stream.seek(1 if kind == 1 else length, io.SEEK_CUR)
        if last:
            return stream.tell()
