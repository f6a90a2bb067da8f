"""The stereo pair: depths, cameras and photos say the same."""

import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fit3d_lite import captures
from fit3d_lite.captures.stereo import moved_over
from fit3d_lite.correspondence.correspond import correspondences
from fit3d_lite.scenes.poses import agreement


def colors(scene, view, uv):  # [V] and [V, 2] pixels -> [V, 3]
    found = torch.empty(len(uv), 3)
    for v in (0, 1):
        grid = (uv[view == v] / torch.tensor([scene.width, scene.height]) * 2 - 1)[None, None]
        found[view == v] = F.grid_sample(scene.images[v : v + 1], grid, align_corners=False)[0, :, 0].T
    return found


def test_both_photos_show_the_same_colors_where_the_depths_say_so():
    scene = captures.stereo()
    assert scene.images.shape == (2, 3, 500, 741)
    known = scene.depths > 0
    assert 0.92 < known[0].float().mean() < 0.94 and 0.8 < known[1].float().mean() < 0.9
    assert 2.1 < scene.depths[known].min() and scene.depths.max() < 5.1
    poses, K = (torch.stack([getattr(c, name) for c in scene.cameras]) for name in ("world_to_camera", "K"))
    assert agreement(poses, K, scene.depths) > 0.85
    view_a, uv_a, view_b, uv_b = correspondences(scene, 2000)
    a, b = colors(scene, view_a, uv_a), colors(scene, view_b, uv_b)
    # Pixels are cut at borders and photos are noisy; a shift of ten pixels triples the difference.
    assert (a - b).abs().mean() < 0.03
    assert (a - colors(scene, view_b, uv_b + torch.tensor([10.0, 0.0]))).abs().mean() > 0.06


def test_another_size_keeps_the_geometry():
    scene = captures.stereo(size=(336, 448))
    assert scene.images.shape[-2:] == scene.depths.shape[-2:] == (336, 448)
    assert_close(scene.cameras[1].K[0, 2] - scene.cameras[0].K[0, 2], torch.tensor(31.086 * 448 / 741))
    assert captures.stereo(size=224).images.shape[-2:] == (224, 332)


def test_depths_move_over_with_the_nearest_in_front_and_gaps_unknown():
    disparity = torch.tensor([[0.0, 0.0, 2.0, 0.0, 0.5, 0.0, 0.0]])
    depth = torch.tensor([[5.0, 5.0, 2.0, 0.0, 4.0, 5.0, 5.0]])
    expected = torch.tensor([[2.0, 5.0, 0.0, 4.0, 4.0, 5.0, 5.0]])
    assert torch.equal(moved_over(depth, disparity), expected)
