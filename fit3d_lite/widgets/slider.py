"""Frames under a slider: one piece of HTML with its pictures and a few lines of script inside.

No kernel, no widget manager, no network: it works in Colab, in Jupyter, and in a saved page. Its static twin is the
same markup: where scripts do not run, the frames stand side by side with their labels.
"""

import base64
import html
import io

import numpy as np
import torch
from torch import Tensor

__all__ = ["Frames", "frames_slider", "jpeg_uri", "picture_uri", "tile"]

WIDTH = 830  # pixels of the page, as figures have

# Finds every strip that is not yet a slider, so it needs no ids and may run any number of times.
SCRIPT = """
document.querySelectorAll('.f3d-frames:not([data-on])').forEach(box => {
  box.dataset.on = 1;
  const shots = [...box.querySelectorAll('figure')], bar = box.querySelector('.f3d-bar');
  const [range, play, all] = bar.querySelectorAll('input,button'), said = bar.querySelector('output');
  let spread = false, timer = null;
  const draw = () => {
    shots.forEach((shot, i) => {
      const on = i == range.value;
      shot.style.display = spread || on ? '' : 'none';
      shot.style.maxWidth = spread ? '' : '100%';
      shot.lastElementChild.style.display = spread ? '' : 'none';
      if (on) said.textContent = shot.lastElementChild.textContent;
    });
    all.textContent = spread ? 'one' : 'all';
    play.textContent = timer ? 'stop' : 'play';
  };
  const next = () => { range.value = (+range.value + 1) % shots.length; draw(); };
  const halt = () => { clearInterval(timer); timer = null; };
  range.oninput = () => { halt(); spread = false; draw(); };
  all.onclick = () => { halt(); spread = !spread; draw(); };
  play.onclick = () => {
    if (timer) halt();
    else { spread = false; timer = setInterval(next, 1000 * box.dataset.seconds); }
    draw();
  };
  bar.style.display = 'flex';
  draw();
});
"""


class Frames:
    """Frames under a slider; a notebook shows it as HTML. Made by :func:`frames_slider`."""

    def __init__(self, uris: list[str], labels: list[str], caption: str, start: int, width: int, beside: str = "",
                 seconds: float = 0.9):  # fmt: skip
        self.uris, self.labels, self.caption, self.start, self.width = uris, labels, caption, start, width
        self.beside = beside  # markup of the picture that stays
        self.seconds = seconds  # that a frame stays when played
        self.pictures = []  # the frames as PIL images, for save_gif and save_mp4

    def _repr_html_(self) -> str:
        shots = "".join(
            f'<figure style="flex:0 1 auto;max-width:32%;margin:0">'
            f'<img src="{uri}" alt="{html.escape(f"{self.caption}: {label}", True)}" '
            f'style="width:{self.width}px;max-width:100%;height:auto;display:block;margin:0">'
            f'<figcaption style="font-size:.85em">{html.escape(label)}</figcaption></figure>'
            for uri, label in zip(self.uris, self.labels, strict=True)
        )
        bar = (
            '<div class="f3d-bar" style="display:none;gap:.7em;align-items:center;margin:.3em 0">'
            f'<input type="range" min="0" max="{len(self.uris) - 1}" value="{self.start}" style="flex:0 1 22em" '
            f'aria-label="{html.escape(self.caption, True)}">'
            '<button type="button">play</button><button type="button">all</button>'
            '<output style="font-weight:600;font-variant-numeric:tabular-nums"></output></div>'
        )
        strip = f'<div style="display:flex;flex-wrap:wrap;gap:.5em;flex:0 1 auto">{shots}</div>'
        if self.beside:
            strip = f'<div style="display:flex;gap:.5em;align-items:flex-start">{self.beside}{strip}</div>'
        title = f'<div style="margin:.2em 0">{html.escape(self.caption)}</div>'
        style = "color:inherit;font-family:system-ui,sans-serif;max-width:62em"
        box = f'<div class="f3d-frames" data-seconds="{self.seconds:g}" style="{style}">'
        return f"{box}{title}{bar}{strip}</div><script>{SCRIPT}</script>"

    def __str__(self) -> str:
        return f"{self.caption}: {len(self.uris)} frames, {self.labels[0]} to {self.labels[-1]}"

    __repr__ = __str__

    def show(self) -> None:
        from ..course.checks import show

        show(str(self), self._repr_html_())


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
    frames = list(frames)
    if not frames or len(frames) != len(labels):
        raise ValueError(f"{len(frames)} frames with {len(labels)} labels: give one label a frame, at least one")
    if not 0 <= start < len(frames):
        raise ValueError(f"start is frame {start} of {len(frames)}")
    if seconds <= 0:
        raise ValueError(f"a frame must stay for more than 0 seconds, not {seconds:g}")
    made = [as_picture(frame) for frame in frames]
    uris = [picture_uri(picture, quality) for picture in made]
    fixed, wide = "", min(made[0].width, WIDTH)
    if beside is not None:
        photo = as_picture(beside)
        shares = [picture.width / picture.height for picture in (photo, made[0])]
        wide = round(WIDTH * shares[1] / sum(shares))
        fixed = (
            f'<img src="{jpeg_uri(photo)}" alt="the photo" style="flex:0 0 auto;margin:0;height:auto;'
            f'width:{round(WIDTH * shares[0] / sum(shares))}px;max-width:{100 * shares[0] / sum(shares):.0f}%">'
        )
    shown = Frames(uris, [str(label) for label in labels], caption or "frames", start, width or wide, fixed, seconds)
    shown.pictures = made
    return shown


