"""The most popular people of IMDb, from its published non-commercial datasets.

The rule: log10 of a title's votes, summed over the titles that have at least MIN votes and in which somebody is billed
in one of the categories, each title once. So a long list of widely seen films counts; one success, or a thousand
episodes that few have rated, do not. Equal sums: the lower IMDb number first.

Source: developer.imdb.com/non-commercial-datasets, columns of title.ratings, title.principals and name.basics. A file
is read block by block: the largest has about 90 million lines. Nothing in it is quoted; \\N stands for no value.
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from castline.collect.cast import Person
from castline.collect.polite import origin_of
from castline.errors import CastlineError, DataError, optional_import
from castline.text import shown

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ACTING", "FILES", "IMDB", "MIN_VOTES", "TERMS", "Ranked", "download", "popular"]

IMDB = "https://datasets.imdbws.com"
FILES = ("title.ratings.tsv.gz", "title.principals.tsv.gz", "name.basics.tsv.gz")
TERMS = (
    "IMDb publishes these files for personal and non-commercial use alone, and asks for this line beside what is made "
    "of them:\n  Information courtesy of IMDb (https://www.imdb.com). Used with permission.\n"
    "Read https://developer.imdb.com/non-commercial-datasets and the licence that it names before you go on."
)
ACTING = ("actor", "actress")
MIN_VOTES = 10_000
_BLOCK = 8 << 20  # bytes of text
_LIMIT = 64 << 30  # bytes of text: ten times the largest file, and what unpacks to more is no list of names
_DOWNLOAD_LIMIT = 8 << 30
_NUMBERS = 100_000_000  # of people: nm and up to eight digits


@dataclass(frozen=True)
class Ranked:
    """people: the most popular first. malformed: lines that were passed over, of all files."""

    people: list[Person]
    malformed: int


def popular(
    folder: Path,
    top: int,
    categories: Sequence[str] = ACTING,
    min_votes: int = MIN_VOTES,
    born_after: int | None = None,
) -> Ranked:
    """The `top` people by the rule above, of IMDb's files in `folder`.

    categories: actor, actress, self and so on, as in title.principals. born_after: a year; who has none is left out.

    Raises: DataError when a file is missing, damaged or another; MissingExtra.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder / missing[0]}: no such file", "castline collect cast --download; or put it there")
    rows = _Rows()
    titles, worth = _rated(rows, folder / FILES[0], min_votes)
    scores = _scores(rows, folder / FILES[1], titles, worth, categories)
    return Ranked(_named(rows, folder / FILES[2], scores, top, born_after), rows.malformed)


def _rated(rows: "_Rows", path: Path, min_votes: int) -> tuple["pa.Array", NDArray[np.int64]]:
    """Titles with enough votes, and log10 of each one's votes, in thousandths: whole numbers add up exactly."""
    import pyarrow as pa
    import pyarrow.compute as pc

    titles, votes = [], []
    for batch in rows.of(path, ("tconst", "numVotes")):
        numbers = batch.filter(pc.match_substring_regex(batch["numVotes"], r"^\d{1,12}$"))
        count = numbers["numVotes"].cast(pa.string()).cast(pa.int64())
        enough = pc.greater_equal(count, max(min_votes, 1))
        titles.append(numbers["tconst"].filter(enough))
        votes.append(count.filter(enough))
    every = pa.chunked_array(titles, pa.binary()).combine_chunks()
    counts = pa.chunked_array(votes, pa.int64()).to_numpy()
    return every, np.rint(1000 * np.log10(counts)).astype(np.int64)


