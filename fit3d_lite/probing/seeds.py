"""Several runs of one measurement: mean and spread, and whether a difference between two is more than chance.

    runs = over_seeds(lambda seed: probe_segmentation(vit, train, test, seed=seed), seeds=3)
    print(runs)                                   # mIoU 0.345 ± 0.004 …
    print(paired(runs, others, "miou"))           # others - runs: +0.012 ± 0.003, significant

Runs of equal seed share what chance decided (the rooms, the order of the photos), so two models are compared seed by
seed: the spread of the differences is usually much smaller than the spread of either.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Difference", "Runs", "over_seeds", "paired"]

SHOWN = {  # what a row shows, by the name of the number
    "miou": "mIoU", "macc": "mAcc", "aacc": "aAcc", "rmse": "RMSE", "abs_rel": "AbsRel", "delta1": "delta1",
    "accuracy": "accuracy",
}  # fmt: skip


class Runs(Sequence):
    """Results of one measurement with several seeds; a list of results with means and spreads."""

    def __init__(self, results: Iterable):
        self.results = list(results)
        if not self.results:
            raise ValueError("Runs need at least one result.")

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index):
        return self.results[index]

    def values(self, metric: str) -> list[float]:
        """One number a run, such as ``values("miou")``."""
        return [float(getattr(result, metric)) for result in self.results]

    def mean(self, metric: str) -> float:
        return statistics.mean(self.values(metric))

    def spread(self, metric: str) -> float:
        """Standard deviation over runs (n - 1 below); nan for a single run."""
        return statistics.stdev(self.values(metric)) if len(self) > 1 else math.nan

    def __str__(self) -> str:
        parts = []
        for metric, said in SHOWN.items():
            if isinstance(getattr(self.results[0], metric, None), float):
                parts.append(f"{said} {self.mean(metric):.3f} ± {self.spread(metric):.3f}")
        return f"{getattr(self.results[0], 'name', ''):24}  {'  '.join(parts)}  ({len(self)} runs)"

    __repr__ = __str__


def over_seeds(run: Callable[[int], object], seeds: int | Iterable[int] = 3) -> Runs:
    """``run(seed)`` for each seed (0, 1, 2 for ``seeds=3``), collected."""
    return Runs(run(seed) for seed in (range(seeds) if isinstance(seeds, int) else seeds))


@dataclass(frozen=True)
class Difference:
    """The mean of n paired differences, with the interval in which it lies with 95 % confidence."""

    mean: float
    spread: float  # standard deviation of the differences
    half_width: float  # of the 95 % interval (Student's t with n - 1 degrees of freedom)
    pairs: int

    @property
    def significant(self) -> bool:
        """True when the 95 % interval leaves 0 out."""
        return abs(self.mean) > self.half_width

    def __str__(self) -> str:
        low, high = self.mean - self.half_width, self.mean + self.half_width
        verdict = "significant" if self.significant else "not significant"
        return f"{self.mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f}, {self.pairs} pairs): {verdict}"


def paired(before: Runs | Sequence[float], after: Runs | Sequence[float], metric: str | None = None) -> Difference:
    """``after`` minus ``before``, run by run (a paired t-test at 5 %).

    Args:
        before, after: runs of the same seeds in the same order, with ``metric``; or plain numbers.

    Raises ValueError for lengths that differ or fewer than two pairs: one pair says nothing about chance.
    """
    from scipy.stats import t as student  # here: it takes a second to import

    first, second = (runs.values(metric) if isinstance(runs, Runs) else list(runs) for runs in (before, after))
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"A paired comparison needs the same number of runs, at least 2; got {len(first)} and {len(second)}.")
    differences = [b - a for a, b in zip(first, second, strict=True)]
    if not all(map(math.isfinite, differences)):
        raise ValueError(f"Run {[math.isfinite(d) for d in differences].index(False)} of the comparison has no finite number.")
    spread, n = statistics.stdev(differences), len(differences)
    return Difference(statistics.mean(differences), spread, float(student.ppf(0.975, n - 1)) * spread / math.sqrt(n), n)
