"""A release's zip, taken apart: whoever made it, nothing comes out of it but the files that its manifest lists."""

import contextlib
import errno
import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from castline import __version__
from castline.edge.manifest import LARGEST, MANIFEST, Manifest, numbers_of
from castline.errors import ReleaseError

__all__ = ["force", "manifest_of", "opened", "sync", "unpack"]

_LARGEST_MANIFEST = 2**20  # bytes


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Whatever a hostile zip makes `zipfile` raise is a refusal; a disk that cannot be read is none."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset before the file's beginning
            raise
        raise ReleaseError("the zip is damaged") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, ArithmeticError) as error:
        raise ReleaseError(f"the zip is damaged ({str(error)[:200]})") from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip. Raises: OSError when it cannot be read; ReleaseError when it is none."""
    if path.stat().st_size > LARGEST:
        raise ReleaseError(f"the zip has more than {LARGEST // 2**20} MiB")
    with _reading():
        archive = zipfile.ZipFile(path)
    with archive:
        yield archive


def manifest_of(archive: zipfile.ZipFile) -> Manifest:
    """The manifest in a zip, of a release that this program can run. Raises: ReleaseError."""
    try:
        member = archive.getinfo(MANIFEST)
    except KeyError as error:
        raise ReleaseError(f"there is no {MANIFEST} in the zip") from error
    manifest = Manifest.parse(b"".join(_parts(archive, member, _LARGEST_MANIFEST)))
    if numbers_of(manifest.castline) > numbers_of(__version__):
        raise ReleaseError(f"it needs castline {manifest.castline}, this device has {__version__}")
    return manifest


def unpack(archive: zipfile.ZipFile, manifest: Manifest, folder: Path) -> None:
    """Make `folder`, and in it every file as the manifest has it, on the disk when this returns.

    Raises: ReleaseError for a zip with anything else in it; OSError when a file cannot be read or written.
    """
    members = _members(archive, manifest)
    folder.mkdir()
    for name, member in members.items():
        with (folder / name).open("xb") as file:
            size, found = 0, hashlib.sha256()
            for part in _parts(archive, member, manifest.files[name].bytes):
                size += len(part)
                found.update(part)
                file.write(part)
            force(file)
        if (found.hexdigest(), size) != (manifest.files[name].sha256, manifest.files[name].bytes):
            raise ReleaseError(f"{name}: not the file that {MANIFEST} speaks of")
    with (folder / MANIFEST).open("xb") as file:
        file.write(manifest.json_bytes())
        force(file)
    sync(folder)


def force(file: IO[bytes]) -> None:
    """See that what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _members(archive: zipfile.ZipFile, manifest: Manifest) -> dict[str, zipfile.ZipInfo]:
    """The zip's members by name, as the manifest lists them: no other, none twice, no link, no folder."""
    members = archive.infolist()
    names = sorted(member.filename for member in members)
    wanted = {MANIFEST, *manifest.files}
    if names != sorted(wanted):
        odd = sorted(wanted ^ set(names)) or [name for name in names if names.count(name) > 1]
        raise ReleaseError(f"{odd[0][:100]!r}: in the zip or in {MANIFEST}, but not once in both")
    return {member.filename: member for member in members if member.filename != MANIFEST}


def _parts(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> Iterator[bytes]:
    """The bytes of a member, of which no more than `most` are ever unpacked. Raises: ReleaseError."""
    plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not member.flag_bits & 1
    if not plain or stat.S_ISLNK(member.external_attr >> 16):
        raise ReleaseError(f"{member.filename[:100]!r}: not a plain file, stored or deflated")
    with _reading():
        stream = archive.open(member)
    with stream:
        while True:
            with _reading():
                part = stream.read(min(2**20, most + 1))
            if not part:
                return
            most -= len(part)
            if most < 0:
                raise ReleaseError(f"{member.filename[:100]!r}: larger than it may be")
            yield part
