"""The app as a visitor has it: a real server and a real browser, in a project whose pipeline has run."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from app_browser import chromium, serious, served, settled
from playwright.sync_api import Browser, Page, expect

from castline.runtime import Recognizer, watch

pytestmark = pytest.mark.slow
expect.set_options(timeout=60_000)  # a busy machine is no failure

SCENE = "scene_02.jpg"  # bruno, daiyu, who is not in the cast, and chidi
THRESHOLD = 0.49  # four people are too few to fit one


@pytest.fixture(scope="module")
def folder(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of four people, whose model has a threshold; without DVC's cache."""
    copied = tmp_path_factory.mktemp("app") / "project"
    shutil.copytree(whole, copied, symlinks=True, ignore=shutil.ignore_patterns("cache", "tmp"))
    path = copied / "models/recognizer/bundle.json"
    bundle = json.loads(path.read_text())
    bundle["files"]["float32"]["threshold"] = THRESHOLD
    path.write_text(json.dumps(bundle))
    return copied


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A visit of its own, on the first page."""
    visit = browser.new_context(viewport={"width": 1280, "height": 1600})
    opened = visit.new_page()
    opened.set_default_timeout(60_000)
    opened.goto(address)
    expect(opened.get_by_role("heading", name="Identify")).to_be_visible()
    yield opened
    visit.close()


def give(page: Page, *files: Path | tuple[str, bytes], number: int = 0) -> None:
    """Files into the page's uploader."""
    payloads = [
        {"name": file[0], "mimeType": "", "buffer": file[1]}
        if isinstance(file, tuple)
        else {"name": file.name, "mimeType": "", "buffer": file.read_bytes()}
        for file in files
    ]
    settled(page)  # no visitor is so fast that the page is still being drawn for the first time
    page.locator("input[type=file]").nth(number).set_input_files(payloads)  # type: ignore[arg-type]


def turn_to(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=re.compile(f"^{name}")).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    settled(page)


def faces(page: Page) -> list[str]:
    """The labels of the buttons over a picture's faces."""
    expect(page.get_by_role("button", name=re.compile("^Face 1:")).first).to_be_visible()
    found = page.get_by_role("button", name=re.compile(r"^Face \d+:")).all()
    return [str(face.get_attribute("aria-label")) for face in found]


def test_a_scene_is_named_as_the_desktop_names_it(page: Page, folder: Path, sample: Path) -> None:
    give(page, sample / "scenes" / SCENE)
    people = Recognizer(folder / "models/recognizer").identify(sample / "scenes" / SCENE)
    assert [label.partition(": ")[2].partition(",")[0] for label in faces(page)] == [
        person.name.shown for person in people
    ]
    assert "unknown" in faces(page)[1]
    page.get_by_role("button", name="Face 2: unknown").first.click()
    expect(page.get_by_text("below the threshold of 0.49")).to_be_visible()
    expect(page.get_by_text("Nearest people")).to_be_visible()
    settled(page)
    assert serious(page) == []


def test_a_video_is_a_timeline_and_a_click_jumps(page: Page, folder: Path, sample: Path) -> None:
    give(page, sample / "clip.mp4")
    seen = watch(Recognizer(folder / "models/recognizer"), sample / "clip.mp4").appearances
    for appearance in seen:
        expect(page.get_by_role("button", name=re.compile(f"^Jump to {appearance.label}")).first).to_be_visible()
    settled(page)  # on a busy machine the page is still being drawn: a click would go to what is replaced
    last = max(seen, key=lambda appearance: appearance.start)
    page.get_by_role("button", name=re.compile(f"^Jump to {last.label}")).last.click()
    page.wait_for_function(f"document.querySelector('video')?.currentTime >= {last.start - 0.2}")
    settled(page)
    assert serious(page) == []


