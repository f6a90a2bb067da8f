"""setup, artifacts, checks, exercises, guesses and cards behave, and say clearly what is wrong."""

import importlib.util
import json
import os
import random
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from fit3d_lite.base import artifacts
from fit3d_lite.base.machine import best_dtype, cache_folder
from fit3d_lite.course import cards
from fit3d_lite.course.cards import Row, card
from fit3d_lite.course.checks import check, check_close, predict, reveal
from fit3d_lite.course.settings import chosen
from fit3d_lite.course.setup import setup
from fit3d_lite.widgets.notebook import number


@pytest.fixture
def run(capsys):
    made = setup("quick", seed=3)
    capsys.readouterr()
    return made


# --- setup


def test_setup_prints_one_card_with_what_was_settled(capsys, tmp_path):
    run = setup("quick", seed=5)
    text = capsys.readouterr().out
    assert run.profile == "quick" and run.seed == 5 and run.cache == tmp_path / "fit3d_cache" and run.cache.is_dir()
    for said in ("device", "quick (from the argument)", f"torch {torch.__version__}"[:9], str(run.cache), "seed"):
        assert said in text


@pytest.mark.parametrize(
    ("first", "given", "count", "said"),
    [("", {}, "1000", False), ("", {"GOMP_SPINCOUNT": "7"}, "7", False), ("", {"OMP_WAIT_POLICY": "active"}, None, False),
     ("import torch", {}, None, True)],
)  # fmt: skip
def test_threads_wait_asleep_unless_the_reader_said_otherwise_or_torch_was_loaded_first(first, given, count, said):
    code = f"{first}\nimport os, fit3d_lite\nprint(os.environ.get('GOMP_SPINCOUNT'))\nfit3d_lite.setup('quick')"
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == str(count)
    assert ("torch was loaded first" in done.stdout) == said


def test_the_card_says_version_and_commit_and_when_the_notebook_is_of_another(capsys, monkeypatch):
    mine, other = "a" * 40, "b" * 40
    monkeypatch.setattr(sys.modules["fit3d_lite.course.setup"], "origin", lambda: ("0.1.0", [mine]))
    for notebook, differs in (("", False), ("0.1.0", False), (mine, False), (other, True), ("0.0.9", True)):
        monkeypatch.setenv("FIT3D_NOTEBOOK", notebook)
        setup("quick")
        said = capsys.readouterr().out
        assert "version 0.1.0 · commit aaaaaaaaaa" in said
        assert (f"LOOK: this notebook was made for {notebook[:10]}" in said) == differs


def test_setup_seeds_all_three_generators():
    drawn = []
    for _ in range(2):
        setup("quick", seed=11)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    setup("quick", seed=12)
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], (torch.rand(1).item(), np.random.rand(), random.random()), strict=True))