def _scores(
    rows: "_Rows", path: Path, titles: "pa.Array", worth: NDArray[np.int64], categories: Sequence[str]
) -> NDArray[np.int64]:
    """Of people by their number, in thousandths."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array([category.encode() for category in categories], pa.binary())
    scores = np.zeros(1, np.int64)
    last = np.zeros(0, np.int64)  # the people of the title that the block before ended with
    for batch in rows.of(path, ("tconst", "nconst", "category")):
        batch = batch.filter(pc.is_in(batch["category"], wanted))
        batch = batch.append_column("title", pc.index_in(batch["tconst"], titles))
        batch = batch.filter(
            pc.and_(pc.is_valid(batch["title"]), pc.match_substring_regex(batch["nconst"], r"^nm\d{7,8}$"))
        )
        if not batch.num_rows:
            continue
        title = batch["title"].to_numpy().astype(np.int64)
        # A title lists somebody once as an actor and once more as a writer or for a second part.
        keys = np.setdiff1d(title * _NUMBERS + _numbers(batch["nconst"]), last)
        last = np.concatenate([last, keys])
        last = last[last // _NUMBERS == title[-1]]
        people = keys % _NUMBERS
        if people.size and people.max() >= len(scores):
            scores = np.concatenate([scores, np.zeros(people.max() + 1_000_000 - len(scores), np.int64)])
        np.add.at(scores, people, worth[keys // _NUMBERS])
    return scores


def _named(rows: "_Rows", path: Path, scores: NDArray[np.int64], top: int, born_after: int | None) -> list[Person]:
    import pyarrow.compute as pc

    found: dict[int, tuple[int, Person]] = {}
    least = 1
    for batch in rows.of(path, ("nconst", "primaryName", "birthYear", "knownForTitles")):
        batch = batch.filter(
            pc.and_(pc.match_substring_regex(batch["nconst"], r"^nm\d{7,8}$"), pc.is_valid(batch["primaryName"]))
        )
        numbers = _numbers(batch["nconst"])
        score = np.where(numbers < len(scores), scores[np.minimum(numbers, len(scores) - 1)], 0)
        for i in np.flatnonzero(score >= least):
            number, name, born, known = (batch[key][int(i)].as_py() for key in batch.column_names)
            if born_after is not None and not (born and re.fullmatch(rb"\d{4}", born) and int(born) > born_after):
                continue
            person = Person(
                name=shown(name.decode(errors="replace")).strip(),
                imdb=number.decode(),
                score=f"{score[i] / 1000:.3f}",
                titles=" ".join(re.findall(r"tt\d{7,9}", (known or b"").decode(errors="replace"))),
            )
            found.setdefault(int(numbers[i]), (int(score[i]), person))
        if len(found) > top:
            ranked = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))[:top]
            found, least = dict(ranked), ranked[-1][1][0]
    return [person for _, (_, person) in sorted(found.items(), key=lambda item: (-item[1][0], item[0]))][:top]


def _numbers(names: "pa.ChunkedArray") -> NDArray[np.int64]:
    """Of nm0000001: 1."""
    import pyarrow as pa
    import pyarrow.compute as pc

    digits = pc.utf8_slice_codeunits(names.cast(pa.string()), 2)
    numbers: NDArray[np.int64] = digits.cast(pa.int64()).to_numpy()
    return numbers


class _Rows:
    """Reads columns of IMDb's files, and counts the lines that have another number of columns than the first."""

    def __init__(self) -> None:
        self.malformed = 0

    def of(self, path: Path, columns: Sequence[str]) -> Iterator["pa.Table"]:
        """The columns as bytes, some megabytes of text at a time. Raises: DataError."""
        pa = optional_import("pyarrow", "pipeline")
        from tqdm import tqdm  # type: ignore[import-untyped]

        damaged = f"delete it and fetch it again: castline collect cast --download --imdb {path.parent}"
        try:
            with path.open("rb") as raw, gzip.open(raw) as text:
                bar = tqdm(
                    total=os.fstat(raw.fileno()).st_size, desc=path.name, unit="B", unit_scale=True, disable=None
                )
                with bar:
                    names = text.readline(_BLOCK).decode(errors="replace").strip().split("\t")
                    if absent := [column for column in columns if column not in names]:
                        raise DataError(f"{path}: no column {absent[0]}", f"it has to be IMDb's {path.name}; {damaged}")
                    for block in _blocks(text):
                        bar.update(raw.tell() - bar.n)
                        yield self._table(pa, block, names, columns)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged: {error}", damaged) from error
        except (pa.ArrowInvalid, ValueError) as error:
            raise DataError(f"{path}: not a table as IMDb publishes it: {error}", damaged) from error

    def _table(self, pa: Any, block: bytes, names: Sequence[str], columns: Sequence[str]) -> "pa.Table":
        from pyarrow import csv

        bad: list[object] = []

        def skip(row: object) -> str:
            bad.append(row)
            return "skip"

        found = csv.read_csv(
            pa.BufferReader(block),
            csv.ReadOptions(column_names=names),
            csv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=skip),
            csv.ConvertOptions(
                include_columns=columns,
                column_types={column: pa.binary() for column in columns},
                null_values=["\\N"],
                strings_can_be_null=True,
            ),
        )
        self.malformed += len(bad)
        return found