def test_bad_files_have_words_and_leave_the_visit_alone(page: Page, sample: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>**x**.jpg"
    give(page, (hostile, b"\xff\xd8\xff\xe0 cut off"), ("page.jpg", b"<html></html>"), sample / "scenes" / SCENE)
    assert len(faces(page)) == 3
    titles = [title.inner_text().replace("\u2060", "") for title in page.get_by_role("heading", level=2).all()]
    assert hostile in titles
    expect(page.get_by_text(re.compile("damaged|cut off|not a picture")).first).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    settled(page)


def test_somebody_enrolled_is_named_at_once_and_for_this_visit_only(
    page: Page, browser: Browser, address: str, sample: Path
) -> None:
    turn_to(page, "People")
    page.get_by_role("tab", name="Enrol").click()
    expect(page.get_by_text("Use the camera")).to_be_visible()  # drawn after the uploader
    settled(page)
    page.get_by_label("Name", exact=True).fill("daiyu")
    page.get_by_label("Name", exact=True).press("Enter")
    give(page, *sorted((sample / "photos/first/daiyu").iterdir())[:4])
    page.get_by_role("button", name="Try out now").click()
    expect(page.get_by_text("daiyu").first).to_be_visible()
    settled(page)
    assert serious(page) == []
    turn_to(page, "Identify")
    give(page, sample / "scenes" / SCENE)
    assert "daiyu" in faces(page)[1]

    other = browser.new_context().new_page()
    other.goto(address)
    expect(other.get_by_text("Names and confidences appear here.")).to_be_visible()
    give(other, sample / "scenes" / SCENE)
    assert "unknown" in faces(other)[1]
    other.context.close()


def test_a_correction_waits_and_is_written_as_a_label_when_asked(page: Page, folder: Path, sample: Path) -> None:
    give(page, sample / "scenes" / SCENE)
    faces(page)
    page.get_by_role("button", name="Face 2: unknown").first.click()
    page.get_by_role("radiogroup", name="Is “unknown” right?").get_by_text("Wrong: it is somebody else").click()
    page.get_by_label("Or somebody who is not in the list").fill("daiyu")
    page.get_by_label("Or somebody who is not in the list").press("Enter")
    page.get_by_role("button", name="Keep this correction").click()
    expect(page.get_by_text("1 correction waits").first).to_be_visible()
    settled(page)
    turn_to(page, "Corrections")
    assert not list((folder / "labels").glob("batches/*.json"))
    assert serious(page) == []
    page.get_by_role("button", name="Write 1 correction").click()
    expect(page.get_by_text("dvc repro").first).to_be_visible()
    (written,) = (folder / "labels").glob("batches/*.json")
    (task,) = json.loads(written.read_text())
    said = [result["value"]["rectanglelabels"][0] for result in task["annotations"][0]["result"]]
    assert said.count("daiyu") == 1
    assert written.stem in yaml.safe_load((folder / "params.yaml").read_text())["data"]["batches"]
    (picture,) = (folder / "deliveries" / written.stem).iterdir()
    assert picture.read_bytes() == (sample / "scenes" / SCENE).read_bytes()


def test_the_pages_of_others_get_nothing_from_it(address: str) -> None:
    """No upload without the page's token, and no session for a page from elsewhere."""
    upload = requests.put(f"{address}/_stcore/upload_file/a/b", files={"file": b"x"}, timeout=30)
    assert upload.status_code == 403
    shake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "a" * 22 + "==",
    }
    for origin, status in (("http://elsewhere.example", 403), (address, 101)):
        with requests.get(
            f"{address}/_stcore/stream", headers={**shake, "Origin": origin}, stream=True, timeout=30
        ) as answer:
            assert answer.status_code == status


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_reads_on_a_phone(browser: Browser, address: str, scheme: str) -> None:
    visit = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    page = visit.new_page()
    page.set_default_timeout(60_000)
    for name in ("", "people", "corrections", "model"):
        page.goto(f"{address}/{name}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        settled(page)
        assert serious(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    visit.close()
