"""The tables and sentences of bench/bench_probe.py."""

import statistics
from dataclasses import dataclass

from bench.report import table
from fit3d_lite import paired

ORIGINAL, LITE, CONCAT, TWICE = "original", "fine-tuned, lite recipe", "concat(original, lite)", "concat(original, original)"
UNTRAINED = "concat(original, untrained)"
METRICS = {"miou": "mIoU", "macc": "mAcc", "rmse": "RMSE, m", "abs_rel": "AbsRel", "delta1": "δ1"}
METHODS = {"knn": "k-NN", "linear": "linear"}


@dataclass(frozen=True)
class Plan:
    """What was measured: seeds, views of a room, pixels, and rooms of a seed."""

    runs: int
    views: int
    size: int
    train: int
    validation: int
    test: int


def report(plan: Plan, linear, dpt, whole, chance, seconds) -> str:
    rows = [[name, *cells(found, seconds[name])] for name, found in linear.items()]
    return f"""# What heads read from frozen features, on rooms that none of them has seen

{plan.runs} seeds. Each has its own rooms: {plan.train} to train on, {plan.validation} to choose the best head of the
training, {plan.test} to test; {plan.views} views of {plan.size}² each. Each has its own fine-tuned and untrained ViTs, and
its own head.
Mean ± standard deviation over seeds; most of that spread is the rooms, which all rows of a seed share, so rows are
compared by their differences, below.
Heads and losses are the paper's, trained by the light settings; seconds on one thread.

## Linear heads

{table(["features", *METRICS.values(), "both heads, s", "features of 100 photos, s"], rows)}

## Differences, seed by seed

{differences(plan, linear)}

## A richer head

{richer(linear, dpt)}

## Is the photo as a whole still recognised?

{whole_photos(plan, whole, chance)}
"""


def cells(found: list[dict], *more: float) -> list[str]:
    times = [statistics.mean(column(found, "seconds")), *more]
    return [*(spread(column(found, metric)) for metric in METRICS), *(f"{t:.0f}" for t in times)]


def differences(plan, linear) -> str:
    """A table of paired differences, over seeds and over rooms, and what they say in words."""
    units = {"seeds": column, "rooms": by_room}
    pairs = [(ORIGINAL, name) for name in linear if name != ORIGINAL]
    pairs += [(other, CONCAT) for other in (TWICE, UNTRAINED, "concat(original, paper)")]
    pairs += [("fine-tuned, paper recipe", LITE)]
    lines, verdicts = [], {}
    for before, after in pairs:
        line = [after, before]
        for metric, sign in (("miou", 1), ("rmse", -1)):  # 1: more is better
            for unit, numbers in units.items():
                found = paired(numbers(linear[before], metric), numbers(linear[after], metric))
                verdict = "not significant" if not found.significant else "better" if sign * found.mean > 0 else "worse"
                line.append(f"{found.mean:+.3f} ± {found.half_width:.3f}" + f" **{verdict}**" * found.significant)
                verdicts[unit, metric, before, after] = verdict
        lines.append(line)
    words = [f"- Against the original, over {unit}: {against_original(verdicts, unit)}." for unit in units]
    for before, after in pairs[len(linear) - 1 :]:
        said = [
            f"{metric} {' and '.join(f'{verdicts[unit, key, before, after]} over {unit}' for unit in units)}"
            for key, metric in (("miou", "mIoU"), ("rmse", "RMSE"))
        ]
        words.append(f"- {after} against {before}: {'; '.join(said)}.")
    header = [f"{metric}, over {unit}" for metric in ("mIoU", "RMSE, m") for unit in units]
    return (
        table(["features", "minus", *header], lines)
        + f"\n\nMean difference ± half the width of its 95 % interval, from a paired t-test over the {plan.runs} seeds,\n"
        f"and over all {plan.runs * plan.test} test rooms, each judged by its own mIoU and RMSE (not, as above, by all).\n"
        "In words, where better and worse mean that the interval leaves out 0:\n\n"
        + "\n".join(words)
        + f"\n\nOf {len(verdicts)} comparisons about {0.05 * len(verdicts):.0f} would come out as significant by chance alone."
    )


def against_original(verdicts, unit) -> str:
    parts = []
    for key, metric in (("miou", "mIoU"), ("rmse", "RMSE")):
        rows = {after: v for (u, k, before, after), v in verdicts.items() if (u, k, before) == (unit, key, ORIGINAL)}
        better, worse = (" · ".join(n for n, v in rows.items() if v == verdict) or "none" for verdict in ("better", "worse"))
        parts.append(f"{metric} better: {better}, worse: {worse}")
    return "; ".join(parts) + "; the others are not significant"


def by_room(found: list[dict], metric) -> list[float]:
    return [value for row in found for value in row[f"{metric} by room"]]


def richer(linear, dpt) -> str:
    rows = []
    for name, found in dpt.items():
        rows += [[name, "linear", *cells(linear[name])], [name, "DPT", *cells(found)]]
    gains = [
        f"{said} {paired(*(column(dpt[name], metric) for name in (TWICE, CONCAT)))}"
        for metric, said in (("miou", "mIoU"), ("rmse", "RMSE"))
    ]
    return (
        "DPT reads four blocks and has convolutions, which see neighbours. It is trained for 200 steps of 4 photos, which\n"
        "is short for it: its rows say what half a minute gives, not what it could reach, and they are compared at equal\n"
        "width, since a head that is not trained out gains from copies alone.\n\n"
        + table(["features", "head", *METRICS.values(), "both heads, s"], rows)
        + f"\n\n{CONCAT} minus {TWICE} under DPT: {'; '.join(gains)}."
    )


def whole_photos(plan, whole, chance) -> str:
    keys = [(task, method) for task in chance for method in METHODS]
    rows = [[name, *(spread(found[key]) for key in keys)] for name, found in whole.items()]
    rows.append(["always the most frequent", *(f"{statistics.mean(chance[task]):.3f}" for task, _ in keys)])
    verdicts = [f"{task}, {METHODS[m]}: {paired(whole[ORIGINAL][task, m], whole[LITE][task, m])}" for task, m in keys]
    return (
        "Accuracy from one vector a photo, the CLS token (raw RGB: the mean patch), by k-NN with 5 neighbours and by\n"
        "logistic regression.\n"
        f"*Which room*: {plan.views} views of each test room ({plan.test}) are known, {plan.views} others are asked for.\n"
        "Colors alone help a little, as the row of raw RGB shows.\n"
        "*Largest piece*: which class covers most of the photo, walls, floors, ceilings, windows and doors aside, in rooms\n"
        "not seen in training.\n\n"
        + table(["features", *(f"{task}, {METHODS[m]}" for task, m in keys)], rows)
        + f"\n\n{LITE} minus {ORIGINAL}: {'; '.join(verdicts)}."
    )


def spread(values) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def column(rows: list[dict], metric) -> list[float]:
    return [row[metric] for row in rows]
