"""The numbers of notebook 01's result card for rooms of several seeds: where its expected ranges come from.

    make bench ONLY=room_fit
"""

from __future__ import annotations

import fit3d_lite as f3d

from .report import table, write

ROOMS, VIEWS, HELD_OUT, SIZE, GAUSSIANS, STEPS = range(4), 16, 4, 128, 12_000, 100
REAL = (120, 180), 50  # of the motorcycle: height and width, steps


def mean_psnr(cloud: f3d.Gaussians, scene: f3d.Scene) -> float:
    return sum(f3d.photo_psnr(cloud, scene)) / len(scene)


def fitted(seed: int) -> dict[str, float]:
    """Held-out PSNR before a fit, and what is gained by it: with the right poses, and with those of other photos."""
    room = f3d.room(seed, VIEWS, SIZE)
    held_out = f3d.room(seed, HELD_OUT, SIZE, split="holdout")
    start = f3d.Gaussians.from_depth(room, count=GAUSSIANS)
    order = [(i + len(room) // 2) % len(room) for i in range(len(room))]
    before = mean_psnr(start, held_out)
    scenes = {"gain": room, "gain, shuffled poses": f3d.Scene(room.images[order], room.cameras)}
    return {"before, dB": before} | {
        name: mean_psnr(f3d.fit(start, scene, STEPS, progress=False, seed=seed), held_out) - before
        for name, scene in scenes.items()
    }


def motorcycle() -> tuple[float, float]:
    """dB gained by a fit to the left photo alone: on the left photo, and on the right one."""
    size, steps = REAL
    pair = f3d.captures.stereo(size=size)
    start = f3d.Gaussians.from_depth(pair[:1], count=GAUSSIANS)
    after = f3d.fit(start, pair[:1], steps, progress=False, seed=0)
    return tuple(mean_psnr(after, pair[v : v + 1]) - mean_psnr(start, pair[v : v + 1]) for v in (0, 1))


def main() -> None:
    seen, unseen = motorcycle()
    rows = []
    for seed in ROOMS:
        rows.append(fitted(seed))
        print(seed, rows[-1], flush=True)
    body = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        body.append([name, *(f"{v:.3g}" for v in [*values, min(values), max(values)])])
    header = ["held-out views", *(f"room {seed}" for seed in ROOMS), "lowest", "highest"]
    write(
        "room_fit",
        f"""# What notebook 01 measures, room by room

{VIEWS} views of {SIZE}², {GAUSSIANS:,} Gaussians, {STEPS} steps; PSNR of {HELD_OUT} views that were held out. Shuffled poses:
each photo with the camera of another, the same number of steps.

{table(header, body)}

The motorcycle at {REAL[0][1]}×{REAL[0][0]}, fitted for {REAL[1]} steps to the left photo alone: {seen:+.1f} dB on it,
{unseen:+.2f} dB on the right one.""",
    )


if __name__ == "__main__":
    main()
