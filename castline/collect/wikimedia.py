"""Who somebody is on Wikidata, and which openly licensed photos of them Wikimedia Commons has: by their API, no HTML.

Source: www.mediawiki.org, "API:Imageinfo", "API:Search", "API:Categorymembers"; www.wikidata.org, "Wikidata:Data
access"; the keys of `extmetadata` are those of the CommonsMetadata extension.
"""

import html.parser
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from castline.collect.cast import Person
from castline.collect.polite import Polite, origin_of
from castline.errors import ConfigError
from castline.photos.decode import Rejected
from castline.text import shown

__all__ = ["TYPES", "WIKIMEDIA", "Found", "Picture", "Sites", "files_of", "look_up", "on_loopback", "picture_of"]

TYPES = ("image/jpeg", "image/png", "image/webp")
# Of the widths that Wikimedia scales to (20 ... 960, 1280, 1920: www.mediawiki.org, "Common thumbnail sizes"), the one
# at which a face in a group still fills a chip. Others are refused.
_WIDTH = 1280
_FREE = re.compile(
    r"cc0([ -]1\.0)?|public domain|pd(-[a-z0-9-]+)?|cc[ -]by([ -]sa)?[ -][1-4]\.[05]([ -](igo|scotland|[a-z]{2}))?"
)
_FORBIDS = re.compile(r"(?<![a-z])(nc|nd|noncommercial|non-commercial|noderiv\w*|fair use)(?![a-z])")
_ENTITY = re.compile(r"Q[1-9]\d{0,11}")
_PAGES = 10  # of a list, 50 files each
_NAMESAKES = 10


@dataclass(frozen=True)
class Sites:
    """The two APIs, and where files may lie besides."""

    wikidata: str = "https://www.wikidata.org/w/api.php"
    commons: str = "https://commons.wikimedia.org/w/api.php"
    media: str = "https://upload.wikimedia.org"

    @property
    def origins(self) -> frozenset[str]:
        return frozenset(map(origin_of, (self.wikidata, self.commons, self.media)))


WIKIMEDIA = Sites()


def on_loopback(url: str) -> Sites:
    """A server of this machine in place of them all, for tests: URL/wikidata/api.php, URL/commons/api.php.

    Raises: ConfigError for any other machine.
    """
    if not re.fullmatch(r"http://(127\.0\.0\.1|localhost)(:\d{1,5})?", url):
        raise ConfigError(f"{url!r} is no server on loopback", "--api http://127.0.0.1:PORT, or leave it out")
    return Sites(f"{url}/wikidata/api.php", f"{url}/commons/api.php", url)


@dataclass(frozen=True)
class Found:
    """Somebody on Wikidata. images: names of files. category: on Commons, or empty. by_name: found by nothing else."""

    entity: str
    description: str
    images: tuple[str, ...]
    category: str
    by_name: bool


@dataclass(frozen=True)
class Picture:
    """A file on Commons that may be used.

    page: its number. url: where it is fetched, scaled down if it is large. source: the page that describes it. author:
    plain text, perhaps empty. licence_url: perhaps empty. date: YYYY-MM-DD, YYYY or empty.
    """

    page: int
    url: str
    source: str
    author: str
    licence: str
    licence_url: str
    date: str


