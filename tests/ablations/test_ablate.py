"""A grid becomes points, points become files, files a table; gains are paired; a stopped sweep goes on where it was."""

import functools
import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy import stats

import fit3d_lite as f3d
from fit3d_lite import consistency, room
from fit3d_lite.__main__ import main
from fit3d_lite.ablations import ablate, judges, point, sweep, sweep_figures
from fit3d_lite.ablations import measured as trial
from fit3d_lite.ablations.point import Point, point_of
from fit3d_lite.ablations.sweep import points_of, read_grid, share_of, table_of
from fit3d_lite.ablations.sweep_figures import gain_chart, gains
from fit3d_lite.base.machine import asset
from fit3d_lite.rooms import SEEDS

GRID = """
repetitions = 3
base = { rooms = 2 }
[[study]]
name = "rooms"
question = "How many?"
expected = "more"
grid = { rooms = [1, 2], control = ["none", "wrong poses"] }
[[study]]
name = "ways"
rows.full = {}
rows.LoRA = { train = "lora", lr = 1e-3, lora_blocks = [0, 2], lora_layers = ["qkv"] }
rows.random = { weights = "random", recipe = "none" }
[[study]]
name = "readers"
grid = { head = ["ridge", "k-NN"] }
"""


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path


@pytest.fixture
def measured(monkeypatch):
    """The points that were measured; what is measured is made up: 3D gains .01 a room and wrong poses lose as much."""
    done = []

    def measure(point, repetition, device=None):
        done.append((point, repetition))
        gain = 0.0 if point.recipe == "none" else 0.01 * point.rooms * (1 if point.control == "none" else -1)
        miou = 0.4 + 0.05 * repetition + gain + 0.001 * repetition * (point.recipe != "none")
        alone = {"way": "alone", "miou": miou, "rmse": 0.5, "recall_20": 0.5}
        if point.head == "k-NN":
            return [{"way": way, "accuracy": miou} for way in ("alone", "beside")]
        return [alone, {"way": "beside", "miou": miou + 0.01, "rmse": 0.5}]

    monkeypatch.setattr(sweep, "measure", measure)
    monkeypatch.setattr(sweep, "try_inputs", lambda points, device: None)
    return done


def test_a_grid_is_all_combinations_with_the_original_beside_them(grid):
    (rooms, ways, _), repetitions = read_grid(grid)
    assert repetitions == 3 and rooms.expected == "more" and rooms.varied == ("rooms", "control")
    trained = {(p.rooms, p.control) for p in rooms.points.values() if p.recipe == "lite"}
    assert trained == {(1, "none"), (1, "wrong poses"), (2, "none"), (2, "wrong poses")}
    assert rooms.points["original"] == Point(recipe="none") and set(rooms.against.values()) == {"original"}
    lora = {"train": "lora", "lr": 1e-3, "lora_blocks": (0, 2), "lora_layers": ("qkv",)}
    assert dict(ways.points["LoRA"].changes) == lora and ways.points["full"].rooms == 2
    assert rooms.unchanged is None and ways.unchanged == "full"
    assert ways.against["random"] == "original" and ways.points["random"].weights == "random"


def test_what_differs_in_the_network_or_the_judge_has_an_original_of_its_own(tmp_path):
    path = tmp_path / "g.toml"
    path.write_text('[[study]]\nname = "x"\nrows = { a = {}, b = { blocks = 4 }, c = { head = "linear", rooms = 9 } }')
    (study,), _ = read_grid(path)
    plain = {row: study.points[study.against[row]] for row in "abc"}
    assert plain["a"] == Point(recipe="none") and plain["b"] == Point(recipe="none", blocks=4)
    assert plain["c"] == Point(recipe="none", head="linear"), "rooms to learn from say nothing of the original"


