"""Files by URL, kept in a cache under their own hash: what is there under that name holds those bytes."""

import http.client
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import BinaryIO

from castline import machine
from castline.errors import WeightsError
from castline.files.weights import sha256_of

__all__ = ["cached", "fetched", "hush_hub"]

_LIMIT = 4 * 1024**3  # no recogniser weighs more; what does is not what was asked for
_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 20


def cached(url: str, sha256: str) -> Path:
    """Where `fetched` keeps the file: below `machine.cache()`."""
    suffix = Path(urllib.parse.urlsplit(url).path).suffix
    return machine.cache() / (sha256 + (suffix if re.fullmatch(r"\.\w{1,20}", suffix) else ""))


def fetched(url: str, sha256: str) -> Path:
    """The file at `url` (http or https), which must hold the bytes that `sha256` (hex) names; fetched once.

    It is put in its place only when it is whole and right: an attempt that fails leaves nothing.

    Raises: WeightsError when the host cannot be reached, or sends anything else.
    """
    target, shown = cached(url, sha256), urllib.parse.urlsplit(url)._replace(query="").geturl()  # a query may be a key
    if target.is_file() and sha256_of(target) == sha256:
        return target
    elsewhere = (
        f"fetch it where there is internet and name it: base_model.file=PATH (or put it at {target}); "
        "or use packaged weights: base_model=dlib_face_resnet"
    )
    partial = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".partial-", dir=target.parent)
        partial = Path(name)
        with os.fdopen(handle, "wb") as file:
            _stream(url, file)
        found = sha256_of(partial)
        if found != sha256:
            raise WeightsError(
                f"{shown}: sha256 is {found}, expected {sha256}",
                "see whether the URL still leads to that file; base_model.sha256 has to be that of the file you trust",
            )
        partial.chmod(0o644)
        partial.replace(target)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, urllib.error.HTTPError):
            reason = f"{error.code} {reason}"
            error.close()  # it is the answer too
        raise WeightsError(f"{shown}: cannot be fetched: {reason}", elsewhere) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return target


def hush_hub() -> None:
    """To be called before anything imports huggingface_hub, which else tells its host what runs here."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def _stream(url: str, file: BinaryIO) -> None:
    from tqdm import tqdm  # type: ignore[import-untyped]

    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 (settings allow http and https alone)
        size = int(answer.headers.get("Content-Length") or 0)
        if size > _LIMIT:
            raise ValueError(f"{size} bytes, at most {_LIMIT} are taken")
        with tqdm(total=size or None, desc="fetching weights", unit="B", unit_scale=True, disable=None) as bar:
            while block := answer.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
                if file.tell() > _LIMIT:
                    raise ValueError(f"more than {_LIMIT} bytes")
    if size and file.tell() != size:
        raise ValueError(f"the connection ended after {file.tell()} of {size} bytes")
