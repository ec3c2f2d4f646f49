"""Faces of one person, as far as a face model can tell: average-linkage clustering without a matrix of pairs."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["linked"]

# Similarities of the same two clusters, computed in another order, may differ in the last bits of float32.
_ROUNDING = 1e-6


def linked(vectors: NDArray[np.float32], least: float) -> list[list[int]]:
    """The clusters of `vectors`, (N, D) float32 of unit length, as rows: largest first, then by their first row.

    Two clusters are joined, the most similar ones first, while the mean cosine over all pairs of their members is at
    least `least`, which has to be above 0. Every row is in one cluster, perhaps alone.

    The mean cosine of two clusters is the dot product of their means, so nothing is kept but a mean for each: memory
    is that of `vectors`. Clusters that are each other's nearest are joined at once, wherever they are; for average
    linkage that gives what joining the nearest of all would. At most about 3 N products of (N, D) and (D,).

    Source: the nearest-neighbour chain of Murtagh, A survey of recent advances in hierarchical clustering algorithms,
    1983.
    """
    means = np.array(vectors, np.float32)
    members = [[row] for row in range(len(means))]
    done: list[list[int]] = []
    chain: list[int] = []
    first = 0  # no cluster before it is open
    while len(members):
        if not chain:
            while first < len(members) and not members[first]:
                first += 1
            if 2 * first > len(members) or first == len(members):  # closed ones are in the way
                means = means[first:]
                members = members[first:]
                first = 0
                continue
            chain.append(first)
        tip = chain[-1]
        near = means @ means[tip]  # 0, so below `least`, for clusters that are closed
        near[tip] = -1
        nearest = int(near.argmax())
        if len(chain) > 1 and near[nearest] <= near[chain[-2]] + _ROUNDING:
            nearest = chain[-2]
        if near[nearest] < least:  # it never will be nearer to any: joining others only takes the mean
            done.append(members[tip])
            members[tip], means[tip] = [], 0
            chain.pop()
        elif len(chain) > 1 and nearest == chain[-2]:
            sizes = len(members[tip]), len(members[nearest])
            means[nearest] = (sizes[0] * means[tip] + sizes[1] * means[nearest]) / np.float32(sum(sizes))
            members[nearest] += members[tip]
            members[tip], means[tip] = [], 0
            del chain[-2:]
        else:
            chain.append(nearest)
    return sorted((sorted(rows) for rows in done), key=lambda rows: (-len(rows), rows[0]))