def test_a_network_that_is_not_trained_is_compared_with_the_first_ones_judged_as_it_is(tmp_path):
    path = tmp_path / "g.toml"
    path.write_text("""
[[study]]
name = "x"
grid = { style = ["recoloured"] }
rows.ready = { weights = "fit3d", recipe = "none", rooms = 3, beside = "original" }
rows.lens = { weights = "fit3d", recipe = "none", style = "long lens", test_rooms = 4 }
""")
    (study,), _ = read_grid(path)
    assert study.points[study.against["ready"]] == Point(recipe="none")
    assert study.points[study.against["lens"]] == Point(recipe="none", style="long lens", test_rooms=4)
    assert study.points["ready"].rooms == Point().rooms, "it learned from no room of the study"
    path.write_text('[[study]]\nname = "x"\nrows.ready = { weights = "fit3d", recipe = "none" }')
    for more in ("", "\nrows.b = { blocks = 4 }\nrows.lite = {}"):
        path.write_text(path.read_text() + more)
        (study,), _ = read_grid(path)
        assert study.points[study.against["ready"]] == Point(recipe="none"), "not with itself where it stands first"
    assert study.against == {"ready": "original", "b": "original, blocks 4", "lite": "original"}


def test_every_point_is_in_exactly_one_shard_and_a_network_in_one(grid):
    wanted = points_of(*read_grid(grid))
    assert len(wanted) == len(set(wanted)) and wanted[0][0].recipe == "none", "the originals come first"
    for count in (1, 2, 3, 4, 7):
        parts = [share_of(wanted, i, count) for i in range(count)]
        assert sorted(map(str, sum(parts, []))) == sorted(map(str, wanted))
        assert all(len({r for _, r in part}) <= 1 for part in parts) or count < 3
        where = {}
        for i, part in enumerate(parts):
            trained = [(p.of(point.TAUGHT), r) for p, r in part if p.recipe != "none"]
            assert all(where.setdefault(one, i) == i for one in trained), "a network is trained in one shard"
            assert len(trained) - 1 >= sum(a != b for a, b in zip(trained, trained[1:])) == max(len(set(trained)) - 1, 0)


def test_a_stopped_sweep_goes_on_where_it_was(grid, tmp_path, measured, monkeypatch):
    whole = sweep.measure

    def stops(point, repetition, device=None):
        if len(measured) == 4:
            raise KeyboardInterrupt
        return whole(point, repetition, device)

    monkeypatch.setattr(sweep, "measure", stops)
    run = ["ablate", str(grid), "--work", str(tmp_path / "w")]
    assert main(run) == 2 and len(measured) == 4
    monkeypatch.setattr(sweep, "measure", whole)
    assert main([*run, "--out", str(tmp_path / "out")]) == 0
    assert len(measured) == len(set(measured)) == len(points_of(*read_grid(grid)))
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    assert len(table) == 2 * 3 * (5 + 4 + 4) and {"study", "row", "repetition", "way", "rooms", "control", "lr"} <= set(table)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    studies = ("rooms", "ways", "readers")
    assert made == {"table.csv", "gains.csv", *(f"{s}_{w}.png" for s in studies for w in ("alone", "beside"))}
    assert main(run) == 0 and len(measured) == len(set(measured)), "nothing is measured twice"


def test_what_is_there_is_collected_without_measuring(grid, tmp_path, measured):
    run = ["ablate", str(grid), "--work", str(tmp_path / "w"), "--only", "readers"]
    assert main([*run, "--shard", "2/3"]) == 0 and len(measured) > 0
    count = len(measured)
    assert main([*run, "--collect", "--out", str(tmp_path / "out")]) == 0 and len(measured) == count
    assert set(pd.read_csv(tmp_path / "out" / "table.csv").repetition) == {1}
    with pytest.raises(ValueError, match="--collect needs --out"):
        ablate.main([*run[1:], "--collect"])
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/table.csv cannot be written"):
        ablate.main([*run[1:], "--out", str(tmp_path / "file")])
    assert len(measured) == count


