"""A scene whose every correspondence is known by hand: a wall, and a board in front of it.

Cameras look along +z from z = 0 and stand at ``EYES``. The wall is the plane z = 0.8 m, the board covers |x| < 0.06,
|y| < 0.1 of the plane z = 0.4 m. So the board hides from each camera another part of the wall.
"""

import torch

from fit3d_lite import Camera, Scene

WALL, BOARD, HALF = 0.8, 0.4, (0.06, 0.1)  # metres
EYES = ((-0.1, 0.0), (0.0, 0.02), (0.1, -0.02))


def two_planes(size: int = 64, eyes=EYES, board: bool = True) -> Scene:
    """Views of size × size pixels with depths, and labels: wall left (0), wall right (1), board (2)."""
    K = torch.tensor([[float(size), 0, size / 2], [0, float(size), size / 2], [0, 0, 1]])
    cameras, depths, labels = [], [], []
    for eye in eyes:
        pose = torch.eye(4)
        pose[:2, 3] = -torch.tensor(eye)
        camera = Camera(K, pose, size, size)
        origin, rays = camera.rays()
        hit = on_board(origin + BOARD * rays) & board
        depth = torch.where(hit, BOARD, WALL)
        point = camera.unproject(depth)
        cameras.append(camera), depths.append(depth)
        labels.append(torch.where(hit, 2, (point[..., 0] > 0).long()))
    torch.manual_seed(0)
    images = torch.rand(len(cameras), 3, size, size)
    return Scene(images, tuple(cameras), torch.stack(depths), torch.stack(labels), ("left", "right", "board"), "planes")


def on_board(points):  # [..., 3] in the plane of the board -> [...] bool
    return (points[..., 0].abs() < HALF[0]) & (points[..., 1].abs() < HALF[1])


def hidden_by_board(points, eye):  # [P, 3] -> [P] bool
    """Is the straight line from the eye to a point of the wall broken by the board?"""
    start = torch.tensor([*eye, 0.0])
    crossing = start + (points - start) * (BOARD / points[:, 2:])
    return (points[:, 2] > BOARD + 0.01) & on_board(crossing)


def position_features(scene: Scene):  # [V, 4, H, W]
    """Each pixel's feature is its place in the world, laid on a sphere so that near places have a high cosine."""
    points = torch.stack([c.unproject(d) for c, d in zip(scene.cameras, scene.depths, strict=True)]).movedim(-1, 1)
    square = (points**2).sum(1, keepdim=True)
    return torch.cat([2 * points, square - 1], 1) / (square + 1)
