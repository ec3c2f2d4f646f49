"""The `castline` command. Every command imports what it needs when it runs: `castline --help` has to be quick."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from castline.errors import CastlineError, exits_cleanly

if TYPE_CHECKING:
    from castline.project import Registered
    from castline.runtime import Person, Recognizer, Timeline
    from castline.runtime.video import Video

__all__ = ["app", "main"]

app = typer.Typer(
    help="From photos of a cast of people to a small, versioned model that names them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Which folders of photos the project learns from.", no_args_is_help=True)
app.add_typer(data, name="data")
share = typer.Typer(help="Work shared between clones, beyond what `dvc push` and `dvc pull` do.", no_args_is_help=True)
app.add_typer(share, name="share")

Batch = Annotated[str | None, typer.Option(help="Name of the batch; by default the folder's.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@data.command("use")
def data_use(
    path: Annotated[Path, typer.Argument(help="A folder that holds a folder of photos for each person.")],
    batch: Batch = None,
) -> None:
    """Point the project at your own photos, in place of those it has. They stay where they are.

    People who have to stay unknown lie in PATH/_strangers/PERSON/.

    Example: castline data use ~/photos/cast --batch autumn
    """
    from castline import project

    _show(project.use_batch(path, batch))
    _next("dvc repro", "then: git add -A && git commit, to keep this state")


@data.command("add")
def data_add(
    path: Annotated[Path, typer.Argument(help="A folder that holds a folder of photos for each person.")],
    batch: Annotated[str, typer.Option(help="Name of the new batch.")],
) -> None:
    """Add a delivery of photos as a new batch. What was computed for the others stays as it is.

    Example: castline data add ~/photos/new --batch winter
    """
    from castline import project

    _show(project.add_batch(path, batch))
    _next("dvc repro", "it reads the new photos only, then trains on all")


@data.command("check")
def data_check() -> None:
    """Look through the batches for what cannot be used, and list in .dvcignore what DVC would stop at.

    Example: castline data check
    """
    from castline import project

    for found in project.check_data():
        _show(found)


@share.command("check")
def share_check(
    everything: Annotated[bool, typer.Option("--all", help="All of the cache, not only the present state.")] = False,
) -> None:
    """Read the cached objects again, and move damaged ones aside: DVC itself does not notice them.

    Example: castline share check
    """
    from castline import sharing

    found = sharing.check(everything)
    print(f"{found.whole} objects are whole, {len(found.missing)} are not here")
    for oid, aside in found.damaged.items():
        print(f"damaged: {oid}, moved to {aside}")
    for path in found.removed:
        print(f"removed: {path}, which was a link to it or a copy")
    if found.damaged:
        raise CastlineError(f"{len(found.damaged)} objects were damaged", "dvc pull; if no remote has them: dvc repro")
    if found.missing:
        _next("dvc pull")


@share.command("push")
def share_push(
    remote: Annotated[str | None, typer.Option(help="Which remote; by default DVC's default.")] = None,
) -> None:
    """Upload every run of this clone's run-cache with all it wrote, so that no other clone runs it again.

    Example: castline share push && dvc push
    """
    from castline import sharing

    print(f"{sharing.push(remote)} objects pushed")
    _next("dvc push", "elsewhere: dvc pull --run-cache && dvc repro --pull")


@app.command()
def compose(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as base_model=NAME.")] = None,
) -> None:
    """Write params.yaml from conf/, checked.

    Example: castline compose base_model=efficientnet_lite0 training.lr=0.003
    """
    from castline import project

    project.compose(overrides or [])
    _next("dvc repro")


@app.command()
def review(
    out: Annotated[Path, typer.Option(help="The folder that everything is written into.")] = Path("build/review"),
    root: Annotated[Path, typer.Option(help="The folder of photos that Label Studio serves.")] = Path("data"),
    limit: Annotated[int, typer.Option(min=1, help="So many faces on the page, the least fitting ones.")] = 500,
) -> None:
    """Show the faces that are left out because of how they look, or kept in doubt, to decide about them.

    Writes a page to look at, a file to write decisions into, and tasks for Label Studio.

    Example: castline review
    """
    from castline import params
    from castline.photos.batches import DataSettings
    from castline.review.write import PAGE, write_review

    count = write_review(Path("build"), params.read("data", DataSettings).read, out, root, limit)
    print(f"{count} faces to look at: {out / PAGE}")
    if count:
        _next(f"cp {out / 'review.json'} labels/review.json, fill in decisions", "dvc repro")


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the base models: what each wants, what its licence allows, and whether its weights are here.

    Example: castline models
    """
    from castline import registry

    print(registry.as_json() if as_json else registry.as_table())