def test_a_scene_or_network_that_cannot_be_read_is_said_before_anything_is_measured(tmp_path, measured, monkeypatch):
    monkeypatch.setattr(sweep, "try_inputs", trial.try_inputs)
    path = tmp_path / "g.toml"
    path.write_text('[[study]]\nname = "x"\nrows = { a = {}, b = { scene = "colmap:$NOWHERE/scan" } }')
    with pytest.raises(FileNotFoundError, match="NOWHERE/scan"):
        ablate.main([str(path), "--work", str(tmp_path)])
    path.write_text('[[study]]\nname = "x"\nrows = { a = {}, b = { scene = "scan" } }')
    with pytest.raises(ValueError, match="a scene is colmap:PATH.*got 'scan'"):
        ablate.main([str(path), "--work", str(tmp_path)])
    path.write_text('[[study]]\nname = "x"\nrows = { a = {}, b = { scene = "office --frames x" } }')
    with pytest.raises(ValueError, match="The scene 'office --frames x' is not what may follow --scene"):
        ablate.main([str(path), "--work", str(tmp_path)])
    path.write_text('[[study]]\nname = "x"\nrows = { a = {}, b = { weights = "no/such.pth" } }')
    with pytest.raises((ValueError, FileNotFoundError), match="no/such.pth"):
        ablate.main([str(path), "--work", str(tmp_path)])
    rows = {
        'train = "lora", blocks = 4, lora_blocks = [1, 6]': "lora_blocks names block 6; small has blocks 0 to 3 here",
        'head = "k-NN", network = "vit_wee_patch16_reg1_gap_256", weights = "random"': '"k-NN" reads CLS tokens.* has none',
        'blocks = 2, network = "vit_wee_patch16_reg1_gap_256", weights = "random"': "no last norm with a gain",
    }
    for settings, words in rows.items():
        path.write_text(f'[[study]]\nname = "x"\nrows = {{ b = {{ {settings} }} }}')
        with pytest.raises(ValueError, match=words):
            ablate.main([str(path), "--work", str(tmp_path)])
    assert not measured


def test_every_network_is_tried_once_however_many_points_and_repetitions_name_it(monkeypatch):
    loaded = []
    monkeypatch.setattr(trial, "load_vit", lambda name, weights, **_: loaded.append(weights) or f3d.load_vit(name, "random"))
    monkeypatch.setattr(trial, "network", functools.lru_cache(maxsize=1)(trial.network.__wrapped__))
    points = [Point(weights=kind, rooms=rooms, beside="original") for rooms in (1, 2) for kind in ("fit3d", "wrong_poses")]
    trial.try_inputs(points * 2, "cpu")
    assert sorted(loaded) == ["fit3d", "original", "wrong_poses"]


def test_a_study_goes_on_from_a_table(grid, tmp_path, measured):
    run = ["ablate", str(grid), "--only", "ways", "readers"]
    assert main([*run, "--work", str(tmp_path / "a"), "--repetitions", "2", "--out", str(tmp_path / "out")]) == 0
    count, known = len(measured), tmp_path / "out" / "table.csv"
    assert main([*run, "--work", str(tmp_path / "b"), "--known", str(known), "--out", str(tmp_path / "again")]) == 0
    assert {repetition for _, repetition in measured[count:]} == {2}, "two repetitions were known"
    first, second = (pd.read_csv(tmp_path / name / "table.csv") for name in ("out", "again"))
    pd.testing.assert_frame_equal(first, second[second.repetition < 2].reset_index(drop=True), check_dtype=False, check_like=True)
    assert sweep.take_known(second, tmp_path / "b") == 0
    with pytest.raises(ValueError, match="the table has no column against, repetition, row, study"):
        sweep.take_known(pd.DataFrame({"miou": [0.5]}), tmp_path)


def test_the_courses_own_table_is_of_the_courses_own_grid(tmp_path):
    studies, repetitions = read_grid(asset("ablations.toml"))
    table = pd.read_csv(asset("ablations.csv"))
    assert sweep.take_known(table, tmp_path) > 300
    again = table_of(studies, repetitions, tmp_path)
    assert len(again) == len(table), "every row of the table is a point of the grid, under the settings that it shows"
    pd.testing.assert_series_equal(again.miou, table.miou)


def test_shards_together_measure_what_one_process_does(grid, tmp_path, measured):
    for i in range(2):
        assert main(["ablate", str(grid), "--work", str(tmp_path), "--only", "rooms", "--shard", f"{i + 1}/2"]) == 0
    assert len(measured) == 3 * 5 == len(set(measured))


