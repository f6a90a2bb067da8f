"""What an ablation's table says: gains with intervals, and a figure of each study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..probing.seeds import paired
from .point import OWN
from .sweep import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["METRICS", "gain_chart", "gains", "write_results"]

# Name in the table: how it is said, and whether less is better.
METRICS = {
    "miou": ("labels, mIoU", False), "rmse": ("depth, RMSE (m)", True), "recall_20": ("found again within 20 px", False),
    "recall_10": ("found again within 10 px", False), "masks": ("labels carried to other views, mIoU", False),
    "ami": ("groups, AMI", False), "pair": ("found again, motorcycle", False), "room": ("same room, whole photo", False),
    "noise": ("noise", True), "place": ("share of the place", True), "margin": ("margin", False), "auc": ("AUC", False),
    "shuffled": ("cosine, shuffled", True), "accuracy": ("single things, accuracy", False),
    "captured": ("found again, captured scene", False),
}  # fmt: skip
COLORS = {"none": "#0072B2", "wrong poses": "#D55E00", "blurred in 2D": "#E69F00", "own features": "#777777",
          "agreeing half": "#009E73"}  # fmt: skip
SAID = {"none": "3D targets"}


def gains(
    table: pd.DataFrame, study: str, metrics: Sequence[str] = tuple(METRICS), against: str | None = None
) -> pd.DataFrame:
    """Of one study: for each row, way and metric the mean, its spread over repetitions, and the gain with its 95 % interval.

    The gain is the mean paired difference to the same network before fine-tuning, judged the same way, or to the
    row ``against``, over the repetitions that both have (Student's t). Columns: row, way, metric, mean, spread, gain, low,
    high, pairs. Raises ValueError where there is no such study or row."""
    import pandas as pd

    table = table[table.study == study]
    if table.empty:
        raise ValueError(f"the table has no study {study!r}.")
    if against is not None and against not in set(table.row):
        raise ValueError(f"study {study!r} has no row {against!r}; it has {', '.join(table.row.unique())}.")
    lines = []
    for (row, way), runs in table.groupby(["row", "way"], sort=False):
        base = table[(table.row == (against or runs.against.iloc[0])) & (table.way == way)]
        both = runs.merge(base, on="repetition", suffixes=("", "_base"))
        for metric in metrics:
            pairs = both[[metric, f"{metric}_base"]].dropna() if metric in runs else ()
            if len(pairs) == 0:
                continue
            after, before = pairs[metric], pairs[f"{metric}_base"]
            line = {"row": row, "way": way, "metric": metric, "mean": runs[metric].mean(), "spread": runs[metric].std()}
            line |= {"gain": (after - before).mean(), "low": math.nan, "high": math.nan, "pairs": len(pairs)}
            if (after - before).nunique() > 1:  # one network on the same photos, measured again, is one measurement
                half = paired(list(before), list(after)).half_width
                line |= {"low": line["gain"] - half, "high": line["gain"] + half}
            lines.append(line)
    return pd.DataFrame(lines, columns=["row", "way", "metric", "mean", "spread", "gain", "low", "high", "pairs"])


def gain_chart(table: pd.DataFrame, study: str, metrics: Sequence[str] = ("miou", "rmse", "recall_20"), x: str | None = None,
               way: str = "alone", width: float = 13.0, against: str | None = None):  # fmt: skip
    """A matplotlib figure with one panel a metric: gains over the original network with 95 % intervals, up is better.

    Args:
        against: count from this row, and not from the original network.
        x: a setting whose numbers run along the axis, on a log scale; one line for each control. Without it rows stand
            below each other.
    """
    import matplotlib.pyplot as plt

    found = gains(table, study, metrics, against)
    rows = table[table.study == study].drop_duplicates("row").set_index("row")
    base = rows.against.reindex(found.row).values if against is None else against  # at 0 by its meaning
    found = found[(found.way == way) & (found.row != base)]
    metrics = [m for m in metrics if m in set(found.metric)]
    height = 3.4 if x else 1.3 + 0.3 * found.row.nunique()
    figure, panels = plt.subplots(1, len(metrics), figsize=(width, height), squeeze=False, layout="constrained", sharey=not x)
    for axes, metric in zip(panels[0], metrics, strict=True):
        said, less = METRICS[metric]
        here, sign = found[found.metric == metric].set_index("row"), -1 if less else 1
        low, high = (here.low, here.high) if not less else (-here.high, -here.low)
        gain = sign * here.gain
        title = f"{said}: {'less' if less else 'gain'}"
        title += f" {'than' if less else 'over'} {against!r}" if against else ""
        if x:
            axes.axhline(0, color="black", linewidth=0.8)
            for control, part in rows.loc[here.index].groupby("control", sort=False):
                part = part.sort_values(x)
                at = part[x].astype(float)
                axes.fill_between(at, low[part.index], high[part.index], color=COLORS.get(control), alpha=0.15, linewidth=0)
                axes.plot(at, gain[part.index], "o-", color=COLORS.get(control), label=SAID.get(control, f"control: {control}"))
            axes.set_xscale("log", base=2)
            ticks = sorted(rows.loc[here.index][x].astype(float).unique())
            axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
            axes.minorticks_off()
            axes.set_xlabel(x.replace("_", " "))
        else:
            axes.axvline(0, color="black", linewidth=0.8)
            names = list(here.index)
            colors = [COLORS.get(rows.control.get(n, "none"), "#0072B2") for n in names]
            at = range(len(names))
            axes.hlines(at, low, high, colors=colors, linewidth=2)
            axes.scatter(gain, at, c=colors, zorder=3)
            axes.set_yticks(at, [SAID.get(name, name) for name in names])
            axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(title, fontsize=10)
    if x and rows.control.nunique() > 1:
        panels[0][0].legend(fontsize=8, frameon=False)
    return figure


def write_results(studies: Sequence[Study], table: pd.DataFrame, out: str | Path) -> None:
    """``table.csv``, ``gains.csv`` and one PNG a study, of the studies that have a point. ValueError when none has."""
    import matplotlib.pyplot as plt
    import pandas as pd

    from ..viz.paper import save

    if table.empty:
        raise ValueError("no point is measured yet, so there is no table to write.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "table.csv", index=False, float_format="%.5g")
    there = [s for s in studies if s.name in set(table.study)]
    found = {s.name: gains(table, s.name).assign(study=s.name) for s in there}
    pd.concat(found.values()).to_csv(out / "gains.csv", index=False, float_format="%.4g")
    for study, way in itertools.product(there, ("alone", "beside")):
        mine = found[study.name]
        known = set(mine[(mine.way == way) & (mine.row != mine.row.map(study.against))].metric)
        metrics = [name for name in ("miou", "rmse", "accuracy", "recall_20", "captured") if name in known]
        if not metrics:
            continue  # nothing but the originals
        figure = gain_chart(table, study.name, metrics, _along(study, table[table.study == study.name]), way)
        save(figure, out / f"{study.name}_{way}.png", width=figure.get_figwidth(), dpi=110)
        plt.close(figure)


def _along(study: Study, table: pd.DataFrame) -> str | None:
    """The setting that the figure's axis shows: numbers above 0, of which nothing but the control varies beside."""
    others = [key for key in study.varied if key != "control"]
    if len(others) != 1 or table[others[0]].dtype.kind not in "if" or not (table[others[0]] > 0).all():
        return None
    key, alike = others[0], set()
    for point in study.points.values():
        if point.recipe != "none":
            changes = tuple(pair for pair in point.changes if pair[0] != key)
            alike.add(replace(point, control="none", changes=changes, **({key: OWN[key]} if key in OWN else {})))
    return key if len(alike) == 1 else None