def look_up(polite: Polite, sites: Sites, person: Person) -> Found:
    """The person on Wikidata: by entity, else by IMDb number, else the only human of just that name.

    Raises: Rejected ("not_found", "ambiguous").
    """
    by_name = not person.wikidata and not person.imdb
    if person.wikidata:
        ids = [person.wikidata]
    elif person.imdb:
        answer = polite.ask(
            sites.wikidata,
            action="query",
            list="search",
            srsearch=f"haswbstatement:P345={person.imdb}",
            srnamespace="0",
            srlimit="5",
        )
        ids = [str(_at(hit, "title")) for hit in _list(_at(answer, "query", "search"))]
    else:
        answer = polite.ask(
            sites.wikidata,
            action="wbsearchentities",
            search=person.name,
            language="en",
            type="item",
            limit="50",
        )
        hits = _list(_at(answer, "search"))
        ids = [str(_at(hit, "id")) for hit in hits if _same(person.name, _at(hit, "label"), _at(hit, "match", "text"))]
    ids = [entity for entity in dict.fromkeys(ids) if _ENTITY.fullmatch(entity)][:_NAMESAKES]
    if not ids:
        raise Rejected("not_found", "not on Wikidata" + (", by name" if by_name else ""))
    answer = polite.ask(
        sites.wikidata, action="wbgetentities", ids="|".join(ids), props="claims|descriptions", languages="en"
    )
    entities = _at(answer, "entities")
    people = [
        entity
        for entity in (entities.values() if isinstance(entities, dict) else ())
        if "Q5" in _claims(entity, "P31")
        and (person.wikidata or not person.imdb or person.imdb in _claims(entity, "P345"))
    ]
    if not people:
        raise Rejected("not_found", f"{', '.join(ids)} on Wikidata: none is this human")
    if len(people) > 1:
        which = "; ".join(f"{_at(entity, 'id')} ({_description(entity)})" for entity in people)
        raise Rejected("ambiguous", f"write the right one into the column wikidata: {which}")
    entity = people[0]
    number = str(_at(entity, "id"))
    if not _ENTITY.fullmatch(number):
        raise Rejected("not_found", "Wikidata's answer has no id")
    return Found(
        number,
        _description(entity),
        tuple(_claims(entity, "P18")),
        next(iter(_claims(entity, "P373")), ""),
        by_name,
    )


def files_of(polite: Polite, sites: Sites, found: Found) -> Iterator[dict[str, Any]]:
    """Files of somebody, as the API describes them, each once: their picture on Wikidata, then those that are said to
    depict them, then those in their category.

    Raises: Rejected, Refused.
    """
    lists: list[dict[str, str]] = []
    if titles := [f"File:{name}" for name in found.images if "|" not in name][:50]:
        lists.append({"titles": "|".join(titles)})
    depicted = f"haswbstatement:P180={found.entity} filetype:bitmap"
    lists.append({"generator": "search", "gsrsearch": depicted, "gsrnamespace": "6", "gsrlimit": "50"})
    if found.category and "|" not in found.category:
        category = f"Category:{found.category}"
        lists.append({"generator": "categorymembers", "gcmtitle": category, "gcmtype": "file", "gcmlimit": "50"})
    seen = set()
    for query in lists:
        for page in _pages(polite, sites.commons, query):
            key = _at(page, "pageid") or _at(page, "title")
            if key not in seen:
                seen.add(key)
                yield page


def picture_of(page: dict[str, Any]) -> Picture:
    """A file, as the API describes it, if it may be used and is a photo.

    Raises: Rejected.
    """
    info, number = next(iter(_list(_at(page, "imageinfo"))), None), _at(page, "pageid")
    if not isinstance(info, dict) or not isinstance(number, int):
        raise Rejected("incomplete", "nothing is known of the file")
    licence = _licence(info)
    mime = _at(info, "mime")
    if mime not in TYPES:
        raise Rejected("wrong_type", f"{mime}, not {', '.join(TYPES)}")
    width = _at(info, "width")
    scaled = isinstance(width, int) and width > _WIDTH
    url, source = _at(info, "thumburl" if scaled else "url"), _at(info, "descriptionurl")
    if not isinstance(url, str) or not isinstance(source, str) or not origin_of(source).startswith("http"):
        raise Rejected("incomplete", "no URL")
    author = _plain(_meta(info, "Artist")) or _plain(_meta(info, "Attribution")) or _plain(_meta(info, "Credit"))
    link = _meta(info, "LicenseUrl").strip()
    return Picture(
        number,
        url,
        shown(source)[:1000],
        author,
        licence,
        shown(link)[:300] if origin_of(link).startswith("http") else "",
        _date(_meta(info, "DateTimeOriginal")),
    )