def test_gains_are_paired_differences_with_students_interval(grid, tmp_path, measured):
    studies, repetitions = read_grid(grid)
    sweep.run_points(points_of(studies, repetitions), tmp_path)
    table = table_of(studies, repetitions, tmp_path)
    found = gains(table, "rooms").set_index(["row", "way", "metric"])
    row = found.loc["rooms 2, none", "alone", "miou"]
    off = [0.02, 0.021, 0.022]  # the repetitions differ by .05 each, which pairs do not see
    low, high = stats.t.interval(0.95, 2, loc=0.021, scale=stats.sem(off))
    assert row.gain == pytest.approx(0.021) and (row.low, row.high) == pytest.approx((low, high))
    assert row["mean"] == pytest.approx(0.471) and row.pairs == 3
    assert found.loc["rooms 1, wrong poses", "alone", "miou"].gain < 0
    assert math.isnan(gains(table[table.repetition == 0], "ways").iloc[0].low), "one pair has no interval"
    with pytest.raises(ValueError, match="no study 'room'"):
        gains(table, "room")
    other = gains(table, "rooms", ["miou"], against="rooms 1, none").set_index(["row", "way"])
    assert other.loc["rooms 2, none", "alone"].gain == pytest.approx(0.01) and other.loc["rooms 1, none", "alone"].gain == 0
    with pytest.raises(ValueError, match="no row 'rooms 9'; it has rooms 1, none"):
        gains(table, "rooms", against="rooms 9")
    panel = gain_chart(table, "rooms", ["miou"], against="rooms 1, none").axes[0]
    assert "rooms 1, none" not in [t.get_text() for t in panel.get_yticklabels()] and "over 'rooms 1, none'" in panel.get_title()
    lines = gain_chart(table, "rooms", x="rooms").axes[0].lines
    assert list(lines[1].get_xdata()) == [1, 2] and lines[1].get_ydata()[1] == pytest.approx(0.021)
    same = table[table.study == "ways"].assign(miou=lambda t: 0.5 + 0.1 * (t.row == "random"))
    one = gains(same, "ways", ["miou"]).set_index(["row", "way"]).loc["random", "alone"]
    assert one.gain == pytest.approx(0.1) and math.isnan(one.low), "what is the same number each time has no spread"


def test_a_curve_is_drawn_only_of_points_that_differ_in_nothing_else(tmp_path):
    path = tmp_path / "g.toml"
    text = '[[study]]\nname = "x"\ngrid = { KEY = [1, 2], control = ["none", "wrong poses"] }\n'
    for key in ("rooms", "epochs"):
        for more, curve in (("", key), ('rows.LoRA = { train = "lora" }', None)):
            path.write_text(text.replace("KEY", key) + more)
            (study,), _ = read_grid(path)
            assert sweep_figures._along(study, pd.DataFrame({key: [1, 2]})) == curve


