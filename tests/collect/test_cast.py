"""cast.csv, and the commands as somebody types them."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import run
from wikimedia_double import Wikimedia, wikimedia

from castline.collect.cast import HEADER, Person, folders_of, read_cast
from castline.collect.files import write_csv
from castline.collect.imdb import FILES
from castline.errors import DataError
from castline.photos.batches import STRANGERS, label_of


def test_names_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text(
        "\ufeffnote,name,imdb,wikidata\nx, Ann  Smith ,nm0000001,\n,Ann Smith,nm0000001,\n,Ame\u0301lie,,Q42\n,,,\n"
    )
    assert read_cast(path) == [Person("Ann Smith", "nm0000001"), Person("Am\u00e9lie", "", "Q42")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("who\nAnn\n", "no column name"),
        ("", "no column name"),
        ("name\n\n", "nobody is listed"),
        ("name,imdb\nAnn,tt0000001\n", r"line 2: 'tt0000001' in the column imdb"),
        ("name,wikidata\nAnn,Q1|Q2\n", "column wikidata"),
        ("name\n\xff", "not readable"),
    ],
)
def test_what_is_no_list_of_people_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "names.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=complaint):
        read_cast(path)
    with pytest.raises(DataError, match="not readable"):
        read_cast(tmp_path / "absent.csv")


def test_a_list_reads_as_it_was_written(tmp_path: Path) -> None:
    people = [Person("=1+1", "nm0000001", "Q1", "1.5", "tt0000001"), Person("'Al' O'Dea, \"x\""), Person("-ann")]
    write_csv(tmp_path / "cast.csv", HEADER, [person.row for person in people])
    assert read_cast(tmp_path / "cast.csv") == people
    assert not any(line.startswith(("=", "-")) for line in (tmp_path / "cast.csv").read_text().splitlines())


@given(st.lists(st.text(max_size=200), max_size=8, unique=True))
def test_a_folder_is_one_step_down_and_nobody_elses(names: list[str]) -> None:
    folders = [folder for folder in folders_of([Person(name) for name in names]).values() if folder]
    assert len({folder.casefold() for folder in folders}) == len(folders)
    for folder in folders:
        assert Path("out", folder).parent == Path("out")
        assert folder != STRANGERS and not folder.startswith((".", "=", "-", "+", "@", "'", "_"))
        assert len(folder.encode()) <= 255 and "\\" not in folder and "\x00" not in folder
        label = label_of(f"{folder}/1.jpg")
        assert label is not None and (label.person, label.stranger) == (folder, False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Wikimedia]]:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/config.yaml").touch()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with wikimedia() as wiki:
        yield tmp_path, wiki


def test_from_names_to_a_batch(project: tuple[Path, Wikimedia]) -> None:
    folder, wiki = project
    wiki.person("Q1", "Ann Smith")
    wiki.file(11, depicts="Q1")
    wiki.file(12, depicts="Q1", LicenseShortName="Fair use")
    (folder / "names.csv").write_text("name\nAnn Smith\nNo Body\n")
    listing = ("castline", "collect", "cast", "--from", "names.csv")
    assert "2 people: cast.csv" in run(folder, *listing)
    assert "cast.csv is there already" in run(folder, *listing, fails=True)
    command = ("castline", "collect", "photos", "cast.csv", "--out", "out", "--batch", "one", "--api", wiki.url)
    output = run(folder, *command, "--contact", "you@example.org")
    assert "1 photos fetched; 1 of 1 people in out" in output
    assert "1 × licence" in output and "1 × not found" in output
    assert "Ann Smith: Q1, somebody called Ann Smith" in output
    assert "castline data add out --batch one" in output
    assert sorted(path.name for path in (folder / "labels/manifests").iterdir()) == ["one.csv"]

    wiki.fail("P180", lambda handler: handler.send(b"", "text/html", 403))
    output = run(folder, *command, "--contact", "you@example.org", fails=True)
    assert "refuses: 403" in output and "Traceback" not in output
    (folder / "cast.csv").write_text("name\nNo Body\n")
    output = run(folder, *command, "--contact", "you@example.org", fails=True)
    assert "no photo was got" in output and "build/collect/one.rejects.csv" in output
    assert "neither an e-mail" in run(folder, *command, "--contact", "me", fails=True)


def test_from_imdbs_files_to_a_list(tmp_path: Path) -> None:
    texts = (
        "tconst\taverageRating\tnumVotes\ntt0000001\t8\t50000\n",
        "tconst\tordering\tnconst\tcategory\tjob\tcharacters\ntt0000001\t1\tnm0000001\tactor\t\\N\t\\N\nx\n",
        "nconst\tprimaryName\tbirthYear\tdeathYear\tprimaryProfession\tknownForTitles\n"
        "nm0000001\t=Ann\t1950\t\\N\t\\N\ttt0000001\n",
    )
    for name, text in zip(FILES, texts, strict=True):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    command = ("castline", "collect", "cast", "--imdb", ".", "--download")
    output = run(tmp_path, *command)  # nothing is missing, so nothing is fetched
    assert "non-commercial use alone" in output and "Information courtesy of IMDb" in output
    assert "1 lines of IMDb's files were passed over" in output
    assert (tmp_path / "cast.csv").read_text() == ",".join(HEADER) + "\n'=Ann,nm0000001,,4.699,tt0000001\n"
    assert "nobody in . fits" in run(tmp_path, *command, "--out", "b.csv", "--min-votes", "60000", fails=True)
