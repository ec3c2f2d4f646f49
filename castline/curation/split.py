"""Which photos are trained on, stopped by, and tested on: stratified by person, and settled for good.

- Batches are settled one after the other, in the order of the list; what an earlier one settled stays, so a new batch
  moves nothing. (Photos put into a batch that was settled before can move others of that person in it: new photos are
  a new batch.)
- In each batch, each person's photos are divided so that the shares hold for the person as a whole, by the order of a
  hash of their content: neither names nor the order of files matter. Whoever has two photos or more has one to be
  tested on and one to learn from.
- Near-duplicates, and photos of one source where sources are known, form a group, and a group is on one side: that of
  its oldest member.
- A photo that is a near-duplicate of older photos on *different* sides can be on neither, and is left out.
- Photos count as the person's whose folder they lie in, whether their faces are kept or not: what is found out about a
  label, or decided about it, moves no photo.
- Photos without a folder count as of whom the first answer of a labeller says they show, and are placed in the order of
  those answers, after the folders of their batch: each answer is like a batch of its own, so a later one moves nothing.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["BRIDGE", "PhotoToPlace", "Placed", "chance", "place", "random_side", "tied"]

BRIDGE = "near-duplicate of photos on both sides of the split"


@dataclass(frozen=True)
class PhotoToPlace:
    """A photo as the split sees it: its batch's number (or the number of its turn), its content's hash, and whom it
    shows.
    """

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


def random_side(photo: str, test: float, val: float, salt: str) -> str:
    """The side of a photo in the split that is common elsewhere: by chance alone, copies and all.

    photo: its path, so that two copies of a file are two photos.
    """
    drawn = chance(photo, f"random:{salt}")
    return "test" if drawn < test else "val" if drawn < test + val else "train"


def tied(photos: Sequence[int]) -> list[tuple[int, int]]:
    """Photos that belong together, oldest first, as pairs: each with the oldest, and with the one before it, so that
    those of one batch hold together.
    """
    return [pair for i in range(1, len(photos)) for pair in ((photos[i], photos[0]), (photos[i], photos[i - 1]))]


def place(
    photos: Sequence[PhotoToPlace],
    pairs: Sequence[tuple[int, int]],
    test: float,
    val: float,
    salt: str,
    settled: Mapping[int, Placed] | None = None,
) -> list[Placed]:
    """Group and side of each photo.

    pairs: near-duplicates and whatever else is to stay together, as indices into `photos`. Equal content is one group
    without being named. settled: photos that were placed before, by index; what is new is placed as if their batches
    were here.
    The answer does not depend on the order of `photos`, nor on batches with a higher number.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(photos)), key=lambda i: photos[i].batch):
        same[photos[i].sha256].append(i)
    twins = [pair for files in same.values() for pair in tied(files)]
    neighbours: dict[int, set[int]] = defaultdict(set)
    for a, b in [*pairs, *twins]:
        neighbours[a].add(b)
        neighbours[b].add(a)

    placed = dict(settled or {})
    sides = {known.group: known.side for known in placed.values() if known.side}
    held: dict[str, set[str]] = defaultdict(set)  # the groups of each person that are settled
    for i, known in placed.items():
        for person in photos[i].people if known.side else ():
            held[person].add(known.group)
    have = defaultdict(Counter[str], {person: Counter(map(sides.__getitem__, held[person])) for person in held})
    batches: dict[int, list[int]] = defaultdict(list)
    for i in (i for i in range(len(photos)) if i not in placed):
        batches[photos[i].batch].append(i)
    for _, members in sorted(batches.items()):
        brought: dict[str, set[str]] = defaultdict(set)  # the groups of each person that this batch brings
        for component in _components(members, neighbours):
            older = {placed[j].group for i in component for j in neighbours[i] if j in placed and placed[j].side}
            if len({sides[group] for group in older}) > 1:
                # All of them are left out: which one ties the sides together is a matter of taste.
                placed |= {i: Placed(min(photos[j].sha256 for j in component), None) for i in component}
                continue
            group = min(older) if older else min(photos[i].sha256 for i in component)
            placed |= {i: Placed(group, sides.get(group, "")) for i in component}
            for person in {person for i in component for person in photos[i].people}:
                brought[person].add(group)
            if not older:
                brought[""].add(group)
        # Photos of nobody in the cast come last, divided among themselves.
        for person in sorted(brought, key=lambda person: (person == "", person)):
            more = sorted(brought[person] - held[person], key=lambda group: (chance(group, salt), group))
            held[person].update(more)
            have[person].update(sides[group] for group in more if group in sides)
            quota = _quota(len(held[person]), test, val)
            for group in (group for group in more if group not in sides):
                sides[group] = next((side for side in ("test", "val") if have[person][side] < quota[side]), "train")
                have[person][sides[group]] += 1
        placed |= {i: Placed(placed[i].group, sides[placed[i].group]) for i in members if placed[i].side is not None}
    return [placed[i] for i in range(len(photos))]


def _quota(count: int, test: float, val: float) -> dict[str, int]:
    """How many of a person's `count` groups are for testing and for stopping; one at least is left to learn from."""
    tested = min(max(1, round(test * count)), max(0, count - 1))
    return {"test": tested, "val": min(round(val * count), max(0, count - 1 - tested))}


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