@pytest.mark.parametrize(
    "text, words",
    [
        ("study = 3 3", "is no TOML file"),
        ("[base]\nrooms = 3", r"has no \[\[study\]\]"),
        ('[[study]]\nname = "a"', "neither a grid nor rows"),
        ('[[study]]\nname = "a"\ngrid = { rooms = 3 }', "gives rooms no list"),
        ('[[study]]\nname = "a"\ngrid = { room = [3] }', "no setting room; a point has .*rooms"),
        ('[[study]]\nname = "a"\ngrid = { control = ["none", "wrong"] }', "control must be one of none, wrong poses"),
        ('[[study]]\nname = "a"\nrows = { b = { rooms = 201 } }', "a repetition has 200 rooms"),
        ('[[study]]\nname = "a"\nrows = { b = { learned = "bare" } }', "learned must be one of drawn, recoloured"),
        ('[[study]]\nname = "a"\nrows = { b = { rooms = 1, views = 2 } }', "too few for a batch of 4"),
        ('[[study]]\nname = "a"\nrows = { b = { dim = 8 } }', 'the target is \'mean\''),
        ('[[study]]\nname = "a"\nrows = { b = { lora_blocks = [4] } }', 'lora_blocks is of train="lora"; train is "full"'),
        ('[[study]]\nname = "a"\nrows = { b = { patch = 56 } }', "patch must be 0 or 2 to 28 pixels, got 56"),
        ('[[study]]\nname = "a"\nrow = { b = {} }', "has row, which is none of"),
        ('[study]\nname = "a"\nrows = { b = {} }', r"has no \[\[study\]\]"),
        ('[[study]]\nname = "a"\nrows = { b = {} }\n' * 2, "has two studies 'a'"),
        ('[[study]]\nname = "a"\ngrid = { views = [4] }\nrows = { "views 4" = {} }', "row 'views 4' in its grid and in its rows"),
        ('[[study]]\nname = "a"\nrows = { original = { epochs = 1 } }', "a row 'original', the name of the network before"),
        ('[[study]]\nname = "a"\nrows = { b = { recipe = "none", lr = 1e-3 } }', "so lr would change nothing"),
        ('[[study]]\nname = "a"\nrows = { b = { views = 1, rooms = 4, control = "wrong poses" } }', "need a second camera"),
    ],
)
def test_a_wrong_grid_gets_one_sentence_before_anything_is_measured(tmp_path, text, words):
    path = tmp_path / "g.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_grid(path)


@pytest.mark.parametrize("shard", ["3", "3/2", "0/2", "a/b", "-1/2"])
def test_a_wrong_shard_or_study_is_refused(grid, tmp_path, shard, measured):
    with pytest.raises(ValueError, match="--shard is I/N"):
        ablate.main([str(grid), "--work", str(tmp_path), f"--shard={shard}"])
    with pytest.raises(ValueError, match="no study room; there are rooms, ways"):
        ablate.main([str(grid), "--work", str(tmp_path), "--only", "room"])
    assert not measured


def test_a_point_trains_and_judges_for_real(monkeypatch):
    """Small in every way; its numbers are those of the network that the same settings give by hand."""
    for name, value in {"VIEWS": 2, "SIZE": 112, "PAIR": (56, 84), "GROUPS": 4}.items():
        monkeypatch.setattr(judges, name, value)
    for name in ("_pair", "captured"):  # kept ones are of another size
        monkeypatch.setattr(judges, name, functools.lru_cache(getattr(judges, name).__wrapped__))
    monkeypatch.setattr(trial, "captured", judges.captured)
    monkeypatch.setitem(point.JUDGES, "probe_val", 1)
    monkeypatch.setattr(judges, "_seen", functools.lru_cache(maxsize=3)(judges._seen.__wrapped__))
    small = point_of(rooms=1, views=4, size=56, gaussians=300, probe_rooms=1, test_rooms=1, epochs=1)
    alone, beside = trial.measure(small, 4, "cpu")
    assert alone["way"] == "alone" and 0 <= alone["miou"] <= 1 and alone["rmse"] > 0 and "recall_20" not in beside
    assert {"margin", "masks", "ami", "noise", "place", "room", "pair", "auc"} <= set(alone)
    json.dumps([alone, beside])
    vit, seen = f3d.load_vit("small", device="cpu"), room(SEEDS["finetune"].start + 4 * point.LEARN, 4, 56)
    cloud = f3d.Gaussians.from_depth(seen, count=300)
    lifted = f3d.lift(cloud, seen.cameras, vit.extract(seen.images, quiet=True, dtype=torch.float32), samples=4)
    by_hand = f3d.finetune(vit, [seen], [lifted], "lite", epochs=1, seed=4, progress=False)
    assert not torch.equal(by_hand.model.blocks[0].attn.qkv.weight, vit.model.blocks[0].attn.qkv.weight)
    assert judges.read(small, [by_hand], 4, "cpu")["miou"] == alone["miou"]
    other, stands_beside = trial.measure(replace(small, beside="fit3d", scene="room:7 --views 2"), 4, "cpu")
    assert other["captured"] == consistency(by_hand, room(7, 2, 112), tolerance=judges.NOISY).recall["10 px"]
    fit3d = trial.network(Point(weights="fit3d"), "cpu")
    assert stands_beside["miou"] == judges.read(small, [fit3d, by_hand], 4, "cpu")["miou"] != beside["miou"]
    assert judges.read(replace(small, head="k-NN"), [by_hand], 4, "cpu").keys() == {"accuracy"}
    narrow = {"windows": 14}, {"robust": True}, {"finer": 2}, {"control": "agreeing half"}, {"learned": "untextured"}
    for narrower in (*narrow, {"learned": "empty"}, {"patch": 28}):
        settings = {"rooms": 1, "views": 4, "size": 56, "gaussians": 300, "epochs": 1, **narrower}
        other = trial.taught(point_of(**settings), 4, "cpu").model.blocks[0].attn.qkv.weight
        assert not torch.equal(other, by_hand.model.blocks[0].attn.qkv.weight), narrower
    assert trial.network(Point(patch=28), "cpu").grid(56, 56) == (2, 2)
    headless = f3d.load_vit("vit_wee_patch16_reg1_gap_256", "random", device="cpu")
    assert "room" not in judges.agreement(headless, 1, 4, "cpu"), "without a CLS token nobody says which room a photo shows"
    norms = [trial.network(Point(blocks=count), "cpu").model.norm.weight for count in (0, 8)]
    assert not torch.equal(*norms), "asked for by number, all blocks get a last norm as fewer do"
    with pytest.raises(ValueError, match="rooms for 5 repetitions"):
        trial.measure(small, 5)
    with pytest.raises(ValueError, match="rooms for 5 repetitions, not for 6"):
        points_of([], 6)


