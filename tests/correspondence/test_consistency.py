"""Agreement of views on scenes whose answer is known, and against slow plain versions and scikit-learn."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from sklearn.metrics import roc_auc_score
from torch.testing import assert_close
from two_planes import EYES, WALL, hidden_by_board, position_features, two_planes

from fit3d_lite import Camera, Consistency, Scene, captures, consistency
from fit3d_lite.correspondence.consistency import BINS, consistency_by_block, in_bins
from fit3d_lite.correspondence.correspond import correspondences, rotation_angle, surface, view_pairs, visible
from fit3d_lite.correspondence.match import features_at, roc_auc, soft_argmax

# ---- correspondences


def test_a_pair_is_one_point_seen_by_both_and_the_overlap_is_the_closed_form():
    scene = two_planes(board=False, eyes=((0, 0), (0.2, 0), (0.2, 0.3)))
    pairs = {(p.a, p.b): p for p in view_pairs(scene, points=50)}
    for pair in pairs.values():
        assert len(pair.uv_a) == 50 and pair.angle == 0
        assert_close(surface(scene, pair.a, pair.uv_a), pair.points)
        assert_close(scene.cameras[pair.b].project(pair.points)[0], pair.uv_b)
    # The photo shows 0.8 m of the wall in both directions; shifted by 0.2 m three quarters remain.
    assert pairs[0, 1].overlap == pytest.approx(3 / 4, abs=0.03)
    assert pairs[0, 2].overlap == pytest.approx(3 / 4 * 5 / 8, abs=0.03)


def test_what_the_board_hides_is_no_correspondence():
    scene = two_planes()
    uv = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="xy"), -1).reshape(-1, 2) + 0.5
    for a, b in ((0, 1), (1, 2), (2, 0)):
        points = surface(scene, a, uv)
        uv_b, seen = visible(scene, b, points)
        hidden = hidden_by_board(points, EYES[b])
        inside = ((uv_b > 0) & (uv_b < 64)).all(1)
        assert 200 < (hidden & inside).sum() < 1500
        # Only where the edge of the board runs through a pixel may the two differ.
        wrong = seen != (inside & ~hidden)
        assert wrong.float().mean() < 0.02
        edge = F.max_pool2d((F.max_pool2d(scene.depths[b][None], 3, 1, 1) != scene.depths[b]).float(), 3, 1, 1)[0] > 0
        u, v = uv_b[wrong & inside].long().clamp(0, 63).unbind(1)
        assert edge[v, u].all()


def test_what_has_no_depth_is_neither_asked_nor_found():
    scene = two_planes(board=False)
    depths = scene.depths.clone()
    depths[:, :, :32] = 0
    scene = dataclasses.replace(scene, depths=depths)
    for pair in view_pairs(scene, points=1000):
        assert (pair.uv_a[:, 0] > 32).all() and (pair.uv_b[:, 0] >= 32).all()
    # With features that prefer the unknown half every place found still has a depth.
    feats = torch.ones(3, 2, 64, 64)
    feats[:, 1, :, :32] = -1
    feats[:, :, :, 32:] *= torch.rand(3, 2, 64, 32) + 0.5
    found = consistency(feats, scene, points=30)
    assert (found.metres < 2).all() and found.chance.sum() > 0


def test_the_angle_is_that_of_the_rotation_roll_included():
    for angle, axis in ((40, (0, 0, 1)), (75, (1, 2, 3)), (180, (0, 1, 0)), (0, (1, 0, 0))):
        turn = Rotation.from_rotvec(torch.tensor(axis).numpy() / math.hypot(*axis) * math.radians(angle))
        start = Rotation.from_euler("xyz", (0.3, -1.0, 2.0))
        poses = torch.eye(4).repeat(2, 1, 1)
        for pose, rotation in zip(poses, (start, turn * start), strict=True):
            pose[:3, :3], pose[:3, 3] = torch.from_numpy(rotation.as_matrix()), torch.rand(3)
        first, second = (Camera(torch.eye(3), pose, 4, 4) for pose in poses)
        assert rotation_angle(first, second) == pytest.approx(angle, abs=0.05)


def test_pairs_come_from_the_seed_and_can_be_fewer():
    scene = two_planes()
    all_pairs, some = view_pairs(scene), view_pairs(scene, most=2)
    assert len(all_pairs) == 6 and len(some) == 2
    again = view_pairs(scene)
    assert all(torch.equal(p.uv_a, q.uv_a) for p, q in zip(all_pairs, again, strict=True))
    assert not torch.equal(view_pairs(scene, seed=1)[0].uv_a, all_pairs[0].uv_a)


def test_what_cannot_be_followed_is_refused_with_the_best_overlap_there_is():
    scene = two_planes(board=False, eyes=((0, 0), (0.4, 0)))
    with pytest.raises(ValueError, match=r"share 90% of what they see, the best pair (49|50|51)%: take views"):
        view_pairs(scene, min_overlap=0.9)
    bare = dataclasses.replace(scene, depths=None, labels=None)
    for call in (view_pairs, correspondences, lambda s: consistency(torch.ones(2, 3, 4, 4), s)):
        with pytest.raises(ValueError, match="planes has no depths"):
            call(bare)
    for name, value in {"min_overlap": 0, "tolerance": 1.0, "points": 1, "most": 0}.items():
        with pytest.raises(ValueError, match=f"{name}(=| must be a whole number from . up, got ){value}"):
            view_pairs(scene, **{name: value})


# ---- features at places


def test_features_between_patches_are_bilinear():
    feats, (height, width) = torch.randn(3, 4, 5, dtype=torch.float64), (32, 60)
    uv = torch.tensor([[6.0, 4.0], [17.3, 12.9], [59.9, 31.5], [0.1, 20.0]], dtype=torch.float64)
    for (u, v), found in zip(uv.tolist(), features_at(feats, uv, (height, width)), strict=True):
        col, row = min(max(u / width * 5 - 0.5, 0), 4), min(max(v / height * 4 - 0.5, 0), 3)
        left, top = min(int(col), 3), min(int(row), 2)
        s, t = col - left, row - top
        upper = (1 - s) * feats[:, top, left] + s * feats[:, top, left + 1]
        lower = (1 - s) * feats[:, top + 1, left] + s * feats[:, top + 1, left + 1]
        assert_close(found, F.normalize((1 - t) * upper + t * lower, dim=0))


def test_the_area_under_the_roc_curve_is_scikit_learns_with_ties():
    torch.manual_seed(0)
    for digits in (1, 6):
        positive, negative = (torch.randn(300) + 0.5).round(decimals=digits), torch.randn(200).round(decimals=digits)
        truth = torch.cat([torch.ones(300), torch.zeros(200)])
        assert roc_auc(positive, negative) == pytest.approx(roc_auc_score(truth, torch.cat([positive, negative])))


def test_soft_argmax_is_the_weighted_mean_whatever_the_scale_of_the_cosines():
    places = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    # Two places have z of +1 and -1: the weight of the first is 1 / (1 + exp(-2 sharpness)).
    found = soft_argmax(torch.tensor([[0.9, 0.1]]), places, sharpness=0.5)
    assert found[0, 0].item() == pytest.approx(10 * (1 - 1 / (1 + math.exp(-1))), abs=1e-4)
    similarity, many = torch.rand(4, 50), torch.rand(50, 2) * 100
    assert_close(soft_argmax(similarity, many), soft_argmax(0.97 + 0.01 * similarity, many), atol=0.01, rtol=0)
    assert_close(soft_argmax(torch.full((1, 50), 0.3), many)[0], many.mean(0))
    assert_close(soft_argmax(similarity, many, sharpness=1e4), many[similarity.argmax(1)])


# ---- the whole


def test_features_that_are_the_position_in_3d_are_found_everywhere():
    scene = two_planes()
    found = consistency(position_features(scene), scene)
    # The next place is at most 2.9 px away; a pixel of the wall is 12.5 mm, so 2 cm asks for less than 1.6 px.
    assert [found.recall[t] for t in ("5 px", "10 px", "20 px", "5 cm", "10 cm")] == [1] * 5
    assert consistency(position_features(scene), scene, stride=1).recall["2 cm"] > 0.99
    assert found.cosine_true > 0.999 and found.auc > 0.99
    assert len(found) == 600 and found.queries_by_angle == {"0-15°": 600, "15-30°": 0, "30-60°": 0, "60-180°": 0}


def test_features_that_say_nothing_score_chance():
    scene = two_planes()
    feats = torch.randn(3, 16, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = Consistency.pooled([consistency(feats, scene, seed=seed) for seed in range(5)])
    # Constant features send all queries of a pair to one place, so it takes many pairs.
    constant = [consistency(torch.ones(3, 16, 8, 8), scene, points=20, seed=seed) for seed in range(60)]
    for found, error in ((noise, 0.02), (Consistency.pooled(constant), 0.04)):
        for name, chance in found.recall_chance.items():
            assert found.recall[name] == pytest.approx(chance, abs=error)
    assert 0.1 < noise.recall_chance["20 px"] < 0.35
    assert noise.auc == pytest.approx(0.5, abs=0.03) and abs(noise.margin) < 0.02
    assert constant[0].auc == pytest.approx(0.5, abs=0.25) and constant[0].margin == pytest.approx(0, abs=1e-6)


def test_every_error_is_that_of_a_slow_plain_version():
    scene = two_planes(size=24)
    feats = torch.randn(3, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    found = consistency(feats, scene, points=10, stride=3)
    expected = []
    for pair in sorted(view_pairs(scene, points=10), key=lambda pair: pair.b):
        places = [(u + 0.5, v + 0.5) for v in range(1, 24, 3) for u in range(1, 24, 3)]
        keys = features_at(feats[pair.b], torch.tensor(places), (24, 24))
        for uv_a, uv_b, point in zip(pair.uv_a, pair.uv_b, pair.points, strict=True):
            query = features_at(feats[pair.a], uv_a[None], (24, 24))[0]
            best = max(range(len(places)), key=lambda i: float(query @ keys[i]))
            place = torch.tensor(places[best])
            there = surface(scene, pair.b, place[None])[0]
            distances = [math.dist(uv_b.tolist(), other) for other in places]
            truth = features_at(feats[pair.b], uv_b[None], (24, 24))[0]
            expected.append(
                (
                    math.dist(uv_b.tolist(), place.tolist()),
                    math.dist(point.tolist(), there.tolist()),
                    float(query @ truth),
                    sum(d < 10 for d in distances) / len(distances),
                )
            )
    expected = torch.tensor(expected)
    for i, mine in enumerate((found.pixels, found.metres, found.true, found.chance[:, 1])):
        assert_close(mine, expected[:, i], atol=1e-4, rtol=0)


def test_metres_do_not_suffer_from_where_the_origin_is():
    scene, feats = two_planes(), torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    shift = torch.eye(4)
    shift[:3, 3] = torch.tensor([-40.0, 25.0, 60.0])
    cameras = [dataclasses.replace(c, world_to_camera=c.world_to_camera @ shift) for c in scene.cameras]
    here, there = (consistency(feats, s) for s in (scene, dataclasses.replace(scene, cameras=tuple(cameras))))
    assert_close(here.pixels, there.pixels, atol=2e-3, rtol=0)
    assert_close(here.metres, there.metres, atol=1e-4, rtol=0)


def test_raw_cosine_rises_when_features_collapse_and_what_counts_does_not():
    scene = two_planes(size=64)
    torch.manual_seed(0)
    waves = torch.randn(32, 3) * 20
    points = torch.stack([c.unproject(d) for c, d in zip(scene.cameras, scene.depths, strict=True)])
    feats = torch.sin(points @ waves.T + 6 * torch.rand(32)).movedim(-1, 1) + 0.7 * torch.randn(3, 32, 64, 64)
    mean = feats.mean((0, 2, 3), keepdim=True)
    before, after = consistency(feats, scene), consistency(mean + 1 + 0.05 * (feats - mean), scene)
    assert before.cosine_true < 0.75 and after.cosine_true > 0.99
    assert before.margin > 0.2 and after.margin < 0.01
    assert after.recall["10 px"] == pytest.approx(before.recall["10 px"], abs=0.1)


def test_bins_hold_their_lower_end_and_180_degrees():
    inside = torch.stack(in_bins(torch.tensor([0.0, 14.9, 15.0, 30.0, 59.9, 60.0, 180.0])))
    assert inside.int().argmax(0).tolist() == [0, 0, 1, 2, 2, 3, 3] and (inside.sum(0) == 1).all()
    made = Consistency(*(torch.zeros(4) for _ in range(5)), torch.tensor([1.0, 20.0, 20.0, 70.0]), torch.zeros(4, 6))
    made = dataclasses.replace(made, pixels=torch.tensor([1.0, 7.0, 30.0, 30.0]))
    by_angle = {name: recall["10 px"] for name, recall in made.recall_by_angle.items()}
    assert by_angle.pop("30-60°") != by_angle.get("30-60°")  # nan: no pair of views there
    assert by_angle == {"0-15°": 1.0, "15-30°": 0.5, "60-180°": 0.0}
    assert made.recall["5 px"] == 0.25 and list(made.queries_by_angle.values()) == [1, 2, 0, 1]


def test_a_query_is_never_shuffled_onto_itself():
    # Orthogonal features: a cosine of 1 with oneself, of 0 with any other pixel.
    scene = two_planes(size=12, board=False, eyes=((0, 0), (0, 0)))
    feats = torch.eye(144).view(1, 144, 12, 12).expand(2, -1, -1, -1)
    found = consistency(feats, scene, points=40, stride=1)
    assert found.cosine_true == pytest.approx(1) and found.cosine_shuffled == pytest.approx(0)
    assert found.margin == pytest.approx(1) and found.auc == pytest.approx(1) and found.recall["2 cm"] == 1


def test_features_a_vit_or_a_function_and_one_scene_or_several():
    scenes = [two_planes(size=32), two_planes(size=32, eyes=((0, 0), (0.05, 0)))]
    feats = [position_features(s) for s in scenes]

    class Model:
        blocks = 2

        def extract(self, images, block=-1):
            f = feats[0] if len(images) == 3 else feats[1]
            return f if block == -1 else [f if b == 1 else torch.ones_like(f) for b in block]

    one, model = consistency(feats[0], scenes[0]), Model()
    assert torch.equal(one.pixels, consistency(model, scenes[0]).pixels)
    assert torch.equal(one.pixels, consistency(model.extract, scenes[:1]).pixels)
    both = consistency(feats, scenes)
    assert len(both) == len(one) + len(consistency(feats[1], scenes[1])) == 800
    by_block = consistency_by_block(model, scenes)
    assert by_block[1].recall == both.recall and by_block[0].recall["5 px"] < 0.5
    assert list(consistency_by_block(model, scenes[0], blocks=[1])) == [1]
    assert "recall 1.000 within 10 px" in repr(both) and f"{len(both)} queries" in repr(both)


@pytest.mark.parametrize(
    "feats, message",
    [
        (torch.ones(2, 3, 4, 4), r"V = 3 views, got \[2, 3, 4, 4\]"),
        (torch.ones(3, 4, 4), r"must be \[V, C, h, w\]"),
        ([torch.ones(3, 2, 4, 4)] * 2, "2 feature tensors for 1 scenes"),
        (torch.full((3, 2, 4, 4), torch.nan), "not finite"),
    ],
)
def test_features_that_do_not_fit_are_refused(feats, message):
    with pytest.raises(ValueError, match=message):
        consistency(feats, two_planes(size=16))


def test_no_scene_and_no_stride_are_refused():
    for scenes, options in (([], {}), (two_planes(size=16), {"stride": 0})):
        with pytest.raises(ValueError, match="needs a scene; got none|stride must be a whole number from 1 up, got 0"):
            consistency(torch.ones(3, 2, 4, 4), scenes, **options)


@pytest.mark.shared
def test_the_office_is_consistent_with_itself():
    if captures.find_office(slice(20, 28)) is None:
        pytest.skip("the office capture is not here")
    scene: Scene = captures.office(slice(20, 28), size=84)
    points = torch.stack([c.unproject(d) for c, d in zip(scene.cameras, scene.depths, strict=True)]).movedim(-1, 1)
    points = (points - points[(scene.depths > 0)[:, None].expand_as(points)].view(3, -1).mean()) / 2
    square = (points**2).sum(1, keepdim=True)
    found = consistency(torch.cat([2 * points, square - 1], 1) / (square + 1), scene, tolerance=0.05)
    assert found.recall["10 px"] > 0.9
    assert [n > 0 for n in found.queries_by_angle.values()][:3] == [True] * 3 and set(found.recall_by_angle) == set(
        BINS
    )


def test_wall_is_where_it_should_be():
    scene = two_planes(board=False)
    assert_close(surface(scene, 0, torch.tensor([[32.0, 32.0]]))[0, 2], torch.tensor(WALL))
