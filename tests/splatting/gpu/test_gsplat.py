"""gsplat behind splat.py, without a GPU: a stand-in with gsplat's signatures, and how its binary is found.

That gsplat's own kernels give torch's numbers is tested on a GPU (test_gpu_parity.py).
"""

import inspect
import math
import subprocess
import sys
import time
from pathlib import Path

import pretend_gsplat
import pytest
import torch
from clouds import camera, cloud, parts, relative

from fit3d_lite import Gaussians
from fit3d_lite import render as render_any
from fit3d_lite.splatting.gpu import gsplat_draw
from fit3d_lite.splatting.gpu.gsplat_draw import library_path

# The stand-in inverts 2×2 covariances in float32, as gsplat does, and a needle's inverse loses three digits by that
# (1e-7 becomes 1e-4). A wrong convention is off by a hundredth and more.
CLOSE = 5e-4


@pytest.fixture
def gsplat(monkeypatch):
    """The stand-in in gsplat's place."""
    monkeypatch.setitem(sys.modules, "gsplat", pretend_gsplat.functions())
    pretend_gsplat.CHANNELS_DRAWN.clear()
    return pretend_gsplat


def small(seed=1, count=120):
    return cloud(count=count, seed=seed, size=(0.05, 0.4)), camera(24, 20)


def test_picture_opacity_and_gradients_equal_the_torch_path(gsplat):
    c, cam = small()
    g = torch.Generator().manual_seed(3)
    values, push = torch.randn(len(c), 5, generator=g), torch.randn(20, 24, 6, generator=g)
    results = []
    for draw in (lambda *a: gsplat_draw.render(*a, 0.2), lambda k, *a: render_any(k, *a, backend="torch")):
        leaf = [p.clone().requires_grad_() for p in [*parts(c), values]]
        image, alpha = draw(Gaussians(*leaf[:4], c.colors), cam, leaf[4])
        assert image.shape == (20, 24, 5) and alpha.shape == (20, 24)
        (torch.cat([image, alpha[..., None]], -1) * push).sum().backward()
        results.append([image, alpha, *(p.grad for p in leaf)])
    names = ["image", "alpha", "means", "quats", "scales", "opacities", "values"]
    for name, mine, theirs in zip(names, *results, strict=True):
        assert relative(mine, theirs) < CLOSE, name


def test_opacity_alone_passes_gradients(gsplat):
    c, cam = small()
    opacities = c.opacities.clone().requires_grad_()
    _, alpha = gsplat_draw.render(Gaussians(c.means, c.quats, c.scales, opacities, c.colors), cam, c.colors, 0.2)
    alpha.sum().backward()
    assert float(opacities.grad.abs().sum()) > 1


@pytest.mark.parametrize(
    ("width", "chunk", "passes"), [(3, 32, [3]), (70, 32, [32, 32, 6]), (70, 512, [32, 32, 6]), (9, 4, [4, 4, 1])]
)
def test_wide_values_are_drawn_at_most_32_channels_at_a_time(gsplat, width, chunk, passes):
    c, cam = small(count=30)
    values = torch.randn(len(c), width)
    image, _ = gsplat_draw.render(c, cam, values, 0.2, channel_chunk=chunk)
    assert gsplat.CHANNELS_DRAWN == passes
    assert relative(image, render_any(c, cam, values, backend="torch")[0]) < CLOSE