def test_rooms_of_another_style_are_the_same_rooms_seen_otherwise():
    plain, other, long, bare, empty = (judges.styled_room(3, 1, 64, "cpu", style) for style in point.STYLES)
    assert torch.equal(other.images[:, 0], plain.images[:, 2]) and torch.equal(other.depths, plain.depths)
    assert len({scene.name for scene in (plain, other, long, bare, empty)}) == 5, "features are kept by name"
    assert torch.equal(empty.images, room(3, 1, 64, furniture=False).images) and not torch.equal(empty.images, plain.images)
    assert long.images.shape == plain.images.shape and long.cameras[0].K[0, 0] > 1.4 * plain.cameras[0].K[0, 0]
    assert torch.equal(bare.depths, plain.depths) and torch.equal(bare.labels, plain.labels)
    inside = plain.labels[0, :, 1:] == plain.labels[0, :, :-1]
    rough = [scene.images.diff(dim=3)[0, :, inside].abs().median() for scene in (plain, bare)]
    assert rough[1] <= 0.5 * rough[0], "within a class less changes from pixel to pixel; light and edges of things stay"
    fov = [2 * math.degrees(math.atan(0.5 * 64 / scene.cameras[0].K[0, 0])) for scene in (plain, long)]
    assert 64 < fov[0] < 76 and 47 < fov[1] < 57, "as Point says"


def test_a_point_keeps_its_name_when_settings_are_added(tmp_path, monkeypatch):
    assert Point().key == {} and point_of(rooms=3, lr=1e-3).key == {"rooms": 3, "changes": {"lr": 1e-3}}
    assert json.dumps(point_of(flip=0).key) == json.dumps(point_of(flip=0.0).key)
    monkeypatch.setenv("HERE", "/a b")
    assert point_of(scene="colmap:'$HERE/scan'").scene == "colmap:'/a b/scan'", "a variable may mean something else tomorrow"
    named = point_of(weights="$HERE/vit", beside="$HERE/it")
    assert (named.weights, named.beside) == ("/a b/vit", "/a b/it")
    names = {sweep._path(tmp_path, *one) for one in ((Point(rooms=3), 0), (Point(rooms=3), 1), (Point(), 0))}
    assert len(names) == 3


@pytest.mark.parametrize("path", [asset("ablations.toml"), *sorted((Path(__file__).parents[2] / "bench").glob("*.toml"))])
def test_the_courses_own_grids_are_readable_and_say_what_they_expect(path):
    studies, repetitions = read_grid(path)
    assert repetitions >= 5 and all(study.question and study.expected for study in studies)
