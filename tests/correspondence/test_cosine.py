"""Correspondences of a wall that is known by hand, and the cosine of features at them."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from wall import wall

from fit3d_lite.correspondence.correspond import correspondences
from fit3d_lite.correspondence.cosine import cross_view_cosine


def test_correspondences_are_the_same_point_and_stop_at_what_is_hidden():
    scene = wall()
    view_a, uv_a, view_b, uv_b = correspondences(scene, per_view=100)
    assert len(view_a) > 100 and (view_a != view_b).all()
    for a, uv, b, other in list(zip(view_a, uv_a, view_b, uv_b, strict=True))[::17]:
        u, v = uv.long()
        point = scene.cameras[a].unproject(scene.depths[a])[v, u]
        assert_close(scene.cameras[b].project(point)[0], other)
    # A board in front of the second camera hides the wall from it, and it from the others.
    depths = scene.depths.clone()
    depths[1] = 1.0
    view_a, _, view_b, _ = correspondences(dataclasses.replace(scene, depths=depths), per_view=100)
    assert set(view_a.tolist()) | set(view_b.tolist()) == {0, 2}
    depths[0] = depths[2] = 0.0
    with pytest.raises(ValueError, match="share a visible point"):
        correspondences(dataclasses.replace(scene, depths=depths))
    with pytest.raises(ValueError, match="has no depths"):
        correspondences(dataclasses.replace(scene, labels=None, depths=None))


def test_cosine_tells_features_of_the_place_from_features_of_the_picture():
    scene = wall(size=64)
    points = torch.stack([c.unproject(d) for c, d in zip(scene.cameras, scene.depths, strict=True)]).movedim(-1, 1)
    waves = torch.cat([torch.sin(points[:, (0, 2)] * k + p) for k in (1.5, 3.0) for p in (0.0, 1.6)], 1)
    place = F.adaptive_avg_pool2d(waves, 16)
    found = cross_view_cosine(place, scene)
    assert found.true > 0.97 and found.margin > 0.5 and found.pairs > 100
    # Fixed to the picture instead of to the wall: agreement is no better than chance.
    picture = torch.randn(3, 8, 16, 16)
    assert abs(cross_view_cosine(picture, scene).margin) < 0.1
    # A large common mean gives a high cosine to any pair; removing it brings the margin back.
    assert cross_view_cosine(place + 10, scene).margin < 0.05
    assert cross_view_cosine(place + 10, scene, center=True).margin > 0.5
