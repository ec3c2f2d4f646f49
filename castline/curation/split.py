"""Which photos are trained on, stopped by, and tested on: decided by what a photo is, and then for good.

A group of near-duplicates goes where its oldest member's content sends it, so new batches move nothing:

- The side is read off a hash of the photo's bytes. Every person's photos are divided at the same rates.
- Batches are settled one after the other, in the order of the list; what an earlier one settled, stays.
- Where chance leaves a person without a test or a training photo, a group of the newest batch is moved over.
- A photo that is a near-duplicate of photos on *different* sides can be on neither, and is left out.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BRIDGE", "PhotoToPlace", "Placed", "chance", "place"]

BRIDGE = "near-duplicate of photos on both sides of the split"


@dataclass(frozen=True)
class PhotoToPlace:
    """A photo as the split sees it: its batch's number, its content's hash, and whom it shows."""

    batch: int
    sha256: str
    people: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Placed:
    """The group that a photo belongs to and its side: train, val or test; None for a photo between two sides."""

    group: str
    side: str | None


def chance(sha256: str, salt: str) -> float:
    """A number from 0 to 1 that a photo's content has for ever, uniform over photos."""
    digest = hashlib.sha256(f"{salt}:{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def place(
    photos: Sequence[PhotoToPlace],
    pairs: Sequence[tuple[int, int]],
    test: float,
    val: float,
    salt: str,
) -> list[Placed]:
    """Group and side of each photo.

    pairs: near-duplicates, as indices into `photos`. Equal content is one group without being named.
    The answer does not depend on the order of `photos`, nor on batches with a higher number.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(photos)), key=lambda i: photos[i].batch):
        same[photos[i].sha256].append(i)
    # Equal files are tied to the oldest of them, and to the next, so that those of one batch hold together.
    twins = [(files[i], j) for files in same.values() for i in range(1, len(files)) for j in (files[0], files[i - 1])]
    neighbours: dict[int, set[int]] = defaultdict(set)
    for a, b in [*pairs, *twins]:
        neighbours[a].add(b)
        neighbours[b].add(a)

    placed: dict[int, Placed] = {}
    sides: dict[str, str] = {}
    held: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))  # person, side: groups
    for batch in sorted({photo.batch for photo in photos}):
        members = [i for i, photo in enumerate(photos) if photo.batch == batch]
        fresh: dict[str, float] = {}
        for component in _components(members, neighbours):
            older = {placed[j].group for i in component for j in neighbours[i] if j in placed and placed[j].side}
            if len({sides[group] for group in older}) > 1:
                # All of them are left out: which one ties the sides together is a matter of taste.
                placed |= {i: Placed(min(photos[j].sha256 for j in component), None) for i in component}
                continue
            group = min(older) if older else min(photos[i].sha256 for i in component)
            if not older:
                fresh[group] = chance(group, salt)
                sides[group] = "test" if fresh[group] < test else "val" if fresh[group] < test + val else "train"
            for i in component:
                placed[i] = Placed(group, sides[group])
        people: dict[str, set[str]] = defaultdict(set)
        for i in members:
            for person in photos[i].people:
                people[person].add(placed[i].group)
        for person in sorted(people):
            _cover({group for group in people[person] if group in fresh}, held[person], fresh, sides)
        for i in members:
            side = sides.get(placed[i].group) if placed[i].side else None
            placed[i] = Placed(placed[i].group, side)
            for person in photos[i].people:
                if side:
                    held[person][side].add(placed[i].group)
    return [placed[i] for i in range(len(photos))]


def _components(members: Sequence[int], neighbours: dict[int, set[int]]) -> list[list[int]]:
    """The connected components of one batch's photos, smallest index first."""
    inside, seen, components = set(members), set[int](), []
    for first in members:
        if first in seen:
            continue
        component, waiting = [], [first]
        seen.add(first)
        while waiting:
            i = waiting.pop()
            component.append(i)
            for j in neighbours[i] & inside - seen:
                seen.add(j)
                waiting.append(j)
        components.append(sorted(component))
    return components


def _cover(fresh_groups: set[str], held: dict[str, set[str]], fresh: dict[str, float], sides: dict[str, str]) -> None:
    """See to it that one person has something to be tested on, and something to learn from."""
    have = {side: set(held[side]) for side in ("train", "val", "test")}
    for group in fresh_groups:
        have[sides[group]].add(group)
    if sum(map(len, have.values())) < 2:
        return
    order = sorted(fresh_groups, key=lambda group: fresh[group])
    if not have["test"] and order:
        sides[order[0]] = "test"
        have["test"].add(order[0])
        for side in ("train", "val"):
            have[side].discard(order[0])
    movable = [group for group in order if have["test"] != {group}]
    if not have["train"] and movable:
        sides[movable[-1]] = "train"
