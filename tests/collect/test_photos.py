"""Photos of a cast: who is looked up how, what is taken and what not, and a server that fails in every way."""

import csv
import email.utils
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wikimedia_double import Fault, Handler, Wikimedia, jpeg, wikimedia

from castline.collect import photos as module
from castline.collect.cast import Person
from castline.collect.photos import Collected, collect_photos
from castline.collect.polite import Polite, Refused, origin_of
from castline.collect.wikimedia import on_loopback
from castline.errors import ConfigError
from castline.photos.decode import Rejected
from castline.photos.origins import read_origins

ANN = Person("Ann Smith", "nm0000001")


@pytest.fixture
def wiki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wikimedia]:
    """Ann: a picture on Wikidata, two files that depict her, and two in her category, one of which is known by then."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with wikimedia() as wiki:
        wiki.person("Q1", "Ann Smith", "nm0000001", ("Ann.jpg",), "Ann Smith")
        wiki.file(11, "File:Ann.jpg")
        wiki.file(12, depicts="Q1")
        wiki.file(13, depicts="Q1")
        wiki.file(14, category="Ann Smith")
        wiki.categories["Ann Smith"].append(12)
        yield wiki


def run(wiki: Wikimedia, *cast: Person, waits: list[float] | None = None, **more: Any) -> Collected:
    sites = on_loopback(wiki.url)
    slept = waits if waits is not None else []
    polite = Polite("you@example.org", sites.origins, 0.0, sleep=slept.append, timeout=more.pop("timeout", 30.0))
    return collect_photos(cast or (ANN,), Path("out"), "first", polite, sites=sites, **more)


def manifest() -> dict[str, dict[str, str]]:
    with Path("labels/manifests/first.csv").open(newline="") as file:
        return {row["photo"]: row for row in csv.DictReader(file)}


def rejects() -> list[tuple[str, str]]:
    with Path("build/collect/first.rejects.csv").open(newline="") as file:
        return [(row["reason"], row["detail"]) for row in csv.DictReader(file)]


def lies() -> list[str]:
    return sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file())


def test_photos_are_got_and_each_has_its_line(wiki: Wikimedia) -> None:
    found = run(wiki, consent="signed, 2026-01-02")
    assert (found.fetched, found.photos, found.people, found.rejects, found.stopped) == (4, 4, 1, [], None)
    names = [f"Ann Smith/{number}.jpg" for number in (11, 12, 13, 14)]
    assert lies() == list(manifest()) == names
    row = manifest()[names[0]]
    assert row.pop("retrieved") == time.strftime("%Y-%m-%d", time.gmtime())
    assert row == {
        "photo": names[0],
        "person": "Ann Smith",
        "source": "https://commons.wikimedia.org/wiki/File:Ann.jpg",
        "author": "Ada & Bo",
        "licence": "CC BY-SA 4.0",
        "licence_url": "https://creativecommons.org/licenses/by-sa/4.0",
        "date": "2014-07-12",
        "sha256": hashlib.sha256(Path("out", names[0]).read_bytes()).hexdigest(),
        "consent": "signed, 2026-01-02",
    }
    (agent,) = wiki.agents
    assert agent.startswith("castline-bot/") and "(you@example.org) python-requests/" in agent


def test_what_is_here_is_not_asked_for_again(wiki: Wikimedia) -> None:
    assert run(wiki, each=2).fetched == 2
    assert lies() == ["Ann Smith/11.jpg", "Ann Smith/12.jpg"]
    before = len(wiki.asked)
    found = run(wiki, each=2)
    assert (found.fetched, found.photos, len(wiki.asked)) == (0, 2, before)
    Path("out/Ann Smith/11.jpg").unlink()  # by whoever looked through them
    assert run(wiki, each=4).fetched == 2
    assert wiki.count("/media/11") == wiki.count("/media/12") == 1
    assert "Ann Smith/11.jpg" not in lies()


def test_a_run_that_was_broken_off_goes_on(wiki: Wikimedia, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = module.files.write, []

    def breaks(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.files, "write", breaks)
        run(wiki)
    done = len(manifest())
    assert 0 < done < 4
    assert run(wiki).fetched == 4 - done
    assert lies() == list(manifest())
    assert not list(Path().rglob(".partial-*"))


def test_lists_in_several_answers_are_read_to_their_end(wiki: Wikimedia) -> None:
    wiki.page = 2
    for number in range(20, 25):
        wiki.file(number, depicts="Q1")
    assert run(wiki).fetched == 9
    assert wiki.count("gsroffset=") == 3
    assert [row.photo for row in read_origins(Path("labels/manifests/first.csv"))] == lies()


@pytest.mark.parametrize(
    ("person", "outcome"),
    [
        (Person("Ann Smith"), 4),
        (Person("ann smith"), 4),
        (Person("whatever", wikidata="Q1"), 4),
        (Person("Ann Smith", "nm0000009"), ("not_found", "not on Wikidata")),
        (Person("Nobody"), ("not_found", "not on Wikidata, by name")),
        (Person("Ann Smi"), ("not_found", "not on Wikidata, by name")),
        (Person("A Film"), ("not_found", "Q7 on Wikidata: none is this human")),
        (Person("x", wikidata="Q99"), ("not_found", "Q99 on Wikidata: none is this human")),
        (Person("Bo Li"), ("ambiguous", "the column wikidata: Q8 (somebody called Bo Li); Q9 (somebody called bo li)")),
        (Person("..."), ("no_name", "no name for a folder")),
    ],
)
def test_who_is_looked_up(wiki: Wikimedia, person: Person, outcome: int | tuple[str, str]) -> None:
    wiki.person("Q7", "A Film", "a film")
    wiki.person("Q8", "Bo Li")
    wiki.person("Q9", "bo li")
    found = run(wiki, person)
    if isinstance(outcome, int):
        assert found.fetched == outcome
        assert bool(found.by_name) == (not person.wikidata)
    else:
        ((reason, detail),) = rejects()
        assert reason == outcome[0] and outcome[1] in detail
        assert (found.fetched, lies()) == (0, [])


def test_an_imdb_number_has_to_be_on_the_entity(wiki: Wikimedia) -> None:
    wiki.person("Q5", "Ann of nm00000011", "nm00000011")  # the search is by words; what it finds is looked at
    assert run(wiki, Person("Ann", "nm0000001")).fetched == 4
    wiki.person("Q6", "Ann again", "nm0000001")
    run(wiki, Person("Another Ann", "nm0000001"))
    assert rejects()[0][0] == "ambiguous"


@pytest.mark.parametrize(
    ("meta", "taken"),
    [
        ({"LicenseShortName": "CC0"}, True),
        ({"LicenseShortName": "Public domain", "License": "pd", "LicenseUrl": ""}, True),
        ({"LicenseShortName": "PD-USGov", "License": "pd-usgov", "LicenseUrl": ""}, True),
        ({"LicenseShortName": "CC BY 2.0"}, True),
        ({"LicenseShortName": "CC BY-SA 3.0 de", "License": "cc-by-sa-3.0-de"}, True),
        ({"LicenseShortName": "", "License": "cc-by-4.0"}, True),
        ({"LicenseShortName": "CC BY-NC 4.0", "License": "cc-by-nc-4.0"}, False),
        ({"LicenseShortName": "CC BY-ND 4.0"}, False),
        ({"LicenseShortName": "CC BY 4.0 nc"}, False),
        ({"LicenseShortName": "CC BY 4.0", "LicenseUrl": "https://creativecommons.org/licenses/by-nc/4.0"}, False),
        ({"LicenseShortName": "CC BY 4.0", "NonFree": "true"}, False),
        ({"LicenseShortName": "Fair use", "License": "", "NonFree": "true"}, False),
        ({"LicenseShortName": "GFDL"}, False),
        ({"LicenseShortName": "All rights reserved"}, False),
        ({"LicenseShortName": "CC BY 3.0 igo"}, True),
        ({"LicenseShortName": "CC BY-SA 4.0 or not"}, False),
        ({"LicenseShortName": "", "License": ""}, False),
    ],
)
def test_only_open_licences_are_taken(wiki: Wikimedia, meta: dict[str, str], taken: bool) -> None:
    wiki.person("Q2", "Bo")
    wiki.file(30, depicts="Q2", **meta)
    found = run(wiki, Person("Bo"))
    assert found.fetched == taken
    if not taken:
        assert found.reasons == {"licence": 1, "no_photo": 1}
        assert wiki.count("/media/") == 0, "it was not even fetched"


def test_hostile_names_and_authors_stay_text(wiki: Wikimedia) -> None:
    wiki.person("Q2", "../../=cmd|' /C'!A0", "nm0000002")
    wiki.file(
        30,
        "File:../../x.jpg",
        depicts="Q2",
        Artist='<script>alert(1)</script><b onclick="x">=HYPERLINK("http://evil")</b>\n<i>\u202eBo</i>',
        DateTimeOriginal='<time class="dtstart" datetime="2001-02-03">3 February 2001</time>',
        LicenseUrl="javascript:alert(1)",
    )
    hostile = Person("../../=cmd|' /C'!A0", "nm0000002")
    assert run(wiki, hostile, Person("_strangers", wikidata="Q1")).fetched == 5
    assert lies() == ["cmd_' _C'!A0/30.jpg", *(f"strangers/{number}.jpg" for number in (11, 12, 13, 14))]
    row = manifest()["cmd_' _C'!A0/30.jpg"]
    assert row["author"] == '\'=HYPERLINK("http://evil") \ufffdBo'
    assert (row["date"], row["licence_url"], row["person"]) == ("2001-02-03", "", "../../=cmd|' /C'!A0")
    assert run(wiki, hostile).fetched == 0, "the line is known again when it is read"


def test_namesakes_get_folders_of_their_own(wiki: Wikimedia) -> None:
    wiki.person("Q2", "ANN SMITH", "nm0000002")
    wiki.file(30, depicts="Q2")
    run(wiki, ANN, Person("ANN SMITH", "nm0000002"), Person("Ann smith"))
    assert {name.partition("/")[0] for name in lies()} == {"Ann Smith", "ANN SMITH nm0000002"}
    assert rejects()[0][0] == "no_name"


def test_a_photo_counts_for_one_person_and_once(wiki: Wikimedia) -> None:
    wiki.person("Q2", "Bo")
    wiki.depicted["Q2"] = [12]  # both of them
    wiki.file(30, depicts="Q2")
    wiki.bytes[30] = wiki.bytes[13]  # uploaded a second time
    assert run(wiki, ANN, Person("Bo")).fetched == 4
    assert [reason for reason, _ in rejects()] == ["already_here", "already_here", "no_photo"]
    assert wiki.count("/media/12") == 1


def test_who_is_forgotten_is_not_even_looked_up(wiki: Wikimedia) -> None:
    cast = (Person("Ann: Smith", "nm0000001"), Person("Ann_ Smith", "nm0000001"))
    assert run(wiki, *cast, forgotten=lambda name: name == "Ann_ Smith").fetched == 0
    assert [reason for reason, _ in rejects()] == ["forgotten", "forgotten"]
    assert wiki.asked == []


def test_large_pictures_come_scaled(wiki: Wikimedia) -> None:
    info = wiki.files[11]["imageinfo"][0]
    info |= {"width": 6000, "height": 4000, "thumburl": f"{wiki.url}/media/14.jpg?1280px", "thumbwidth": 1280}
    run(wiki, each=1)
    assert wiki.count("/media/14.jpg?1280px") == 1
    assert wiki.count("iiurlwidth=1280") == 1


def again(code: int, **headers: str) -> Fault:
    return lambda handler: handler.send(b"later", "text/plain", code, **headers)


def lagged(handler: Handler) -> None:
    error = {"code": "maxlag", "info": "Waiting for db1: 7.5 seconds lagged", "host": "db1", "lag": 7.5}
    handler.send(json.dumps({"error": error}).encode(), "application/json", Retry_After="7", X_Database_Lag="7")


def as_json(text: str) -> Fault:
    return lambda handler: handler.send(text.encode(), "application/json")


def cut(handler: Handler) -> None:
    handler.send(jpeg(11)[:100], "image/jpeg", claimed=len(jpeg(11)))


def cut_json(handler: Handler) -> None:
    handler.send(b'{"query"', "application/json", claimed=500)


def hangs_up(handler: Handler) -> None:
    handler.connection.close()


def sleeps(handler: Handler) -> None:
    time.sleep(0.6)


@pytest.mark.parametrize(
    ("where", "fault", "wait"),
    [
        ("P180", again(429, Retry_After="11"), 11),
        ("P345", again(503), 2),
        ("P345", again(500), 2),
        ("/media/11", again(502), 2),
        ("/media/11", again(429, Retry_After=email.utils.formatdate(time.time() + 3600, usegmt=True)), None),
        ("/media/11", again(504, Retry_After="soon"), 2),
        ("wbgetentities", lagged, 7),
        ("wbgetentities", as_json('{"error": {"code": "ratelimited", "info": "slow down"}}'), 5),
        ("P180", as_json('{"error": {"code": "cirrussearch-too-busy-error", "info": "x"}}'), 5),
        ("P180", as_json("{"), 2),
        ("P180", as_json("[]"), 2),
        ("P180", as_json("[" * 100_000), 2),
        ("P180", cut_json, 2),
        ("/media/11", cut, 2),
        ("/media/11", hangs_up, 2),
        ("/media/11", sleeps, 2),
    ],
)
def test_what_may_work_a_little_later_is_tried_again(
    wiki: Wikimedia, where: str, fault: Fault, wait: float | None
) -> None:
    wiki.fail(where, fault)
    waits: list[float] = []
    found = run(wiki, waits=waits, timeout=0.3)
    if wait is None:  # an hour is not waited for
        assert found.stopped is not None and "seconds of rest" in found.stopped.what
        assert found.fetched == 0 and waits == []
        return
    assert found.stopped is None and found.fetched == 4
    assert len(waits) == 1 and wait <= waits[0] <= max(wait, 3)


def test_pauses_grow_and_end(wiki: Wikimedia) -> None:
    wiki.fail("/media/11", *[again(500)] * 5)
    waits: list[float] = []
    found = run(wiki, waits=waits)
    assert [reason for reason, _ in rejects()] == ["no_answer"]
    assert found.fetched == 3
    for number, wait in enumerate(waits, start=1):
        assert 2**number <= wait <= 1.5 * 2**number
    assert len(waits) == 4


@pytest.mark.parametrize("faults", [[again(429)] * 5, [again(403)], [again(401)]])
def test_a_host_that_refuses_is_left_alone(wiki: Wikimedia, faults: list[Fault]) -> None:
    wiki.fail("/media/12", *faults)
    found = run(wiki)
    assert isinstance(found.stopped, Refused) and found.stopped.next
    assert lies() == list(manifest()) == ["Ann Smith/11.jpg"]
    assert wiki.count("/media/13") == 0
    assert run(wiki).fetched == 3, "it goes on from there"


def test_a_host_that_answers_nothing_is_left_alone(wiki: Wikimedia) -> None:
    wiki.fail("api.php", *[again(500)] * 25)
    found = run(wiki, *(Person(f"P {number}") for number in range(9)))
    assert found.stopped is not None
    assert wiki.count("api.php") == 25


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        (lambda h: h.send(b"<html>Log in</html>", "text/html"), "wrong_type", "text/html"),
        (lambda h: h.send(b"<!DOCTYPE html><html>", "image/jpeg"), "not_a_picture", "web page"),
        (lambda h: h.send(jpeg(11)[:-200], "image/jpeg"), "truncated", ""),
        (lambda h: h.send(jpeg(11, kind="GIF"), "image/jpeg"), "wrong_type", "none of"),
        (lambda h: h.send(b"", "image/jpeg"), "empty_file", ""),
        (lambda h: h.send(b"x", "image/jpeg", claimed=1 << 40), "file_too_large", "1099511627776 bytes"),
        (lambda h: h.send(b"x" * 4000, "image/jpeg", claimed=-1), "file_too_large", "more than 3000"),
        (lambda h: h.send(b"", "text/html", 302, Location="https://evil.example/x.jpg"), "redirect", "evil.example"),
        (lambda h: h.send(b"", "text/html", 301, Location="/elsewhere"), "redirect", "elsewhere"),
        (lambda h: h.send(b"gone", "text/html", 404), "not_there", "404"),
    ],
)
def test_what_is_no_photo_is_a_line_and_no_file(
    wiki: Wikimedia, monkeypatch: pytest.MonkeyPatch, fault: Fault, reason: str, detail: str
) -> None:
    monkeypatch.setattr(module, "_LIMIT", 3000)
    wiki.fail("/media/11", fault)
    found = run(wiki)
    ((why, how),) = rejects()
    assert why == reason and detail in how
    assert found.fetched == 3 and "Ann Smith/11.jpg" not in lies()
    assert run(wiki).fetched == 1, "the next run tries again"


@pytest.mark.parametrize(
    "spoil",
    [
        {"url": "https://evil.example/x.jpg"},
        {"url": "file:///etc/passwd"},
        {"url": "http://127.0.0.1:1@evil.example/"},
        {"url": None},
        {"descriptionurl": None},
        {"descriptionurl": "javascript:alert(1)"},
        {"mime": "image/svg+xml"},
        {"mime": None},
        {"extmetadata": []},
        {"extmetadata": {"LicenseShortName": None}},
    ],
)
def test_missing_and_odd_fields_are_lines_too(wiki: Wikimedia, spoil: dict[str, Any]) -> None:
    wiki.files[11]["imageinfo"][0] |= spoil
    assert run(wiki).fetched == 3
    ((reason, _),) = rejects()
    assert reason in ("other_host", "incomplete", "wrong_type", "licence")


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        '{"query": []}',
        '{"query": {"pages": "x"}}',
        '{"query": {"pages": [1, {}, {"imageinfo": []}]}}',
        '{"query": {"pages": [{"pageid": "1", "title": [], "imageinfo": [{}]}]}}',
        '{"error": {"code": "badvalue", "info": "<b>"}}',
        '{"error": 7}',
    ],
)
def test_answers_of_another_shape_do_no_harm(wiki: Wikimedia, answer: str) -> None:
    wiki.fail("P180", as_json(answer))
    wiki.fail("File:", as_json(answer))
    assert run(wiki).fetched <= 2
    for where in ("P345", "wbgetentities"):
        wiki.fail(where, as_json(answer))
        assert run(wiki, Person("Other", "nm0000001")).fetched == 0


def test_the_client_asks_nobody_else(wiki: Wikimedia) -> None:
    polite = Polite("https://example.org/castline", [wiki.url])
    for url in ("https://commons.wikimedia.org/w/api.php", f"{wiki.url}0/media/11.jpg", "ftp://127.0.0.1/", "x", ""):
        with pytest.raises(Rejected, match="other_host"):
            polite.fetch(url, ("image/jpeg",), 1000)
    assert wiki.asked == []
    assert origin_of("http://[") == ""


def test_requests_keep_their_distance(wiki: Wikimedia) -> None:
    waits: list[float] = []
    polite = Polite("you@example.org", [wiki.url], interval=100.0, sleep=waits.append)
    for _ in range(2):
        polite.fetch(f"{wiki.url}/media/11.jpg", ("image/jpeg",), 10_000)
    assert len(waits) == 1 and 90 < waits[0] <= 100


@pytest.mark.parametrize("contact", ["", "me", "x@y", "you@example.org\r\nCookie: a=b", "ann @example.org", "ä@x.org"])
def test_who_asks_has_to_say_who_it_is(contact: str) -> None:
    with pytest.raises(ConfigError, match="neither an e-mail address nor a URL"):
        Polite(contact, [])


@pytest.mark.parametrize(
    "url", ["http://example.org", "https://127.0.0.1", "http://127.0.0.1.evil.org", "http://127.0.0.1:1/x"]
)
def test_only_loopback_stands_in(url: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        on_loopback(url)
