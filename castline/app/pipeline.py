"""The pipeline as DVC has it: its stages, what follows from what, and what would be run again."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock

from castline.errors import CastlineError
from castline.text import short

__all__ = ["Dag", "Node", "Pipeline", "Stale", "dag", "drawn", "stale"]

_PATIENCE = 300  # seconds; it hashes what has changed, and that may be many photos
_MANY = 3  # batches that are still drawn one by one
_NODE, _EDGE = re.compile(r'"(.*)";'), re.compile(r'"(.*)" -> "(.*)";')
Stale = Mapping[str, Sequence[str]]
"""Stages that would be run again, and why: each reason a line, such as "changed deps params.yaml"."""


@dataclass(frozen=True)
class Node:
    """What is drawn as one: a stage, or all of a stage's batches. stages: their names as DVC has them."""

    name: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Dag:
    """stages: names, such as faces@first; files that DVC tracks are among them. arrows: what is made first, and what
    is made of it.
    """

    stages: tuple[str, ...]
    arrows: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """As drawn: stages of many batches are one."""
        grouped: dict[str, list[str]] = {}
        for stage in self.stages:
            grouped.setdefault(stage.partition("@")[0], []).append(stage)
        nodes = []
        for name, stages in grouped.items():
            nodes += [Node(name, tuple(stages))] if len(stages) > _MANY else [Node(one, (one,)) for one in stages]
        return tuple(nodes)

    @cached_property
    def drawn_arrows(self) -> list[tuple[str, str]]:
        """Between nodes; without those that others imply."""
        of = {stage: node.name for node in self.nodes for stage in node.stages}
        next_of: dict[str, set[str]] = {node.name: set() for node in self.nodes}
        for one, other in self.arrows:
            if one in of and other in of and of[one] != of[other]:
                next_of[of[one]].add(of[other])
        beyond = {name: _reached(name, next_of) for name in next_of}
        return sorted(
            (one, other)
            for one, others in next_of.items()
            for other in others
            if not any(other in beyond[between] for between in others - {other})
        )


def _reached(start: str, next_of: Mapping[str, Collection[str]]) -> set[str]:
    """All that is made of a node, directly or not."""
    found: set[str] = set()
    open_ones = [start]
    while open_ones:
        new = set(next_of.get(open_ones.pop(), ())) - found
        found |= new
        open_ones += new
    return found


def dag() -> Dag:
    """The pipeline of this folder.

    Raises: CastlineError when DVC cannot say.
    """
    stages, arrows = [], set()
    for line in _dvc("dag", "--dot").splitlines():
        if edge := _EDGE.fullmatch(line.strip()):
            arrows.add((edge[1], edge[2]))
        elif node := _NODE.fullmatch(line.strip()):
            stages.append(node[1])
    return Dag(tuple(dict.fromkeys(stages)), frozenset(arrows))


def stale() -> Stale:
    """What `dvc repro` would run again, and why. It takes seconds, or longer where many photos are new.

    Raises: CastlineError when DVC cannot say, as while a `dvc repro` runs.
    """
    from castline.versions.release import reasons

    try:
        found = json.loads(_dvc("status", "--json"))
    except ValueError as error:
        raise CastlineError("dvc status did not answer as expected", "dvc status") from error
    return {str(stage): reasons(changes) for stage, changes in found.items()} if isinstance(found, dict) else {}


def drawn(dag: Dag, stale: Stale | None) -> str:
    """The pipeline for Graphviz, readable on light and on dark. stale: None where nobody has looked.

    What is stale, and what is made of that, is said by shape or line and by word, not by colour alone. Names may be
    anybody's: they are quoted.
    """
    lines = [
        "digraph {",
        'bgcolor="transparent"; rankdir="TB"; ranksep="0.35"; nodesep="0.25";',
        'node [style="filled", shape="box", fontname="sans-serif", fontsize="13", margin="0.16,0.08",'
        ' color="#0072b2", fillcolor="#dcebf5", fontcolor="#14181d"];',
        'edge [color="#808890", arrowsize="0.7"];',
    ]
    next_of: dict[str, list[str]] = {}
    for one, other in dag.drawn_arrows:
        next_of.setdefault(one, []).append(other)
    old = {node.name: sum(stage in stale for stage in node.stages) if stale else 0 for node in dag.nodes}
    after = set().union(*(_reached(name, next_of) for name, count in old.items() if count))
    for node in dag.nodes:
        name, _, batch = node.name.partition("@")
        label, style = [short(name), *([short(batch)] if batch else [])], ""
        if len(node.stages) > 1:
            label.append(f"{len(node.stages)} batches")
        if count := old[node.name]:
            label.append("stale" if count == len(node.stages) else f"{count} stale")
            style = ' shape="octagon", peripheries="2", color="#d55e00", fillcolor="#fbe3d3"'
        elif node.name in after:
            label.append("may follow")
            style = ' style="filled,dashed", color="#d55e00"'
        lines.append(f"{_quoted(node.name)} [label={_quoted(*label)}{style}];")
    lines += [f"{_quoted(one)} -> {_quoted(other)};" for one, other in dag.drawn_arrows]
    return "\n".join([*lines, "}"])


def _quoted(*lines: str) -> str:
    """A string of the DOT language, each line of it drawn as it is: there, a backslash would begin an escape."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _dvc(*arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_PATIENCE, env=quiet
        )
    except subprocess.TimeoutExpired as error:
        raise CastlineError(f"dvc {arguments[0]} takes longer than {_PATIENCE} s", f"dvc {arguments[0]}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        if "Unable to acquire lock" in said or "is busy" in said:
            raise CastlineError("DVC is at work here, so it cannot be asked", "wait until dvc repro has ended")
        reason = next((line.removeprefix("ERROR: ") for line in said.splitlines() if "ERROR" in line), said[-300:])
        raise CastlineError(f"dvc {arguments[0]}: {reason}", f"dvc {arguments[0]}")
    return done.stdout.decode(errors="replace")


class Pipeline:
    """What DVC said of this folder, asked in a thread. One of these serves all visitors.

    stale: the last answer, or the one that is awaited; None before anybody asked.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "dvc")
        self._lock = Lock()
        self._dag: tuple[object, Future[Dag]] | None = None
        self.stale: Future[Stale] | None = None

    def dag(self) -> "Future[Dag]":
        """Asked again when the files change that say what the stages are."""
        seen = [(path, path.stat().st_mtime_ns) for path in map(Path, ("dvc.yaml", "params.yaml")) if path.is_file()]
        with self._lock:
            if self._dag is None or self._dag[0] != seen:
                self._dag = seen, self._thread.submit(dag)
            return self._dag[1]

    def check(self) -> None:
        """Ask anew what there is and what is stale, unless that is being asked."""
        with self._lock:
            if self.stale is None or self.stale.done():
                self.stale, self._dag = self._thread.submit(stale), None