def _blocks(text: gzip.GzipFile) -> Iterator[bytes]:
    """Whole lines, about a block at a time. Raises: ValueError for a line that is none, and for more than a limit."""
    rest, size = b"", 0
    while data := text.read(_BLOCK):
        size += len(data)
        end = data.rfind(b"\n") + 1
        if not end or size > _LIMIT:
            raise ValueError(f"a line of more than {_BLOCK} bytes" if not end else f"more than {_LIMIT} bytes of text")
        yield rest + data[:end]
        rest = data[end:]
    if rest:
        yield rest


def download(folder: Path, base: str = IMDB) -> list[Path]:
    """Fetch those of IMDb's files that are not in `folder`; one that was broken off goes on where it ended.

    Raises: CastlineError.
    """
    requests = optional_import("requests", "pipeline")
    again = "run it again: it goes on from here"
    fetched = []
    for name in FILES:
        if (folder / name).is_file():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with requests.Session() as session:
                session.headers["Accept-Encoding"] = "identity"
                _download(session, f"{base}/{name}", folder / name)
        except (OSError, ValueError) as error:  # what requests raises is an OSError
            raise CastlineError(f"{base}/{name}: cannot be fetched: {error}", again) from error
        fetched.append(folder / name)
    return fetched


def _download(session: Any, url: str, target: Path) -> None:
    """The part that is here is named for the ETag of what it is a part of: the files change every day."""
    from tqdm import tqdm

    parts = sorted(target.parent.glob(f"{target.name}.*.part"))
    part, headers = None, {}
    if parts and parts[0].stat().st_size:
        part = parts[0]
        tag = part.name.removeprefix(f"{target.name}.").removesuffix(".part")
        headers = {"Range": f"bytes={part.stat().st_size}-", "If-Range": f'"{tag}"'}
    with session.get(url, headers=headers, stream=True, timeout=30, allow_redirects=False) as answer:
        code = answer.status_code
        if code != 200 and (code != 206 or part is None):
            if code == 416 and part is not None:  # there is no more, and what is here was not all
                part.unlink()
            where = f" to {origin_of(answer.headers.get('Location', ''))}, not followed" if 300 <= code < 400 else ""
            raise ValueError(f"{code} {answer.reason}{where}")
        going_on = code == 206
        tag = answer.headers.get("ETag", "").strip('"')
        named = target.with_name(f"{target.name}.{tag if re.fullmatch(r'[A-Za-z0-9_-]{1,100}', tag) else 'whole'}.part")
        start = part.stat().st_size if part is not None and going_on else 0
        if going_on and (part != named or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")):
            raise ValueError("the host answered with another part than was asked for")
        if not going_on:
            for old in parts:
                old.unlink(missing_ok=True)
        size = start + int(answer.headers.get("Content-Length") or 0)
        with named.open("ab") as file:
            with tqdm(total=size, initial=start, desc=target.name, unit="B", unit_scale=True, disable=None) as bar:
                for block in answer.iter_content(1 << 16):
                    file.write(block)
                    bar.update(len(block))
                    if file.tell() > _DOWNLOAD_LIMIT:
                        raise ValueError(f"more than {_DOWNLOAD_LIMIT} bytes")
            end = file.tell()
    if end != size:
        raise ValueError(f"the connection ended after {end} of {size} bytes")
    with named.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            named.unlink()
            raise ValueError("what was sent is no gzip file")
    named.replace(target)
