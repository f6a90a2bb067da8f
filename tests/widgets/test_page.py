"""page.js in a real browser: every widget is moved, clicked or turned, and the page shows what Python computes for it.

Skipped where there is no Chromium. One start of it serves all tests: a page with all widgets plays SCRIPT to itself and
writes what it sees into its own text.
"""

import base64
import html
import io
import json
import re
import shutil
import subprocess

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from blobs import blobs, rotated
from clouds import cube
from PIL import Image
from two_planes import position_features, two_planes

from fit3d_lite import viz
from fit3d_lite.correspondence.click import click_match, match_patch, patch_truth

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

SCRIPT = """
const said = {}, $ = (query, among = document) => among.querySelector(query);
const all = (query, among = document) => [...among.querySelectorAll(query)];
const wait = ms => new Promise(done => setTimeout(done, ms));
const set = (range, value) => { range.value = value; range.dispatchEvent(new Event('input')); };
const clickPatch = (photo, row, col, h, w) => {  // on whatever lies on top there, as a finger would
  photo.scrollIntoView({block: 'center'});
  const at = photo.getBoundingClientRect();
  const x = at.left + (col + 0.5) / w * at.width, y = at.top + (row + 0.5) / h * at.height;
  document.elementFromPoint(x, y).dispatchEvent(new MouseEvent('click', {clientX: x, clientY: y, bubbles: true}));
};
const pixels = canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
const play = async () => {
  const frames = $('.f3d-frames'), [range, film, spread] = all('input,button', frames);
  const visible = () => all('figure', frames).map(shot => getComputedStyle(shot).display != 'none');
  said.frames = [[$('output', frames).textContent, visible()]];
  set(range, 2); said.frames.push([$('output', frames).textContent, visible()]);
  spread.click(); said.frames.push([spread.textContent, visible()]);
  spread.click(); film.click(); await wait(75); film.click();
  said.frames.push([film.textContent, $('output', frames).textContent]);

  const click = $('.f3d-click');
  set($('input', click), 100);
  clickPatch(all('img', click)[3], 4, 1, 6, 8);
  said.click = [$('output', click).textContent, all('canvas', click).map(pixels)];

  const bins = $('.f3d-bins');
  clickPatch($('img', bins), 5, 7, 8, 12);
  said.bins = [$('output', bins).textContent, pixels($('canvas', bins))];

  const match = $('.f3d-match');
  said.match = ASKED.map(([row, col]) => {
    clickPatch($('img', match), row, col, 16, 16);
    const [here, found] = all('.f3d-model div div', match);
    const at = spot => [parseFloat(spot.style.left), parseFloat(spot.style.top)];
    return [$('output', match).textContent, getComputedStyle(here).display, at(here), at(found)];
  });

  const points = $('.f3d-points'), canvas = $('canvas', points), shot = () => canvas.toDataURL();
  said.still = getComputedStyle($('img', points)).display;
  said.points = [shot()];
  canvas.dispatchEvent(new PointerEvent('pointermove', {buttons: 1, movementX: -60, movementY: 15}));
  await wait(50); said.points.push(shot());
  all('button', points)[1].click();
  const [front, top] = all('input', points);
  set(front, 0.8); set(top, 0.3);
  await wait(50); said.points.push(shot());
};
const tell = () => { document.body.innerHTML = '<pre id="said"></pre>'; $('#said').textContent = JSON.stringify(said); };
addEventListener('load', () => play().catch(error => { said.error = String(error.stack); }).finally(tell));
"""
CLOUD = cube(3000)
PAINT = (CLOUD - CLOUD.amin(0)) / (CLOUD.amax(0) - CLOUD.amin(0))
SIZES = (8, 12)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(what went into the widgets, what the page said)."""
    g = torch.Generator().manual_seed(0)
    feats, (h, w) = blobs(views=2), SIZES
    probabilities = torch.rand(40, h, w, generator=g) ** 4
    scene = two_planes()
    there = F.adaptive_avg_pool2d(position_features(scene), 16)
    _, seen = patch_truth(scene, 0, 1, 16, 16)
    asked = [divmod(int((seen == wanted).nonzero()[-1, 0]), 16) for wanted in (True, False)]
    made = {
        "frames": viz.frames_slider([torch.rand(8, 8, 3)] * 3, list("abc"), start=1, seconds=0.05),
        "click": viz.click_similarity(torch.rand(2, 3, 48, 64), {"one": feats, "other": rotated(feats)[:, :5]}),
        "bins": viz.click_distribution(
            torch.rand(3, 32, 48), probabilities / probabilities.sum(0), torch.linspace(0.5, 8.5, 40), grid=SIZES, groups=10
        ),
        "match": click_match(scene, 0, 1, {"exact": there}),
        "points": viz.point_view(CLOUD, {"place": PAINT, "other": 1 - PAINT}, yaw=40, pitch=20),
        "scene": (scene, there, asked),
    }
    body = "".join(widget._repr_html_() for name, widget in made.items() if name != "scene")
    script = SCRIPT.replace("ASKED", json.dumps(asked))
    folder = tmp_path_factory.mktemp("page")
    file = folder / "page.html"
    # A budget of virtual time counts timers and not frames, and a browser without a window need not draw any.
    frames = "<script>requestAnimationFrame = draw => setTimeout(draw, 16)</script>"
    file.write_text(f'<!doctype html><meta charset="utf-8"><body>{frames}{body}<script>{script}</script>', encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
               "--window-size=1000,800", "--virtual-time-budget=20000", "--dump-dom", file.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, timeout=120, text=True, encoding="utf-8").stdout
    said = json.loads(html.unescape(re.search(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert "error" not in said, said["error"]
    return made, said


def test_the_slider_shows_one_frame_or_all_and_plays(page):
    _, said = page
    first, moved, spread, played = said["frames"]
    assert first == ["b", [False, True, False]] and moved == ["c", [False, False, True]]
    assert spread == ["one", [True] * 3]
    assert played == ["play", "a"]  # one step on from the last frame, and stopped again


def test_a_click_on_a_similarity_map_colors_every_view_of_every_model(page):
    made, said = page
    text, maps = said["click"]
    assert text == "view 1, row 4, col 1" and len(maps) == 4  # two models of two views, each laid over once
    sent = re.findall(r'data-codes="([^"]+)"', made["click"]._repr_html_())
    for n, codes in enumerate(np.frombuffer(base64.b64decode(text), np.int8) for text in sent):
        code = torch.from_numpy(codes.astype(np.float32)).reshape(2, 6, 8, -1).movedim(-1, 1)
        cosine = viz.similarity(code, 1, 4, 1).clamp_min(0).numpy()
        expected = matplotlib.colormaps["viridis"](cosine)[..., :3] * 255
        expected[1, 4, 1] = 255, 0, 80
        shown = np.array(maps[2 * n : 2 * n + 2]).reshape(2, 6, 8, 4)
        assert (shown[..., 3] == 255).all() and np.abs(shown[..., :3] - expected).max() < 6  # a step of the ramp


def test_a_click_on_a_photo_draws_the_distribution_there(page):
    made, said = page
    text, pixels = said["bins"]
    assert re.fullmatch(r"row 5, col 7: mean \d\.\d\d m \(orange\), truth unknown \(dashed\)", text)
    codes = re.search(r'data-codes="([^"]+)"', made["bins"]._repr_html_())[1]
    bars = np.frombuffer(base64.b64decode(codes), np.uint8).reshape(*SIZES, 10)[5, 7]
    chart = np.array(pixels).reshape(260, 420, 4)[..., :3]
    blue = (np.abs(chart - [0x56, 0xB4, 0xE9]).max(-1) < 3).sum(0).reshape(10, 42).max(1)  # its height, by group
    assert np.abs(blue - 238 * 0.9 * bars / bars.max()).max() < 2


def test_a_click_on_a_match_shows_the_found_and_the_true_place(page):
    made, said = page
    scene, feats, asked = made["scene"]
    uv, _ = patch_truth(scene, 0, 1, 16, 16)
    for at, visible, (text, display, here, found) in zip(asked, (True, False), said["match"], strict=True):
        _, best = match_patch(feats, 0, 1, at)
        assert found == pytest.approx([100 * (best[1] + 0.5) / 16, 100 * (best[0] + 0.5) / 16])
        true = uv[at[0] * 16 + at[1]]
        if visible:
            assert display == "block" and here == pytest.approx((100 * true / scene.width).tolist(), abs=0.2)
            off = (torch.tensor([best[1] + 0.5, best[0] + 0.5]) * scene.width / 16 - true).norm()
            assert abs(float(text.removesuffix(" px off")) - off) < 1
        else:
            assert display == "none" and text == "not in view"


def test_points_look_as_the_still_before_and_after_a_turn_another_paint_and_two_cuts(page):
    made, said = page
    assert said["still"] == "none"  # the picture makes way
    turned = dict(yaw=40 + np.degrees(0.4), pitch=20 + np.degrees(0.1))
    expected = [
        made["points"],
        viz.point_view(CLOUD, PAINT, **turned),
        viz.point_view(CLOUD, 1 - PAINT, cut_front=0.8, cut_top=0.3, **turned),
    ]
    for uri, view in zip(said["points"], expected, strict=True):
        shot = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        ground = Image.new("RGBA", shot.size, "white")
        ground.alpha_composite(shot)
        differs = np.abs(np.asarray(ground)[..., :3] / 255 - view.still.numpy()).max(-1) > 0.01
        assert differs.mean() < 0.005 and (view.still < 1).float().mean() > 0.05


INSIDE = """
const said = {errors: []};
onerror = message => { said.errors.push(String(message)); };
addEventListener('securitypolicyviolation', event => said.errors.push(event.violatedDirective));
console.error = (...words) => said.errors.push(words.join(' '));
addEventListener('load', () => setTimeout(() => {
  const widgets = [...document.querySelectorAll('body > [class^=f3d-]')];
  said.bars = widgets.map(w => getComputedStyle(w.querySelector('.f3d-bar')).display);
  said.ink = widgets.map(w => getComputedStyle(w).color);
  said.width = document.documentElement.scrollWidth;
  parent.postMessage(said, '*');
}, 300));
"""


def test_in_a_sandboxed_frame_as_wide_as_a_phone_widgets_live_fit_and_take_the_pages_ink(page, tmp_path):
    made, _ = page
    body = "".join(widget._repr_html_() for name, widget in made.items() if name != "scene")
    themes = {"light": ("#111", "#fff"), "dark": ("#eee", "#111")}
    frames = ""
    for theme, (ink, paper) in themes.items():
        style = f"<style>:root {{ color-scheme: {theme}; }} body {{ color: {ink}; background: {paper}; margin: 8px; }}</style>"
        inside = f'<!doctype html><meta charset="utf-8">{style}<body><script>{INSIDE}</script>{body}'
        # As notebooks show outputs: scripts may run, nothing of the page around can be reached.
        frames += f'<iframe sandbox="allow-scripts" width="375" height="700" srcdoc="{html.escape(inside, True)}"></iframe>'
    listen = """<pre id="said"></pre><script>const heard = [];
      addEventListener('message', event => { heard.push(event.data);
        document.getElementById('said').textContent = JSON.stringify(heard); });</script>"""
    file = tmp_path / "frames.html"
    file.write_text(f'<!doctype html><meta charset="utf-8"><body>{listen}{frames}', encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
               "--disable-features=IsolateSandboxedIframes", "--virtual-time-budget=20000", "--dump-dom",
               file.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, timeout=120, text=True, encoding="utf-8").stdout
    heard = json.loads(html.unescape(re.search(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert len(heard) == 2 and {said["ink"][0] for said in heard} == {"rgb(17, 17, 17)", "rgb(238, 238, 238)"}
    for said in heard:
        assert said["errors"] == [] and len(said["bars"]) == 5 and "none" not in said["bars"]
        assert len(set(said["ink"])) == 1 and said["width"] <= 375