def test_profile_comes_from_argument_then_environment_then_device(monkeypatch):
    assert setup().profile == ("middle" if torch.cuda.is_available() else "quick")
    monkeypatch.setenv("FIT3D_PROFILE", "full")
    assert setup().profile == "full"
    assert chosen.profile == "full"
    assert setup("quick").profile == "quick"
    monkeypatch.setenv("FIT3D_PROFILE", "fast")
    with pytest.raises(ValueError, match="'fast' .*FIT3D_PROFILE.*'quick', 'middle' or 'full'"):
        setup()


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [(None, torch.float32), ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_precision_follows_compute_capability(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: capability)
    assert best_dtype(torch.device("cuda" if capability else "cpu")) is dtype


def test_a_t4_gets_fp16_though_torch_claims_bf16(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *a: "Tesla T4")
    run = setup()
    assert (run.dtype, run.profile, run.device.type) == (torch.float16, "middle", "cuda")
    assert "Tesla T4 · float16" in capsys.readouterr().out


def test_cache_lies_in_content_on_colab_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("FIT3D_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "fit3d_lite"
    for name in ("google", "google.colab"):  # installed is not enough
        stub = types.ModuleType(name)
        stub.__spec__, stub.__path__ = importlib.util.spec_from_loader(name, None), []
        monkeypatch.setitem(sys.modules, name, stub)
    assert cache_folder() == tmp_path / ".cache" / "fit3d_lite"
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert str(cache_folder()) == "/content/fit3d_cache"
    monkeypatch.setenv("FIT3D_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_sparse_beta_warnings_are_settled_and_others_are_not(run, recwarn):
    import warnings

    setup("quick")
    warnings.warn("Sparse CSR tensor support is in beta state. And so on.", stacklevel=1)
    warnings.warn("something else is wrong", stacklevel=1)
    assert [str(w.message) for w in recwarn] == ["something else is wrong"]


def test_figures_are_white_and_colors_differ_in_lightness_too(run):
    import matplotlib
    from matplotlib.colors import to_rgb

    assert matplotlib.rcParams["figure.facecolor"] == "white"
    cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    light = [np.dot(to_rgb(c), [0.2126, 0.7152, 0.0722]) for c in cycle[:2]]
    assert abs(light[0] - light[1]) > 0.05  # the first two lines of a plot stay apart in grey


def test_pick_prints_what_quick_reduces(run, capsys):
    assert run.pick(quick=8, full=24, name="views") == 8
    assert capsys.readouterr().out == "views: 8 in the quick profile, 24 in the full one\n"
    assert setup("full").pick(quick=8, full=24) == setup("middle").pick(quick=8, full=24) == 24
    capsys.readouterr()
    assert setup("middle").pick(quick=8, full=24, middle=16, name="views") == 16
    assert capsys.readouterr().out.endswith("views: 16 in the middle profile, 24 in the full one\n")


def test_a_cpu_is_not_sent_to_a_larger_profile_and_on_colab_hears_of_the_menu(capsys, monkeypatch):
    setup("quick")
    assert not {"setup(", "FIT3D_PROFILE", "Runtime"} & set(capsys.readouterr().out.split())
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    setup("quick")
    assert "Runtime → Change runtime type → T4 GPU" in capsys.readouterr().out
    setup("middle")
    assert "meant for a GPU, and there is none" in capsys.readouterr().out


def test_the_cache_goes_to_the_readers_drive_only_when_asked_and_on_colab(capsys, monkeypatch, tmp_path):
    mounted = []
    monkeypatch.setattr(sys.modules["fit3d_lite.course.setup"], "DRIVE", str(tmp_path / "drive"))
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert setup("quick", drive=True).cache == tmp_path / "fit3d_cache" and not mounted
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert setup("quick").cache == tmp_path / "fit3d_cache" and not mounted
    assert setup("quick", drive=True).cache == tmp_path / "drive" / "MyDrive" / "fit3d_cache" and len(mounted) == 1


def test_the_3d_aware_network_is_the_courses_or_lesson_03s_and_says_which(run, capsys):
    assert run.tuned("small") == "fit3d" and "comes with the course" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="lesson 03 has left no finetuned_small.safetensors .*tick ON_DRIVE"):
        run.tuned("small", mine=True)
    run.save("finetuned_small", {"a": torch.ones(1)})
    assert run.tuned("small", mine=True) == run.artifact("finetuned_small")
    assert "yours, from lesson 03" in capsys.readouterr().out


# --- artifacts


def test_tensors_come_back_with_their_settings(run):
    whole = torch.arange(12.0).reshape(3, 4)
    content = {"rows": whole[:, :2], "same": whole, "flag": torch.tensor([True])}  # views of one memory, too
    path = run.save("lifted", content, {"views": (1, 2), "lr": 1e-4})
    back = run.load("lifted", {"views": [1, 2], "lr": 1e-4})
    assert path == run.artifact("lifted") and path.exists()
    assert back.keys() == content.keys() and all(torch.equal(back[k], content[k]) for k in content)


def test_anything_json_holds_comes_back(run):
    path = run.save("numbers", {"mIoU": [0.2, 0.3]}, {"seed": 0})
    assert path.suffix == ".json" and run.load("numbers", {"seed": 0}) == {"mIoU": [0.2, 0.3]}


def test_missing_artifact_is_none_and_profiles_are_apart(run):
    run.save("lifted", {"a": torch.ones(1)})
    assert run.load("other") is None
    assert setup("full").load("lifted") is None


def test_other_settings_are_refused_by_name(run, capsys):
    run.save("lifted", {"a": torch.ones(1)}, {"views": 8, "seed": 0})
    with pytest.raises(artifacts.ArtifactMismatch, match=r"views is 8, asked is 24; width is 'unset', asked is 32"):
        run.load("lifted", {"views": 24, "seed": 0, "width": 32})
    assert run.load("lifted", {"views": 24, "seed": 0}, stale="remake") is None
    assert "views is 8, asked is 24" in capsys.readouterr().out


def test_a_save_that_fails_leaves_the_old_artifact_whole(run, monkeypatch):
    run.save("lifted", {"a": torch.ones(1)})

    def stop(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        run.save("lifted", {"a": torch.zeros(1)})
    assert run.load("lifted")["a"].item() == 1
    assert [p.name for p in run.artifact("lifted").parent.iterdir()] == ["lifted.safetensors"]


def test_a_new_form_replaces_the_old_one(run):
    run.save("result", {"a": torch.ones(1)})
    run.save("result", {"a": 2})
    assert run.load("result") == {"a": 2}


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_damaged_artifact_says_so(run, suffix):
    path = run.artifact("broken", suffix)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x10\x00")
    with pytest.raises(ValueError, match="damaged.*delete it"):
        run.load("broken")


def test_bad_names_and_settings_are_refused_before_writing(run):
    with pytest.raises(ValueError, match="without a suffix; got '../up'"):
        run.save("../up", {})
    with pytest.raises(ValueError, match="settings of 'x' must be numbers"):
        run.save("x", {"a": torch.ones(1)}, {"device": torch.device("cpu")})
    assert not run.artifact("x").exists()


# --- checks


def test_check_shows_a_tick_or_raises_the_hint(capsys):
    check(torch.tensor(True), "rows sum to one", "unused")
    assert capsys.readouterr().out == "✓ rows sum to one\n"
    with pytest.raises(AssertionError, match="back to front"):
        check(False, "rows sum to one", "the order is back to front")
    assert "✗ not so: rows sum to one" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"got shape \(2,\)"):
        check(torch.tensor([True, True]), "w", "h")


def test_check_close_judges_by_the_references_magnitude(capsys):
    check_close(np.array([1000.0, 1.0]), torch.tensor([1000.005, 1.0]), "equal", "h")
    small = torch.tensor([1e-7, 2e-7])
    with pytest.raises(AssertionError, match="largest difference is 2e-07.*the hint"):
        check_close(torch.zeros(2), small, "small numbers are compared too", "the hint")
    check_close(torch.eye(3).to_sparse_csr(), torch.eye(3), "sparse", "h")
    assert "largest difference" in capsys.readouterr().out


@pytest.mark.parametrize("mine", [torch.tensor([float("nan"), 1.0]), torch.tensor([float("inf"), 1.0])])
def test_check_close_never_passes_nan_or_inf(mine):
    with pytest.raises(AssertionError):
        check_close(mine, torch.ones(2), "w", "h", tol=1e9)


def test_check_close_names_both_shapes():
    with pytest.raises(AssertionError, match=r"yours has shape \(2, 1\), the reference \(2,\). transposed"):
        check_close(torch.ones(2, 1), torch.ones(2), "w", "transposed")
    with pytest.raises(ValueError, match="nothing to compare"):
        check_close(torch.ones(0), torch.ones(0), "w", "h")


def test_predict_and_reveal_put_guess_and_measurement_side_by_side(capsys):
    reveal(predict("Which mIoU?", 0.3), 0.25)
    assert "guessed 0.300 · measured 0.250 · your guess is 0.05 too high" in capsys.readouterr().out
    reveal(predict("Which mIoU?", None), torch.tensor(0.25))
    assert "no guess yet" in (text := capsys.readouterr().out) and "measured 0.250" in text
    reveal(predict("Which wins?", "Concat"), "concat")
    assert "as you said" in capsys.readouterr().out
    reveal(predict("How much?", "30 %", unit="%"), 41.2)  # the choice of a form
    assert "guessed 30 % · measured 41.2 % · your guess is 11.2 too low" in capsys.readouterr().out
    reveal(predict("How much?", ""), 1)  # its first, empty choice
    assert "no guess yet" in capsys.readouterr().out


# --- cards


def rows():
    return [
        Row("mIoU", torch.tensor(0.19), 0.003, quick=(0.18, 0.22), full=(0.3, 0.4), paper="32.76"),
        {"name": "RMSE", "value": np.float32(0.9), "unit": "m", "quick": (0.7, 0.8), "why": "one seed moves it"},
        Row("broken", float("nan"), quick=(0, 1), why="a division by zero"),
        Row("note", "text", quick=(0, 1)),
    ]


def test_card_says_look_when_out_of_range_and_for_nan(capsys):
    made = card("Result", rows(), profile="quick")
    text = capsys.readouterr().out
    assert [r.name for r in made.looks] == ["RMSE", "broken"] and str(made) + "\n" == text
    assert "0.190 ± 0.003" in text and "0.180 to 0.220" in text and "32.76" in text and "✓ in range" in text
    assert "⚠ LOOK: RMSE is 0.900. one seed moves it" in text
    assert [r.name for r in card("Result", rows(), profile="full").looks] == ["mIoU"]


def test_the_middle_profiles_ranges_are_wide_keep_their_sign_and_are_called_estimated(capsys):
    made = Row("gain", 0.0, quick=(1, 3)), Row("loss", -5.0, quick=(-3, -1)), Row("known", 0.5, quick=(1, 3), middle=(0, 1))
    assert [r.expected("middle") for r in made] == [(0, 5), (-5, 0), (0, 1)]
    assert [r.verdict("middle") for r in made] == ["ok", "ok", "ok"]
    assert Row("gain", -0.1, quick=(1, 3)).verdict("middle") == "LOOK"
    text = str(card("Result", list(made), profile="middle"))
    assert "0 to 5 (estimated)" in text.replace(".000", "") and text.count("(estimated)") == 2


def test_the_full_profile_says_what_is_not_measured_and_does_not_stop_at_it(capsys):
    setup("full")
    check(False, "the gain is positive", "the poses are shuffled")  # red, and the notebook goes on
    check_close(1.0, 2.0, "both agree", "a factor is missing")
    check_close(torch.ones(2), torch.ones(3), "both have one shape", "a view is missing")
    said = capsys.readouterr().out
    assert "✗ not so: both agree" in said and "yours has shape (2,), the reference (3,)" in said
    assert "✗ not so: the gain is positive" in said and "not measured yet" in said
    unknown = card("Result", [{"name": "mIoU", "value": 0.9, "quick": (0.1, 0.2)}])
    assert "not measured yet" in str(unknown) and not unknown.looks
    setup("quick")
    with pytest.raises(AssertionError, match="shuffled"):
        check(False, "the gain is positive", "the poses are shuffled")


def test_card_uses_the_profile_of_setup():
    setup("full")
    assert card("Result", rows()).profile == "full"
    with pytest.raises(ValueError, match="'fast'"):
        card("Result", rows(), profile="fast")
    with pytest.raises(ValueError, match=r"no field \['paperr'\]"):
        card("Result", [{"name": "a", "value": 1, "paperr": 2}])


def test_card_markup_escapes_and_fixes_no_ink(monkeypatch):
    shown = []
    monkeypatch.setattr(cards, "show", lambda *bundle: shown.append(bundle))
    card("a < b", rows(), profile="quick")
    (text, markup, mime, payload), = shown
    assert "a &lt; b" in markup and "a < b" not in markup
    assert "color:#" not in markup and "color:black" not in markup  # ink comes from the page's theme
    assert mime == cards.CARD_MIME and [r["verdict"] for r in payload["rows"]] == ["ok", "LOOK", "LOOK", ""]
    assert json.loads(json.dumps(payload["rows"][0]))["cells"][1] == "0.190 ± 0.003"


def test_numbers_read_well():
    assert [number(x) for x in (36000, 0.25, 0.00123, 1234.5, True, "x")] == [
        "36,000", "0.250", "0.00123", "1,234", "True", "x",
    ]  # fmt: skip


def test_a_check_is_never_green_for_nan_text_or_infinity(run):
    for nan in (float("nan"), torch.tensor(float("nan")), np.float64("nan")):
        with pytest.raises(AssertionError):
            check(nan, "holds", "hint")
    with pytest.raises(ValueError, match="text 'no'"):
        check("no", "holds", "hint")
    for mine, reference in ((1.0, float("inf")), (float("inf"), 1.0), (float("inf"), float("inf"))):
        with pytest.raises(AssertionError):
            check_close(mine, reference, "equal", "hint")
