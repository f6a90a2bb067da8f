"""Procedural rooms: ray casting against closed forms, views that agree in 3D, the same bits from every run."""

import hashlib

import pytest
import torch
from rays import crossings

from fit3d_lite.rooms import CLASSES, room
from fit3d_lite.rooms.build import build
from fit3d_lite.rooms.make import place_cameras
from fit3d_lite.rooms.photo import to_tiles
from fit3d_lite.rooms.raycast import blocked, nearest
from fit3d_lite.rooms.shapes import BALL, BOX, CONE, FAR, Primitives, surface


def one(kind, center, half, yaw=(1.0, 0.0), taper=1.0) -> Primitives:
    f = lambda *x: torch.tensor([x], dtype=torch.float32)  # noqa: E731
    flat = lambda x: torch.tensor([x])  # noqa: E731
    return Primitives(flat(kind), f(*center), f(*half), f(*yaw), flat(float(taper)), flat(True), flat(0), flat(0), f(1, 1, 1),
                      f(0, 0, 0), flat(1.0), f(0, 0), flat(0.0))  # fmt: skip


def cast(prims, eye, direction) -> float:
    t, _ = nearest(prims, torch.tensor([eye]), torch.tensor([[direction]]))
    return float(t)


@pytest.mark.parametrize(
    "prims, eye, direction, expected",
    [
        (one(BOX, (0, 0, 5), (1, 1, 1)), (0, 0, 0), (0, 0, 1), 4.0),
        (
            one(BOX, (5, 0, 0), (1, 1, 1), (0.5**0.5, 0.5**0.5)),
            (0, 0, 0),
            (1, 0, 0),
            5 - 2**0.5,
        ),  # turned by 45 degrees
        (one(BALL, (0, 0, 5), (1, 1, 1)), (0, 0, 0), (0, 0, 2), 2.0),  # t counts lengths of the direction
        (one(BALL, (4, 0, 0), (1, 2, 1)), (0, 1.0, 0), (1, 0, 0), 4 - 0.75**0.5),
        (one(CONE, (3, 0, 0), (1, 1, 2)), (0, 0, 0), (1, 0, 0), 2.0),
        (one(CONE, (0, 0, 5), (1, 1, 2)), (0.5, 0, 0), (0, 0, 1), 3.0),  # the cap
        (one(CONE, (0, 0, 0), (1, 1, 1), taper=0.0), (-3, 0, 0), (1, 0, 0), 2.5),  # half way up a full cone
        (one(CONE, (0, 0, 0), (1, 1, 1), taper=0.0), (0.5, 0, 3), (0, 0, -1), 3.0),  # steeper than its side
        (one(CONE, (0, 0, 0), (1, 1, 1), taper=0.5), (-3, 0, 0.5), (1, 0, 0), 3 - 0.625),
        (one(BOX, (0, 0, -5), (1, 1, 1)), (0, 0, 0), (0, 0, 1), FAR),  # behind
        (one(CONE, (0, 0, 5), (1, 1, 2), taper=0.0), (1.5, 0, 0), (0, 0, 1), FAR),
    ],
)
def test_a_ray_meets_a_shape_where_geometry_says(prims, eye, direction, expected):
    eye, direction = tuple(map(float, eye)), tuple(map(float, direction))
    assert cast(prims, eye, direction) == pytest.approx(expected, rel=2e-6)  # a few roundings of float32


