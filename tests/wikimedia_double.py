"""A double of Wikidata's and Wikimedia Commons' APIs on loopback: it answers in their shapes, and fails as it is told.

The shapes are those of MediaWiki's documentation (formatversion=2) and of answers quoted in public code.
"""

import http.server
import io
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

Query = dict[str, str]


def jpeg(seed: int, size: tuple[int, int] = (64, 48), kind: str = "JPEG") -> bytes:
    """A small picture that no other seed gives."""
    image = Image.new("RGB", size, ((seed * 37) % 256, (seed * 91) % 256, (seed * 53) % 256))
    image.putpixel((seed % size[0], 0), (255, 255, 255))
    file = io.BytesIO()
    image.save(file, kind, quality=95)
    return file.getvalue()


@dataclass
class Wikimedia:
    """What is known, and what went on. Files are by page number, entities and categories by name."""

    url: str = ""
    entities: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    files: dict[int, dict[str, Any]] = field(default_factory=dict)
    bytes: dict[int, "bytes"] = field(default_factory=dict)
    depicted: dict[str, list[int]] = field(default_factory=dict)
    categories: dict[str, list[int]] = field(default_factory=dict)
    faults: list[tuple[str, "Fault"]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    page: int = 50  # files in one answer

    def person(self, entity: str, name: str, imdb: str = "", images: tuple[str, ...] = (), category: str = "") -> None:
        """Somebody on Wikidata; human, unless `imdb` is "a film"."""
        claims = {"P31": [_claim("P31", {"entity-type": "item", "id": "Q11424" if imdb == "a film" else "Q5"})]}
        if imdb.startswith("nm"):
            claims["P345"] = [_claim("P345", imdb)]
        if images:
            claims["P18"] = [_claim("P18", image) for image in images]
        if category:
            claims["P373"] = [_claim("P373", category)]
        descriptions = {"en": {"language": "en", "value": f"somebody called {name}"}}
        self.labels[entity] = name
        self.entities[entity] = {"type": "item", "id": entity, "claims": claims, "descriptions": descriptions}

    def file(self, number: int, title: str = "", depicts: str = "", category: str = "", **meta: str) -> dict[str, Any]:
        """A file on Commons, CC BY-SA 4.0 and 64 pixels wide; `meta` is laid over its extmetadata."""
        known = {
            "Artist": '<a href="//commons.wikimedia.org/wiki/User:Ada" title="User:Ada">Ada</a> &amp; Bo',
            "LicenseShortName": "CC BY-SA 4.0",
            "License": "cc-by-sa-4.0",
            "LicenseUrl": "https://creativecommons.org/licenses/by-sa/4.0",
            "DateTimeOriginal": f"2014-07-{number % 28 + 1:02d} 10:12:13",
            **meta,
        }
        title = title or f"File:Photo {number}.jpg"
        self.bytes[number] = jpeg(number)
        quoted = urllib.parse.quote(title.removeprefix("File:").replace(" ", "_"))
        info = {
            "size": len(self.bytes[number]),
            "width": 64,
            "height": 48,
            "url": f"{self.url}/media/{number}.jpg",
            "descriptionurl": f"https://commons.wikimedia.org/wiki/File:{quoted}",
            "descriptionshorturl": f"https://commons.wikimedia.org/w/index.php?curid={number}",
            "mime": "image/jpeg",
            "extmetadata": {
                key: {"value": value, "source": "commons-desc-page", "hidden": ""} for key, value in known.items()
            },
        }
        self.files[number] = {
            "pageid": number, "ns": 6, "title": title, "imagerepository": "local", "imageinfo": [info],
        }  # fmt: skip
        if depicts:
            self.depicted.setdefault(depicts, []).append(number)
        if category:
            self.categories.setdefault(category, []).append(number)
        return info

    def fail(self, where: str, *faults: "Fault") -> None:
        """The next requests whose path and query hold `where` are answered by these, one each."""
        self.faults += [(where, fault) for fault in faults]

    def count(self, where: str) -> int:
        return sum(where in line for line in self.asked)

    def wikidata(self, query: Query) -> dict[str, Any]:
        if query["action"] == "query":
            wanted = query["srsearch"].removeprefix("haswbstatement:P345=")
            hits = [q for q, entity in self.entities.items() if wanted in json.dumps(entity["claims"].get("P345", []))]
            found = [{"ns": 0, "title": q, "pageid": int(q[1:]), "size": 9, "snippet": ""} for q in hits]
            return {"batchcomplete": True, "query": {"searchinfo": {"totalhits": len(hits)}, "search": found}}
        if query["action"] == "wbsearchentities":
            hits = [q for q, label in self.labels.items() if label.lower().startswith(query["search"].lower())]
            listed = [
                {
                    "id": q,
                    "title": q,
                    "pageid": int(q[1:]),
                    "repository": "wikidata",
                    "url": f"//www.wikidata.org/wiki/{q}",
                    "concepturi": f"http://www.wikidata.org/entity/{q}",
                    "label": self.labels[q],
                    "match": {"type": "label", "language": "en", "text": self.labels[q]},
                }
                for q in hits
            ]
            return {"searchinfo": {"search": query["search"]}, "search": listed, "success": 1}
        ids = query["ids"].split("|")
        return {"entities": {q: self.entities.get(q, {"id": q, "missing": ""}) for q in ids}, "success": 1}

    def commons(self, query: Query) -> dict[str, Any]:
        if "titles" in query:
            titles = query["titles"].split("|")
            by_title = {file["title"]: file for file in self.files.values()}
            pages = [by_title.get(title, {"ns": 6, "title": title, "missing": True}) for title in titles]
            return {"batchcomplete": True, "query": {"pages": pages}}
        if query["generator"] == "search":
            entity = re.fullmatch(r"haswbstatement:P180=(Q\d+) filetype:bitmap", query["gsrsearch"])
            key, numbers = "gsroffset", self.depicted.get(entity.group(1) if entity else "", [])
        else:
            key, numbers = "gcmcontinue", self.categories.get(query["gcmtitle"].removeprefix("Category:"), [])
        start = int(query.get(key, "0"))
        pages = [
            {**self.files[number], "index": start + i + 1}
            for i, number in enumerate(numbers[start : start + self.page])
        ][::-1]
        answer: dict[str, Any] = {"query": {"pages": pages}} if pages else {}
        if start + self.page < len(numbers):
            answer["continue"] = {key: start + self.page, "continue": f"{key}||"}
        else:
            answer["batchcomplete"] = True
        return answer


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request. `wiki` is set where the server starts."""

    wiki: Wikimedia
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        path, _, text = self.path.partition("?")
        query = dict(urllib.parse.parse_qsl(text))
        asked = f"{path}?{urllib.parse.unquote_plus(text)}"
        self.wiki.asked.append(asked)
        self.wiki.agents.add(self.headers["User-Agent"])
        for number, (where, fault) in enumerate(self.wiki.faults):
            if where in asked:
                del self.wiki.faults[number]
                fault(self)
                return
        if path.endswith("api.php"):
            assert (query["format"], query["formatversion"], query["maxlag"]) == ("json", "2", "5")
            answer = self.wiki.wikidata(query) if "wikidata" in path else self.wiki.commons(query)
            self.send(json.dumps(answer).encode(), "application/json; charset=utf-8")
        elif match := re.fullmatch(r"/media/(\d+)\.jpg", path):
            self.send(self.wiki.bytes[int(match.group(1))], "image/jpeg")
        else:
            self.send(b"<!DOCTYPE html><html>not found</html>", "text/html", 404)

    def send(self, data: bytes, kind: str, code: int = 200, claimed: int | None = None, **headers: str) -> None:
        """claimed: the length that the header states, -1 for none."""
        self.send_response(code)
        self.send_header("Connection", "close")
        self.send_header("Content-Type", kind)
        if claimed != -1:
            self.send_header("Content-Length", str(len(data) if claimed is None else claimed))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


Fault = Callable[[Handler], None]


@contextmanager
def wikimedia() -> Iterator[Wikimedia]:
    wiki = Wikimedia()
    handler = type("Bound", (Handler,), {"wiki": wiki})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        wiki.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield wiki
        finally:
            server.shutdown()
            thread.join()


def _claim(which: str, value: Any, rank: str = "normal") -> dict[str, Any]:
    kind = "wikibase-entityid" if isinstance(value, dict) else "string"
    snak = {"snaktype": "value", "property": which, "datavalue": {"value": value, "type": kind}}
    return {"mainsnak": snak, "type": "statement", "id": "x", "rank": rank}
