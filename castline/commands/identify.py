"""`castline identify`: who is in photos and videos."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from castline.commands.say import AsJson
from castline.errors import CastlineError
from castline.text import certainty, clock, json_text

if TYPE_CHECKING:
    from castline.runtime import Person, Recognizer, Timeline
    from castline.runtime.video import Video

__all__ = ["identify"]


def identify(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Photos and videos.")],
    bundle: Annotated[Path, typer.Option(help="The released model.")] = Path("models/recognizer"),
    file: Annotated[str, typer.Option(help="Which of its files: float32, float16 or int8.")] = "float32",
    tiles: Annotated[
        int | None, typer.Option(help="Look again in so many tiles a side: 4 finds the small faces of group photos.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Below it a face is unknown; else the one that was fitted to the file.")
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames of a video to look at in a second, if it has as many.")] = 12.0,
    as_json: AsJson = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write into this folder: photos with names drawn on them; of videos, who is on screen when."),
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="With --out: videos with names drawn on them, too.")] = False,
) -> None:
    """Name the people in photos, and tell who is on screen when in videos.

    Example: castline identify sample/scenes/*.jpg sample/clip.mp4 --out named
    """
    from castline.runtime import Recognizer
    from castline.runtime.video import is_video

    if draw and out is None:
        raise typer.BadParameter("it needs --out FOLDER, where the drawn videos go", param_hint="--draw")
    recognizer = Recognizer(bundle, file, tiles=tiles, threshold=threshold)
    results, failed = [], 0
    for path in paths:
        video = is_video(path)
        try:
            if video:
                results.append(_identify_video(recognizer, path, fps, out, draw, as_json))
            else:
                results.append(_identify_photo(recognizer, path, out, as_json))
        except CastlineError as error:
            failed += 1
            results.append({"video" if video else "image": str(path), "error": str(error)})
            print(f"error: {error}", file=sys.stderr)
    if as_json:
        print(json_text(results))
    if failed:
        raise typer.Exit(1)


def _identify_photo(recognizer: "Recognizer", path: Path, out: Path | None, quiet: bool) -> dict[str, Any]:
    from castline.runtime.draw import draw

    photo = recognizer.open(path)
    people = recognizer.identify_photo(photo)
    result: dict[str, Any] = {"image": str(path), "people": [person.described() for person in people]}
    if out is not None:
        (target,) = _free_names(out, path, ".named.jpg")
        draw(photo.image, people, photo.scale).save(target, quality=92)
        result["drawn"] = str(target)
    if not quiet:
        _print_people(path, people, result.get("drawn"))
    return result


def _identify_video(
    recognizer: "Recognizer", path: Path, fps: float, out: Path | None, drawn: bool, quiet: bool
) -> dict[str, Any]:
    from castline.runtime import watch
    from castline.runtime.video import write_video

    terminal = sys.stderr.isatty()
    try:
        timeline = watch(recognizer, path, fps, keep_boxes=drawn, told=_progress if terminal else None)
    finally:
        print("\r\x1b[K" if terminal else "", end="", file=sys.stderr)
    result = timeline.described()
    if timeline.video.warning:
        print(f"warning: {path}: {timeline.video.warning}", file=sys.stderr)
    written: list[Path] = []
    if out is not None:
        written = _free_names(out, path, ".people.json", ".people.csv", *([".named.mp4"] if drawn else []))
        written[0].write_text(json_text(result) + "\n", encoding="utf-8")
        written[1].write_text(timeline.csv(), encoding="utf-8", newline="")
        if drawn:
            write_video(written[2], timeline.drawn(), fps)
        result["written"] = [str(target) for target in written]
    if not quiet:
        _print_appearances(timeline, written)
    return result


def _print_people(path: Path, people: "list[Person]", drawn: str | None) -> None:
    from castline.runtime.draw import printable

    print(f"{printable(str(path), 200)}:{'' if people else ' no face'}{f' → {drawn}' if drawn else ''}")
    for person in people:
        x1, y1, x2, y2 = (round(edge) for edge in person.face.box)
        sure = certainty(person.name.confidence) if person.name.known else ""
        print(f"  {printable(person.name.shown):<24} {sure:>4}   at {x1},{y1} to {x2},{y2}")


def _print_appearances(timeline: "Timeline", written: list[Path]) -> None:
    from castline.runtime.draw import printable

    video = timeline.video
    told = f" → {', '.join(printable(str(target), 200) for target in written)}" if written else ""
    print(f"{printable(video.name, 200)}: {video.seconds:.1f} s, {video.frames} frames looked at{told}")
    for seen in timeline.appearances:
        sure = certainty(seen.confidence) if seen.known else ""
        print(f"  {printable(seen.label):<24} {sure:>4}   {clock(seen.start)} to {clock(seen.end)}")


def _progress(video: "Video") -> None:
    """One line of a terminal, gone when the video is done."""
    whole = f" of {video.stated:.0f}" if video.stated else ""
    print(f"\r{video.seconds:.0f}{whole} s", end="", file=sys.stderr, flush=True)


def _free_names(folder: Path, source: Path, *endings: str) -> list[Path]:
    """Names in `folder` for what is made of a file, that nothing has yet: nothing is ever overwritten."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CastlineError(f"{folder}: {error.strerror}", "--out takes a folder that can be written to") from error
    for number in range(1, 1_000_000):
        stem = f"{source.stem}{'' if number == 1 else f'-{number}'}"
        targets = [folder / f"{stem}{ending}" for ending in endings]
        if not any(target.exists() for target in targets):
            return targets
    raise CastlineError(f"{folder}: no free name for {source.name}")