def test_the_near_plane_is_ours(gsplat):
    c, cam = small()
    z = (c.means @ cam.world_to_camera[2, :3]) + cam.world_to_camera[2, 3]
    near = float(z.sort().values[len(z) // 2 : len(z) // 2 + 2].mean())  # between two Gaussians
    image, _ = gsplat_draw.render(c, cam, c.colors, near)
    assert relative(image, render_any(c[z > near], cam, backend="torch")[0]) < CLOSE
    gaussian, _ = gsplat_draw.pairs(c, cam, near)
    assert len(gaussian) and float(z[gaussian].min()) >= near


def test_pairs_come_by_pixel_and_in_a_pixel_from_near_to_far(gsplat):
    c, cam = small(seed=4)
    gaussian, pixel = gsplat_draw.pairs(c, cam, 0.2)
    assert gaussian.dtype == pixel.dtype == torch.int64 and not gaussian.requires_grad
    assert (pixel.diff() >= 0).all()
    z = (c.means @ cam.world_to_camera[2, :3])[gaussian]
    assert (z.diff()[pixel.diff() == 0] >= 0).all()
    # The torch path's matrix has an entry for just these pairs.
    from fit3d_lite import view_matrix

    W = view_matrix(c, cam, backend="torch").to_dense()
    listed = torch.zeros_like(W, dtype=torch.bool)
    listed[pixel, gaussian] = True
    assert listed.sum() == len(pixel) > 2000
    assert int((listed != (W > 0)).sum()) <= 2  # rounding at 1/255


def test_a_view_matrix_from_gsplats_pairs_equals_torchs(gsplat, monkeypatch):
    from fit3d_lite import backend, view_matrix

    c, cam = small(seed=5)
    monkeypatch.setattr(backend, "choose", lambda name, *args, **options: name)
    mine, theirs = (view_matrix(c, cam, backend=b) for b in ("gsplat", "torch"))
    assert relative(mine.to_dense(), theirs.to_dense()) < CLOSE


def test_empty_things_are_drawn_empty_without_asking_gsplat(gsplat):
    c, cam = small(count=20)
    image, alpha = gsplat_draw.render(c[:0], cam, torch.zeros(0, 4), 0.2)
    assert image.shape == (20, 24, 4) and float(image.abs().sum() + alpha.sum()) == 0
    assert [len(p) for p in gsplat_draw.pairs(c[:0], cam, 0.2)] == [0, 0]
    image, alpha = gsplat_draw.render(c, cam, torch.zeros(20, 0), 0.2)  # no channel: only the opacity
    assert image.shape == (20, 24, 0) and float(alpha.sum()) > 1


def test_only_float32_is_taken(gsplat):
    c, cam = small(count=20)
    with pytest.raises(ValueError, match="float32 only, got float32, float64"):
        gsplat_draw.render(c, cam, c.colors.double(), 0.2)
    with pytest.raises(ValueError, match="float32 only, got float16"):
        gsplat_draw.pairs(c.to(torch.float16), cam, 0.2)


def test_the_stand_in_has_the_signatures_of_the_installed_gsplat():
    real = pytest.importorskip("gsplat")

    def form(function):
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    for function in pretend_gsplat.FUNCTIONS:
        theirs = form(getattr(real, function.__name__))
        # An enumeration that we never pass stands as None in the stand-in.
        theirs = [(name, None if name == "rolling_shutter" else default) for name, default in theirs]
        assert form(function) == theirs, function.__name__


# How the binary is found. The "GPU" is a T4 in name only, and the library is a few lines of C.


@pytest.fixture(autouse=True)
def _nothing_believed(monkeypatch):
    monkeypatch.setattr(gsplat_draw, "_believed", None)


@pytest.fixture
def t4(monkeypatch, tmp_path):
    """A machine that says it has a T4, an installed gsplat that is not compiled, and empty caches."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: (7, 5))
    monkeypatch.setattr(gsplat_draw, "_draw_one", lambda: None)
    pretend_gsplat.forget_real(monkeypatch)
    folder = tmp_path / "site"
    pretend_gsplat.package(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [n for n in sys.modules if n.split(".")[0] == "gsplat"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def binaries(tmp_path_factory):
    """Tiny compiled extensions by the name that they have inside."""
    pretend_gsplat.need_compiler()
    made = {}
    for name in ("gsplat_cuda", "csrc"):
        folder = tmp_path_factory.mktemp(name)
        cuda = pretend_gsplat.package(folder, name=name) / "cuda"
        made[name] = folder / f"{name}.so"
        headers = f"-I{pretend_gsplat.PYTHON_HEADERS}"
        sources = [str(cuda / "ext.cpp"), str(cuda / "csrc/first.cpp")]
        subprocess.run(["c++", "-shared", "-fPIC", headers, *sources, "-o", str(made[name])], check=True)
    return made


def put(binary: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(binary.read_bytes())
    return target


def never_compiled(folder):
    return not (folder / "the compiler was started").exists()


def test_without_cuda_gsplat_is_not_ready_and_silent_about_it(monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gsplat_draw.ready() is False
    assert capfd.readouterr() == ("", "")
    assert "a CUDA device, and there is none" in gsplat_draw.problem(torch.device("cpu"))
    assert "gsplat.cuda._backend" not in sys.modules  # whose import would look for a compiler


def test_an_uncompiled_gsplat_is_not_ready_and_is_not_compiled_by_asking(t4, capfd):
    assert not gsplat_draw.ready()
    assert "not compiled yet" in gsplat_draw.problem(torch.device("cuda"))
    assert never_compiled(t4) and capfd.readouterr() == ("", "")


def test_a_library_of_build_gsplat_is_taken_and_handed_to_gsplat(t4, binaries):
    put(binaries["gsplat_cuda"], library_path("7.5"))
    assert gsplat_draw.ready() and gsplat_draw.problem(torch.device("cuda")) is None
    assert "Gaussians are on cpu" in gsplat_draw.problem(torch.device("cpu"))
    import gsplat.cuda._backend as backend

    assert backend._C.first == "compiled" and never_compiled(t4)


def test_a_library_for_another_gpu_is_not_taken(t4, binaries):
    put(binaries["gsplat_cuda"], library_path("8.9"))
    assert not gsplat_draw.ready()


def test_a_compiled_wheel_is_taken(t4, binaries):
    put(binaries["csrc"], t4 / "gsplat" / "csrc.so")
    assert gsplat_draw.ready() and never_compiled(t4)


def test_a_broken_wheel_is_no_reason_to_compile(t4):
    (t4 / "gsplat/csrc.so").write_bytes(b"of another torch")
    assert not gsplat_draw.ready()
    assert "csrc.so cannot be loaded" in gsplat_draw.problem(torch.device("cuda")) and never_compiled(t4)


def test_a_library_that_draws_wrong_is_not_ready(t4, binaries, monkeypatch):
    put(binaries["gsplat_cuda"], library_path("7.5"))

    def wrong():
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(gsplat_draw, "_draw_one", wrong)
    assert not gsplat_draw.ready()
    assert "RuntimeError: no kernel image" in gsplat_draw.problem(torch.device("cuda"))


def test_the_trial_picture_is_right_when_gsplat_is_and_raises_when_not(gsplat, monkeypatch):
    on_cpu = {f: getattr(torch, f) for f in ("ones", "tensor")}
    for name, function in on_cpu.items():
        monkeypatch.setattr(torch, name, lambda *a, _f=function, device=None, **k: _f(*a, **k))
    gsplat_draw._draw_one()
    monkeypatch.setattr(sys.modules["gsplat"], "rasterization", lambda *a, **k: (torch.ones(1, 17, 17, 3),) * 3)
    with pytest.raises(RuntimeError, match="opacity 0.8 was drawn with 1.000"):
        gsplat_draw._draw_one()


def test_answers_are_remembered_a_yes_for_good_and_a_no_until_something_may_have_changed(t4, binaries, monkeypatch):
    looks = []
    connect = gsplat_draw._connect
    monkeypatch.setattr(gsplat_draw, "_connect", lambda: looks.append(1) or connect())
    assert not gsplat_draw.ready() and not gsplat_draw.ready()
    assert len(looks) == 1
    put(binaries["gsplat_cuda"], library_path("7.5"))
    assert not gsplat_draw.ready()  # not looked again yet
    later = time.monotonic() + gsplat_draw.ASK_AGAIN + 1
    monkeypatch.setattr(gsplat_draw.time, "monotonic", lambda: later)
    assert gsplat_draw.ready() and len(looks) == 2
    gsplat_draw.forget_no()
    later = math.inf
    assert gsplat_draw.ready() and len(looks) == 2


def test_forgetting_makes_the_next_question_look_again(t4, binaries):
    assert not gsplat_draw.ready()
    put(binaries["gsplat_cuda"], library_path("7.5"))
    gsplat_draw.forget_no()
    assert gsplat_draw.ready()
