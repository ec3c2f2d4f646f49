"""`castline forget`: a person is taken out, and what still holds them is listed."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from castline.commands.say import AsJson, say_next

if TYPE_CHECKING:
    from castline.forgetting.forget import Plan

__all__ = ["forget"]

_SHOWN = 10


def forget(
    name: Annotated[str, typer.Argument(help="As the person's folder is called.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only shown.")] = False,
    alike: Annotated[
        bool, typer.Option("--alike", help="Also faces without a name that look like theirs: look at the list first.")
    ] = False,
    delete_photos: Annotated[
        bool, typer.Option("--delete-photos", help="Also delete the photos in folders of that name.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Who asked, or why, for the audit; without the name.")] = "",
    as_json: AsJson = False,
) -> None:
    """Take a person out: labels now; rows, features, memory and class with the next `dvc repro`.

    Shows what there is, and which versions, caches and remotes hold them, with the commands that purge each.

    Example: castline forget "Jane Doe" --reason "request 17" --yes
    """
    from castline.forgetting.forget import described, look
    from castline.forgetting.forget import forget as do

    plan = look(name, alike)
    deleted = do(plan, reason, delete_photos) if yes else 0
    if as_json:
        print(json.dumps({"done": yes, "photos_deleted": deleted, **described(plan)}, indent=2))
        return
    _show(plan, yes, delete_photos)
    if not yes:
        say_next("the same with --yes; nothing is changed yet")
    else:
        say_next(
            "dvc repro && git add -A && git commit", "castline release, then purge what still holds them, as above"
        )


def _show(plan: "Plan", done: bool, delete_photos: bool) -> None:
    from castline.text import short

    labels = sum(one.entries for one in plan.labels.values())
    print(f"{'taken out' if done else 'to be taken out'}, of {short(plan.name)}:")
    print(f"  {len(plan.photos)} photos and {plan.faces} faces in photos of others; batches: {', '.join(plan.batches)}")
    print(f"  {labels} entries of labels" + (f" in {', '.join(map(str, plan.labels))}" if labels else ""))
    for file, tasks in plan.tasks.items():
        some = ", ".join(map(str, tasks[:_SHOWN])) + (", …" if len(tasks) > _SHOWN else "")
        print(f"  {file}: Label Studio's own tasks {some} are still there: delete them there, too")
    rows = ", ".join(f"{count} of {path}" for path, count in plan.rows.items())
    print(f"with the next dvc repro: rows {rows or 'none'}; their class of the model; all reports")
    if plan.folders:
        what = ("deleted" if done else "to be deleted") if delete_photos else "stay, passed over: --delete-photos"
        print(f"photos in folders of that name ({what}):")
        _some([short(str(path), 100) for path in plan.folders])
    if plan.alike:
        print("faces without a name that look like theirs; --alike takes them, too:")
        _some([f"{short(one.photo, 80)}, face {one.face} ({one.similarity:.2f})" for one in plan.alike])
    if plan.still_named:
        print("the name also occurs here; change it by hand:")
        _some([short(path, 100) for path in plan.still_named])
    print("what still holds them, and how each is purged, once the new model is committed:")
    for holder in plan.holders:
        print(f"  {short(holder.place, 100)}: {holder.what}")
        for command in holder.commands:
            print(f"    {command}")


def _some(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        print(f"  {line}")
    if len(lines) > _SHOWN:
        print(f"  and {len(lines) - _SHOWN} more: --json lists all")