def _pages(polite: Polite, api: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    more: dict[str, str] = {}
    for _ in range(_PAGES):
        answer = polite.ask(
            api,
            action="query",
            prop="imageinfo",
            iiprop="url|size|mime|extmetadata",
            iiurlwidth=str(_WIDTH),
            iiextmetadatalanguage="en",
            iiextmetadatafilter="Artist|Attribution|Credit|DateTimeOriginal|License|LicenseShortName|LicenseUrl|NonFree",
            **query,
            **more,
        )
        pages = [page for page in _list(_at(answer, "query", "pages")) if isinstance(page, dict)]
        following = _at(answer, "continue")
        more = {str(key): str(value) for key, value in following.items()} if isinstance(following, dict) else {}
        more = {key: value for key, value in more.items() if key not in query}
        # Where the answer got too long, what is missing of a page comes with the next.
        yield from sorted((page for page in pages if "imageinfo" in page or "iicontinue" not in more), key=_rank)
        if not more:
            return


def _rank(page: dict[str, Any]) -> tuple[int, str]:
    index = page.get("index")
    return (index if isinstance(index, int) else 0), str(page.get("title"))


def _licence(info: dict[str, Any]) -> str:
    """The licence's name, if it is CC0, public domain, CC BY or CC BY-SA. Raises: Rejected."""
    name = _plain(_meta(info, "LicenseShortName")) or _plain(_meta(info, "License"))
    said = " ".join((name, _meta(info, "License"), _meta(info, "LicenseUrl"))).lower().replace("_", "-")
    nonfree = _meta(info, "NonFree").strip().lower() not in ("", "0", "false")
    if nonfree or not _FREE.fullmatch(" ".join(name.lower().split())) or _FORBIDS.search(said):
        raise Rejected("licence", f"{name or 'none is stated'}{', not free' if nonfree else ''}")
    return name


def _meta(info: dict[str, Any], key: str) -> str:
    value = _at(info, "extmetadata", key, "value")
    return str(value) if isinstance(value, str | int | float) else ""


def _date(text: str) -> str:
    """The first day in a text or in its markup, else the first year; "" where there is none.

    >>> _date('<time datetime="2014-07-25">25 July</time>'), _date("about 1950"), _date("9999-99-99")
    ('2014-07-25', '1950', '')
    """
    for day in re.findall(r"(?<!\d)\d{4}-\d\d-\d\d(?!\d)", text):
        try:
            return date.fromisoformat(day).isoformat()
        except ValueError:
            continue
    year = re.search(r"(?<!\d)(1[89]|20)\d\d(?!\d)", text)
    return year.group() if year else ""


class _Text(html.parser.HTMLParser):
    """Collects what a browser would show."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style") and self.hidden > 0

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def _plain(markup: str) -> str:
    """HTML as a line of text.

    >>> _plain('<a href="//x">Ann</a> &amp; <b>Bob</b>')
    'Ann & Bob'
    """
    parser = _Text()
    parser.feed(markup[:10_000])
    parser.close()
    return shown(" ".join("".join(parser.parts).split()))[:200]


def _claims(entity: object, which: str) -> list[str]:
    """The values of a property, preferred ones first; an entity by its number."""
    found = []
    for claim in _list(_at(entity, "claims", which)):
        value = _at(claim, "mainsnak", "datavalue", "value")
        text = _at(value, "id") if isinstance(value, dict) else value
        if isinstance(text, str) and _at(claim, "rank") != "deprecated":
            found.append((_at(claim, "rank") != "preferred", text))
    return [text for _, text in sorted(found, key=lambda one: one[0])]


def _description(entity: object) -> str:
    text = _at(entity, "descriptions", "en", "value")
    return shown(text)[:100] if isinstance(text, str) else "no description"


def _same(name: str, *others: object) -> bool:
    def form(text: object) -> str:
        return " ".join(unicodedata.normalize("NFC", str(text)).casefold().split())

    return form(name) in map(form, others)


def _at(value: object, *path: str) -> Any:
    """What lies at a path of nested JSON objects; None where it leads nowhere."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
