"""`castline collect`: a list of people, and openly licensed photos of them."""

from pathlib import Path
from typing import Annotated

import typer

from castline.commands.say import say_next
from castline.errors import CastlineError

__all__ = ["collect"]

collect = typer.Typer(help="A list of people, and openly licensed photos of them.", no_args_is_help=True)


@collect.command("cast")
def collect_cast(
    top: Annotated[int, typer.Option(min=1, max=100_000, help="How many people.")] = 100,
    out: Annotated[Path, typer.Option(help="The list to write.")] = Path("cast.csv"),
    names: Annotated[
        Path | None, typer.Option("--from", metavar="CSV", help="A list of your own instead: a column name at least.")
    ] = None,
    imdb: Annotated[Path, typer.Option(metavar="FOLDER", help="Where IMDb's files are.")] = Path("imdb"),
    download: Annotated[
        bool, typer.Option("--download", help="Fetch those that are not there; says the terms.")
    ] = False,
    category: Annotated[
        list[str] | None, typer.Option(help="As what they are billed; several times. By default actor and actress.")
    ] = None,
    min_votes: Annotated[int, typer.Option(min=1, help="Titles with fewer votes do not count.")] = 10_000,
    born_after: Annotated[int | None, typer.Option(metavar="YEAR", help="Only people born after it.")] = None,
) -> None:
    """Write the list of the most popular people, from IMDb's non-commercial datasets, or from names of your own.

    The rule: log10 of a title's votes, summed over the titles with at least --min-votes in which somebody is billed
    as --category. Equal sums: the lower IMDb number first.

    Example: castline collect cast --top 100 --imdb ~/imdb --download
    """
    from castline.collect import files
    from castline.collect.cast import HEADER, read_cast
    from castline.collect.imdb import ACTING, TERMS, popular
    from castline.collect.imdb import download as fetch

    if out.exists():
        raise CastlineError(f"{out} is there already", "name another with --out: what you filled in would be lost")
    if names is not None:
        people = read_cast(names)
    else:
        if download:
            print(TERMS, flush=True)
            for path in fetch(imdb):
                print(f"fetched: {path}")
        ranked = popular(imdb, top, category or ACTING, min_votes, born_after)
        people = ranked.people
        if ranked.malformed:
            print(f"{ranked.malformed} lines of IMDb's files were passed over: another number of columns")
        if not people:
            raise CastlineError(f"nobody in {imdb} fits", "lower --min-votes, or look at --category and --born-after")
    files.write_csv(out, HEADER, [person.row for person in people])
    print(f"{len(people)} people: {out}")
    say_next(f"look through {out}", f"castline collect photos {out} --out FOLDER --batch NAME --contact YOU")


@collect.command("photos")
def collect_photos(
    cast: Annotated[Path, typer.Argument(help="The list of people: a CSV with a column name at least.")],
    out: Annotated[Path, typer.Option(help="The folder that gets a folder of photos for each person.")],
    batch: Annotated[str, typer.Option(help="What the batch will be called.")],
    contact: Annotated[str, typer.Option(help="Your e-mail address or URL, which the hosts ask for.")],
    each: Annotated[int, typer.Option(min=1, max=500, help="So many photos of a person at most.")] = 20,
    consent: Annotated[
        str | None, typer.Option(help="On what ground their faces are used; goes into the manifest and the model card.")
    ] = None,
    pause: Annotated[float, typer.Option(min=0.5, help="Seconds from one request to the next.")] = 1.0,
    api: Annotated[str | None, typer.Option(hidden=True, help="A server on loopback in place of Wikimedia.")] = None,
) -> None:
    """Fetch openly licensed photos of people from Wikimedia Commons, each with its source, author and licence.

    A run that was broken off goes on; what the manifest, labels/manifests/BATCH.csv, lists is not fetched again.

    Example: castline collect photos cast.csv --out ~/photos/cast --batch cast --contact you@example.org
    """
    from castline.collect.cast import read_cast
    from castline.collect.photos import CONSENT, MANIFESTS
    from castline.collect.photos import collect_photos as run
    from castline.collect.polite import Polite
    from castline.collect.wikimedia import WIKIMEDIA, on_loopback
    from castline.forgetting.register import read_register
    from castline.project import check_in_project
    from castline.text import short

    check_in_project()
    sites = on_loopback(api) if api else WIKIMEDIA
    polite = Polite(contact, sites.origins, 0.0 if api else pause)
    found = run(read_cast(cast), out, batch, polite, each, consent or CONSENT, sites, read_register().knows)
    print(f"{found.fetched} photos fetched; {found.photos} of {found.people} people in {out}")
    print(f"manifest: {MANIFESTS / batch}.csv")
    if found.rejects:
        print(f"not taken: build/collect/{batch}.rejects.csv")
        for reason, count in found.reasons.most_common():
            print(f"  {count} × {reason.replace('_', ' ')}")
    if found.by_name:
        print("found by name alone, so look whether it is they; if not, fill in the column wikidata:")
        for person, one in found.by_name[:10]:
            print(f"  {short(person.name)}: {one.entity}, {short(one.description, 60)}")
    if found.stopped:
        raise found.stopped
    if not found.photos:
        raise CastlineError("no photo was got", f"look into build/collect/{batch}.rejects.csv")
    say_next(
        f"look through {out}: whose photos are they, and may you use them?", f"castline data add {out} --batch {batch}"
    )