@pytest.mark.parametrize("kind, taper", [(BOX, 1.0), (BALL, 1.0), (CONE, 1.0), (CONE, 0.4)])
def test_hits_lie_on_the_surface_and_normals_face_the_eye(kind, taper):
    prims = one(kind, (0.3, 4.0, -0.2), (1.0, 0.7, 1.4), (0.8, 0.6), taper)
    grid = torch.linspace(-0.5, 0.5, 32)
    rays = torch.stack([grid[:, None].expand(32, 32), torch.ones(32, 32), grid[None].expand(32, 32)], -1).reshape(
        1, -1, 3
    )
    t, index = nearest(prims, torch.zeros(1, 3), rays)
    hit = t < FAR
    assert 100 < int(hit.sum()) < 1024
    point = (rays * t[..., None])[hit]
    normal, _, q, _ = surface(prims, index[hit], point)
    radius = 0.5 * (taper + 1) + 0.5 * (taper - 1) * q[:, 2]
    distance = {
        BOX: q.abs().amax(-1),
        BALL: q.norm(dim=-1),
        CONE: torch.maximum(q[:, 2].abs(), q[:, :2].norm(dim=-1) / radius),
    }[kind]
    torch.testing.assert_close(distance, torch.ones_like(distance), atol=3e-5, rtol=0)  # b^2 - ac at a distance of 4
    torch.testing.assert_close(normal.norm(dim=-1), torch.ones(len(normal)))
    assert ((normal * rays[hit]).sum(-1) < 1e-4).all()


def test_a_shadow_ray_is_blocked_by_what_lies_between_only():
    prims = one(BOX, (0, 0, 5), (1, 1, 1))
    point = torch.zeros(1, 4, 3)
    target = torch.tensor([[[0, 0, 10.0], [0, 0, 3.0], [5, 0, 10.0], [0, 0, -10.0]]])
    assert blocked(prims, point, target, torch.ones(1, 4, dtype=torch.bool)).tolist() == [[True, False, False, False]]


@pytest.fixture(scope="module")
def scene():
    return room(3, views=8, size=96)


@pytest.fixture(scope="module")
def rays():
    """A room's primitives, and 16 tiles of 8 x 8 rays from two eyes in it, with where they end."""
    plan = build(5)
    cameras, eyes = place_cameras(plan, "train", 2, 16, 32)
    direction = torch.cat([to_tiles(camera.rays()[1][None]) for camera in cameras])
    eye = eyes.repeat_interleave(8, 0)
    return plan.prims, eye, direction, nearest(plan.prims, eye, direction)


def test_rays_end_where_every_primitive_tried_in_float64_says(rays):
    prims, eye, direction, (t, index) = rays
    origin = eye[:, None].expand_as(direction).reshape(-1, 3).double()
    near, far = crossings(prims, origin, direction.reshape(-1, 3).double())
    first = torch.where((near <= far) & (near > 1e-4), near, torch.inf).min(1)
    close = (t.flatten() - first.values).abs() < 1e-5 * first.values
    same = index.flatten() == first.indices
    assert close.float().mean() > 0.998 and same.float().mean() > 0.995  # a ray along an edge may go either way
    assert len(index.unique()) > 30 and {BOX, BALL, CONE} == set(prims.kind[index.unique()].tolist())


