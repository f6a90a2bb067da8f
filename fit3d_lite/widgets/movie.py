"""Frames as a file: an animated GIF by Pillow, which is always there, or an MP4 by ffmpeg, where that is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ..base.whole import replace_when_whole
from .slider import Frames, as_picture

__all__ = ["find_ffmpeg", "save_gif", "save_mp4"]


def save_gif(frames, path, seconds: float = 0.15) -> Path:
    """Write frames as a GIF that loops. It has 256 colours a frame: fine for clusters, grainy for photos.

    Args:
        frames: what :func:`frames_slider` made, or a list of what it takes.
        seconds: that a frame stays; GIFs count hundredths.

    Raises:
        ValueError: no frames, frames of different sizes, another ending than .gif, or seconds below 0.02 (which players
        replace by something slower).
    """
    pictures, path = _checked(frames, path, ".gif")
    if seconds < 0.02:
        raise ValueError(f"a GIF's frame stays for at least 0.02 seconds, not {seconds:g}")
    with replace_when_whole(path) as partial:
        first, *rest = pictures
        first.save(partial, "GIF", save_all=True, append_images=rest, duration=round(1000 * seconds), loop=0)
    return path


def save_mp4(frames, path, seconds: float = 0.1, quality: int = 20) -> Path:
    """Write frames as an MP4 (H.264), which every browser plays, by an ffmpeg found on this machine.

    Args:
        frames: what :func:`frames_slider` made, or a list of what it takes.
        seconds: that a frame stays.
        quality: H.264's constant rate factor; 18 is very good, 28 small.

    Raises:
        RuntimeError: there is no ffmpeg, or it failed; the message holds its last line.
        ValueError: no frames, frames of different sizes, another ending than .mp4, or seconds not above 0.
    """
    pictures, path = _checked(frames, path, ".mp4")
    if seconds <= 0:
        raise ValueError(f"a frame must stay for more than 0 seconds, not {seconds:g}")
    program = find_ffmpeg()
    if program is None:
        raise RuntimeError(
            "an MP4 needs ffmpeg, which is not on this machine: install it (or the package imageio-ffmpeg), or use save_gif"
        )
    # H.264's usual colours come in blocks of 2 × 2 pixels, so an odd last row or column is cut off.
    width, height = (n - n % 2 for n in pictures[0].size)
    command = [program, "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
               "-r", f"{1 / seconds:g}", "-i", "-", "-c:v", "libx264", "-crf", str(quality), "-pix_fmt", "yuv420p",
               "-movflags", "+faststart", "-f", "mp4"]  # fmt: skip
    raw = b"".join(picture.crop((0, 0, width, height)).tobytes() for picture in pictures)
    with replace_when_whole(path) as partial:
        done = subprocess.run([*command, str(partial)], input=raw, capture_output=True)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"ffmpeg could not write {path.name}: {said[-1] if said else f'code {done.returncode}'}")
    return path


def find_ffmpeg() -> str | None:
    """The ffmpeg on the PATH, or the one that the package imageio-ffmpeg brings, or None."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # the package is there, its program is not
        return None


def _checked(frames, path, ending: str):
    path = Path(path)
    if path.suffix.lower() != ending:
        raise ValueError(f"the file must end in {ending}, not {path.name!r}")
    pictures = frames.pictures if isinstance(frames, Frames) else [as_picture(frame) for frame in frames]
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) != 1:
        raise ValueError(f"a film needs frames of one size, and there are {len(pictures)} frames of {sizes or 'none'}")
    return pictures, path
