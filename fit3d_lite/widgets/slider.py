"""Frames under a slider. Where scripts do not run, the frames stand side by side with their labels."""

import html

from .page import Widget
from .pictures import as_picture, jpeg_uri, picture_uri

__all__ = ["Frames", "frames_slider"]

WIDTH = 830  # pixels of the page, as figures have


class Frames(Widget):
    """Frames under a slider, made by :func:`frames_slider`. ``pictures`` holds them as PIL images, which Pillow writes as an
    animation: ``first.save("a.gif", save_all=True, append_images=others, duration=150, loop=0)``."""

    pictures: list


def frames_slider(
    frames: list,  # pictures: [H, W, 3] in 0..1, PIL images, or matplotlib figures
    labels: list[str],
    caption: str = "",
    start: int = 0,
    quality: int = 82,
    width: int | None = None,
    beside=None,
    seconds: float = 0.9,
) -> Frames:
    """A slider over frames, with a play button and a button that shows them all at once.

    Args:
        labels: one short text a frame: "block 3".
        caption: what the slider runs over; also the alternative text of the pictures.
        start: frame shown first.
        quality: of the JPEGs; a frame that is smaller without loss, as maps of clusters are, becomes a PNG.
        width: of a frame, in pixels of the page; by default its own, but no more than a figure's.
        beside: a picture that stays to the left of the frames, drawn as tall as they are.
        seconds: that a frame stays when played.

    An array of less than 128 pixels a side is enlarged eightfold, so that browsers do not blur its pixels; each of them
    is then one block of a JPEG, which makes it a few kilobytes.

    Raises:
        ValueError: no frames, another number of labels, no such start, a frame of another kind, seconds not above 0.
    """
    frames, labels, caption = list(frames), [str(label) for label in labels], caption or "frames"
    if not frames or len(frames) != len(labels):
        raise ValueError(f"{len(frames)} frames with {len(labels)} labels: give one label a frame, at least one")
    if not 0 <= start < len(frames):
        raise ValueError(f"start is frame {start} of {len(frames)}")
    if seconds <= 0:
        raise ValueError(f"a frame must stay for more than 0 seconds, not {seconds:g}")
    pictures = [as_picture(frame) for frame in frames]
    photo = None if beside is None else as_picture(beside)
    wide = min(pictures[0].width, WIDTH)
    if photo:  # as tall as the frames, and together as wide as a figure
        shares = [picture.width / picture.height for picture in (photo, pictures[0])]
        wide, left = (round(WIDTH * share / sum(shares)) for share in reversed(shares))
    shots = "".join(
        f'<figure style="flex:0 1 auto;max-width:32%;margin:0"><img src="{picture_uri(picture, quality)}" '
        f'alt="{html.escape(f"{caption}: {label}", True)}" '
        f'style="width:{width or wide}px;max-width:100%;height:auto;display:block;margin:0">'
        f'<figcaption style="font-size:.85em">{html.escape(label)}</figcaption></figure>'
        for picture, label in zip(pictures, labels, strict=True)
    )
    body = f'<div style="display:flex;flex-wrap:wrap;gap:.5em;flex:0 1 auto">{shots}</div>'
    if photo:
        look = f"flex:0 0 auto;margin:0;height:auto;width:{left}px;max-width:{100 * left / WIDTH:.0f}%"
        fixed = f'<img src="{jpeg_uri(photo)}" alt="the photo" style="{look}">'
        body = f'<div style="display:flex;gap:.5em;align-items:flex-start">{fixed}{body}</div>'
    controls = (
        f'<input type="range" min="0" max="{len(frames) - 1}" value="{start}" style="flex:0 1 22em" '
        f'aria-label="{html.escape(caption, True)}"><button type="button">play</button><button type="button">all</button>'
        '<output style="font-weight:600;font-variant-numeric:tabular-nums"></output>'
    )
    title = f'<div style="margin:.2em 0">{html.escape(caption)}</div>'
    text = f"{caption}: {len(frames)} frames, {labels[0]} to {labels[-1]}"
    shown = Frames("frames", controls, body, text, title, seconds=seconds)
    shown.pictures = pictures
    return shown