def test_shadows_fall_where_every_primitive_tried_in_float64_says(rays):
    prims, eye, direction, (t, _) = rays
    point = eye[:, None] + direction * t[..., None] * 0.999
    target = torch.tensor([2.0, 2.0, 0.3]).expand_as(point)
    needed = torch.rand(t.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    needed[3] = False
    got = blocked(prims, point, target, needed)
    near, far = crossings(prims, point.reshape(-1, 3).double(), (target - point).reshape(-1, 3).double())
    truth = ((near <= far) & (far > 1e-4) & (near < 0.999) & prims.casts).any(1).reshape(t.shape) & needed
    assert (got == truth).float().mean() > 0.995 and 0.1 < got.float().mean() < 0.6 and not got[3].any()


def test_culling_changes_no_bit(rays):
    prims, eye, direction, found = rays
    everywhere = build(5).prims
    for table in (everywhere.tables, everywhere.casters.tables):
        table[1][:, 3:] = 1e3  # boxes so large that every primitive is tried with every ray
    assert all(torch.equal(a, b) for a, b in zip(found, nearest(everywhere, eye, direction)))
    point, target = eye[:, None] + direction * 0.1, eye[:, None] + direction * found[0][..., None] * 1.2
    needed = torch.ones_like(found[0], dtype=torch.bool)
    shade = blocked(prims, point, target, needed)
    assert torch.equal(shade, blocked(everywhere, point, target, needed)) and 0 < shade.float().mean() < 1


def test_photos_depths_and_labels_are_in_range(scene):
    assert scene.images.shape == (8, 3, 96, 96) and scene.images.dtype == torch.float32
    assert 0 <= float(scene.images.min()) and float(scene.images.max()) <= 1
    levels = scene.images * 255
    assert float((levels - levels.round()).abs().max()) < 1e-4
    assert 0.2 < float(scene.depths.min()) and float(scene.depths.max()) < 8  # the longest diagonal of a room is 7.6 m
    assert scene.labels.dtype == torch.int64 and 0 <= int(scene.labels.min()) and int(scene.labels.max()) < len(CLASSES)
    assert scene.classes == CLASSES
    assert len(scene.labels.unique()) >= 8
    assert (
        0.25 < float(scene.images.mean()) < 0.8 and float(scene.images.std()) > 0.12
    )  # neither dark, burnt out nor flat


def test_two_views_agree_about_every_point_they_share(scene):
    shared = agree = 0
    for a in scene:
        points = a.camera.unproject(a.depth).reshape(-1, 3)
        for b in scene:
            if a.camera is b.camera:
                continue
            pixel, depth = b.camera.project(points)
            inside = (depth > 0.1) & (pixel > 1).all(-1) & (pixel < 95).all(-1)
            u, v = pixel[inside].long().unbind(-1)
            seen = b.depth[v, u]
            # Nearer there: occluded. What b sees must never lie behind the point; pixels at edges may.
            visible = depth[inside] < seen * 1.02 + 0.02
            close = (depth[inside] - seen).abs() < 0.02 * seen + 0.02
            shared, agree = shared + int(visible.sum()), agree + int((visible & close).sum())
    assert shared > 50_000  # views overlap
    assert agree / shared > 0.95


def test_a_room_is_the_same_bits_with_one_thread_and_with_two():
    before = torch.get_num_threads()
    prints = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            s = room(1, views=3, size=(48, 56))
            data = (s.images * 255).round().byte(), (s.depths * 1e4).round().int(), s.labels.byte()
            prints.append(hashlib.sha256(b"".join(x.numpy().tobytes() for x in data)).hexdigest())
    finally:
        torch.set_num_threads(before)
    assert prints[0] == prints[1]
    assert prints[0][:16] == PINNED, "the rooms changed: every number measured on them has to be measured again"


PINNED = "be4b5cbccd18c39d"


@pytest.mark.gpu
def test_a_room_traced_on_a_gpu_is_the_one_traced_on_a_cpu():
    there, here = room(3, 4, 96, device="cuda").to("cpu"), room(3, 4, 96)
    for name in ("images", "depths", "labels"):
        assert torch.equal(getattr(there, name), getattr(here, name)), name


def test_the_first_views_do_not_depend_on_how_many_are_asked():
    few, many = room(2, views=2, size=32), room(2, views=5, size=32)
    assert torch.equal(few.images, many.images[:2])
    assert torch.equal(few.depths, many.depths[:2])
    assert torch.equal(few.cameras[1].world_to_camera, many.cameras[1].world_to_camera)


def test_seeds_give_different_rooms_and_holdout_other_cameras_in_the_same_room():
    train, holdout, other = room(4, 6, 24), room(4, 6, 24, split="holdout"), room(5, 6, 24)
    eyes, held = (torch.stack([c.center for c in s.cameras]) for s in (train, holdout))
    assert float(torch.cdist(eyes, held).min()) > 1e-3
    assert not torch.equal(train.images, other.images)
    a, b = build(4), build(5)
    assert a.prims.kind.shape != b.prims.kind.shape or not torch.equal(a.prims.center, b.prims.center)
    assert torch.equal(a.prims.center, build(4).prims.center)


@pytest.mark.parametrize("seeds", [range(0, 10), range(10, 20), range(20, 30)])
def test_cameras_stand_like_people_in_free_space(seeds):
    for seed in seeds:
        plan = build(seed)
        for split, count in (("train", 6), ("holdout", 2)):
            cameras, eyes = place_cameras(plan, split, count, 17, 17)
            rays = torch.stack([camera.rays()[1].reshape(-1, 3) for camera in cameras])
            for i, depth in enumerate(nearest(plan.prims, eyes, rays)[0]):
                x, y, z = eyes[i].tolist()
                where = f"room {seed}, {split} view {i}"
                assert 0.9 <= z <= 1.9, where
                assert 0.4 <= x <= plan.length - 0.4 and 0.4 <= y <= plan.width - 0.4, where
                assert float(depth[144]) >= 0.4, where
                assert float(depth.median()) >= 0.6, where
                assert float(depth.min()) > 0.1, where
                assert 64.9 <= cameras[i].fov_x <= 75.1, where


def test_furniture_stands_inside_the_room_and_apart():
    for seed in range(30):
        plan = build(seed)
        low = (plan.prims.center - plan.prims.reach)[plan.prims.casts]
        high = (plan.prims.center + plan.prims.reach)[plan.prims.casts]
        assert float(low.min()) > -0.12, seed  # nothing sticks out of a wall; frames may be let in
        assert (high < torch.tensor([plan.length, plan.width, plan.height]) + 0.12).all(), seed
        low, high = plan.prims.center - plan.prims.reach, plan.prims.center + plan.prims.reach
        boxes = [(low[i:j].amin(0), high[i:j].amax(0)) for i, j in plan.pieces]
        for i, (a_low, a_high) in enumerate(boxes):
            for b_low, b_high in boxes[:i]:
                overlap = torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)
                # Leaves and cushions may brush their neighbour by a few centimetres.
                assert float(overlap.amin()) < 0.06, f"room {seed}: two pieces share {overlap.tolist()} metres"