def tile(
    rows: list,  # of lists of pictures [h, w, 3] in 0..1, all of one size
    gap: int = 1,
) -> Tensor:
    """Pictures in rows and columns as one picture, with ``gap`` white pixels between them."""
    sizes = {tuple(picture.shape) for row in rows for picture in row}
    if len(sizes) != 1 or len({len(row) for row in rows}) != 1:
        raise ValueError(f"tiles must have one size and fill the grid; sizes {sorted(sizes)}, rows {[len(r) for r in rows]}")
    h, w, _ = sizes.pop()
    whole = torch.ones(len(rows) * (h + gap) - gap, len(rows[0]) * (w + gap) - gap, 3)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            whole[i * (h + gap) :, j * (w + gap) :][:h, :w] = picture
    return whole


def as_base64(numbers: np.ndarray | Tensor) -> str:
    """The bytes of an array, or of a tensor on the CPU, as text for a page."""
    return base64.b64encode(np.asarray(numbers).tobytes()).decode()


def jpeg_uri(picture, quality: int = 82) -> str:
    """A PIL image as a data URI, JPEG in it."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, subsampling=0)  # halved chroma would blur the edges of colours
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def picture_uri(picture, quality: int = 82) -> str:
    """A PIL image as a data URI: JPEG, or PNG where that is smaller."""
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    lossless = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    return min(jpeg_uri(picture, quality), lossless, key=len)


def as_picture(frame):
    """A PIL picture of an array [H, W, 3] in 0..1, of a figure, or of what is one already; tiny ones are enlarged.

    Raises ValueError for other shapes and values.
    """
    from PIL import Image

    if isinstance(frame, Image.Image):
        return frame.convert("RGB")
    if hasattr(frame, "savefig"):
        out = io.BytesIO()
        frame.savefig(out, format="png", dpi=96)
        return Image.open(out).convert("RGB")
    array = frame.detach().cpu().float().numpy() if isinstance(frame, Tensor) else np.asarray(frame)
    if array.ndim != 3 or array.shape[-1] != 3 or array.min() < -0.01 or array.max() > 1.01:
        span = f" from {array.min():.3g} to {array.max():.3g}" if array.size else ""
        raise ValueError(f"a frame must be [H, W, 3] in 0..1, a PIL image or a figure, not {list(array.shape)}{span}")
    picture = Image.fromarray((array.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return picture.resize((8 * picture.width, 8 * picture.height), Image.NEAREST) if max(picture.size) < 128 else picture