@app.command()
def tune(
    trials: Annotated[int, typer.Option(min=1, help="How many in all, earlier ones of the same study counted.")],
    search: Annotated[Path, typer.Option(help="The search-space file.")] = Path("search/head.yaml"),
    name: Annotated[str | None, typer.Option(help="Of the study; by default the file's.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="MIN", help="Begin no trial after so many minutes.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for better settings: each trial is a DVC experiment, judged by the validation faces.

    Run again, it goes on. It starts from the last commit and leaves the project's files as they are.

    Example: castline tune --trials 20
    """
    import signal

    from castline.tuning import show
    from castline.tuning.study import opened

    for ended in (signal.SIGTERM, signal.SIGHUP):  # as on Ctrl-C: the trial is ended and noted
        signal.signal(ended, signal.default_int_handler)
    with opened(name or search.stem, search) as study:
        interrupted = False
        try:
            for trial in study.run(trials, timeout):
                print(show.line(study, trial), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            interrupted = True
        print(show.as_json(study) if as_json else show.table(study, trials))
        if interrupted:
            raise typer.Exit(130)
        if study.best is None:
            raise CastlineError("no trial came to a value", f"look into .castline/tune/{study.name}-*.log")


@app.command()
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
        print(_as_json(results))
    if failed:
        raise typer.Exit(1)


@app.command()
def release(
    part: Annotated[str, typer.Argument(metavar="patch|minor|major", help="Which part of the number is raised.")],
    message: Annotated[str, typer.Option(help="What is new in it; kept in the tag.")] = "",
    names: Annotated[bool, typer.Option("--names", help="List in the model card whom the model names.")] = False,
) -> None:
    """Make a version of the committed model: a model card, a commit, a tag recognizer@vX.Y.Z.

    Example: castline release minor --message "Ten more people"
    """
    from castline.versions.release import CARD, release

    made = release(part, message, names)
    print(f"{made.tag}: {made.commit[:7]}, {CARD}")
    _next("git push --follow-tags && dvc push", f"castline promote {made.name} prod")


@app.command()
def promote(
    version: Annotated[str, typer.Argument(metavar="vX.Y.Z")],
    stage: Annotated[str, typer.Argument(help="Such as dev, staging, prod: any name will do.")],
) -> None:
    """Put a version into a stage, by a tag recognizer#STAGE#N.

    Example: castline promote v1.2.0 prod
    """
    from castline.versions.git import check_root
    from castline.versions.tags import promote

    check_root()
    held = promote(version, stage)
    if held == version:
        print(f"{version} is in {stage} already")
        return
    print(f"{stage}: {f'{held} → ' if held else ''}{version}")
    _next("git push --tags")


@app.command()
def rollback(
    stage: Annotated[str, typer.Option(help="The stage whose version was a mistake.")] = "prod",
) -> None:
    """Put back the version that was in a stage before the one that is. No tag is removed.

    Example: castline rollback --stage prod
    """
    from castline.versions.git import check_root
    from castline.versions.tags import rollback

    check_root()
    left, back = rollback(stage)
    print(f"{stage}: {left} → {back}")
    _next("git push --tags")


@app.command()
def versions(as_json: AsJson = False) -> None:
    """List the versions, newest first: stages, metrics, data, base model.

    Example: castline versions
    """
    from castline.versions.git import check_root
    from castline.versions.listing import describe, print_versions
    from castline.versions.tags import read_registry

    check_root()
    found = describe(read_registry())
    if as_json:
        print(json.dumps(found, indent=2))
    elif found:
        print(print_versions(found))
    else:
        print("no version yet")
        _next("castline release minor")


@app.command()
def compare(
    one: Annotated[str, typer.Argument(metavar="vA", help="A version, or `workspace`.")],
    other: Annotated[str, typer.Argument(metavar="vB", help="A version, or `workspace`.")],
    as_json: AsJson = False,
) -> None:
    """Show two versions side by side: what was measured, and which settings, photos and people differ.

    Example: castline compare v1.0.0 workspace
    """
    from castline.versions.git import check_root
    from castline.versions.listing import compare, print_comparison
    from castline.versions.tags import read_registry

    check_root()
    found = compare(read_registry(), one, other)
    print(json.dumps(found, indent=2, default=str) if as_json else print_comparison(found))


def _identify_photo(recognizer: "Recognizer", path: Path, out: Path | None, quiet: bool) -> dict[str, Any]:
    from castline.runtime.draw import draw

    photo = recognizer.open(path)
    people = recognizer.identify_photo(photo)
    result: dict[str, Any] = {"image": str(path), "people": [_described(person) for person in people]}
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
        written[0].write_text(_as_json(result) + "\n", encoding="utf-8")
        written[1].write_text(timeline.csv(), encoding="utf-8", newline="")
        if drawn:
            write_video(written[2], timeline.drawn(), fps)
        result["written"] = [str(target) for target in written]
    if not quiet:
        _print_appearances(timeline, written)
    return result


def _as_json(value: Any) -> str:
    """JSON that can be printed: in the name of a file there may be bytes that are no UTF-8."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _described(person: "Person") -> dict[str, Any]:
    return {
        "known": person.name.known,
        "name": person.name.shown,
        "nearest": person.name.nearest,
        "confidence": round(person.name.confidence, 4),
        "similarity": round(person.name.similarity, 4),
        "box": [round(edge, 1) for edge in person.face.box],
        "landmarks": [[round(float(x), 1), round(float(y), 1)] for x, y in person.face.landmarks],
    }


def _print_people(path: Path, people: "list[Person]", drawn: str | None) -> None:
    from castline.runtime.draw import printable
    from castline.text import certainty

    print(f"{printable(str(path), 200)}:{'' if people else ' no face'}{f' → {drawn}' if drawn else ''}")
    for person in people:
        x1, y1, x2, y2 = (round(edge) for edge in person.face.box)
        sure = certainty(person.name.confidence) if person.name.known else ""
        print(f"  {printable(person.name.shown):<24} {sure:>4}   at {x1},{y1} to {x2},{y2}")


def _print_appearances(timeline: "Timeline", written: list[Path]) -> None:
    from castline.runtime.draw import printable
    from castline.text import certainty

    video = timeline.video
    told = f" → {', '.join(printable(str(target), 200) for target in written)}" if written else ""
    print(f"{printable(str(video.path), 200)}: {video.seconds:.1f} s, {video.frames} frames looked at{told}")
    for seen in timeline.appearances:
        sure = certainty(seen.confidence) if seen.known else ""
        print(f"  {printable(seen.label):<24} {sure:>4}   {_clock(seen.start)} to {_clock(seen.end)}")


def _clock(seconds: float) -> str:
    """Hours if there are any, minutes and seconds.

    >>> _clock(3.42), _clock(3725.0)
    ('0:03.4', '1:02:05.0')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02}.{rest % 10}"


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


def _show(found: "Registered") -> None:
    photos = found.people.total()
    print(f"{found.batch}: {photos} photos of {len(found.people)} people", end="")
    print(f", {found.strangers} of strangers" if found.strangers else "", end="")
    print(f", {found.unlabelled} in no person's folder" if found.unlabelled else "")
    for problem, count in sorted(found.problems.items()):
        print(f"  not photos: {count} × {problem.replace('_', ' ')}")


def _next(*lines: str) -> None:
    print("next: " + "\n      ".join(lines))


@exits_cleanly
def main() -> None:
    """The entry point: a `CastlineError` becomes a message and exit code 1."""
    app()