def test_an_empty_room_is_the_same_room_behind_its_furniture():
    full, empty = room(3, 4, 48), room(3, 4, 48, furniture=False)
    for name in ("sofa", "chair", "table", "shelf"):
        assert (full.labels == CLASSES.index(name)).any() and not (empty.labels == CLASSES.index(name)).any(), name
    assert all(torch.equal(a.world_to_camera, b.world_to_camera) for a, b in zip(full.cameras, empty.cameras, strict=True))
    assert (empty.depths >= full.depths).all() and (empty.depths > full.depths).float().mean() > 0.2
    bare = empty.depths == full.depths  # here the room itself was seen; its light may be another, without shadows of things
    assert bare.float().mean() > 0.2 and torch.equal(empty.labels[bare], full.labels[bare])


def test_every_class_is_common_enough_to_be_measured():
    count = torch.zeros(len(CLASSES))
    for seed in range(20):
        plan = build(seed)
        cameras, eyes = place_cameras(plan, "train", 4, 24, 24)
        rays = torch.stack([camera.rays()[1].reshape(-1, 3) for camera in cameras])
        count += torch.bincount(plan.prims.label[nearest(plan.prims, eyes, rays)[1]].flatten(), minlength=len(CLASSES))
    share = count / count.sum()
    assert float(share.min()) > 0.003, dict(zip(CLASSES, share.tolist()))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"views": 0}, "views must be a whole number from 1 up, got 0"),
        ({"seed": -1}, "seed must be a whole number from 0 up, got -1"),
        ({"size": 7}, "at least 8 pixels a side, got 7 x 7"),
        ({"size": (64, 4)}, "64 x 4"),
        ({"split": "test"}, "train, holdout, got 'test'"),
    ],
)
def test_bad_input_gets_one_clear_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        room(**arguments)
