"""PointNet: the layers of the paper, whatever the order of the points, and one view knows nothing of another."""

import pytest
import torch
from torch import nn

from fit3d_lite.light3d import PointNet


def views(*counts):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, generator=rng) for n in counts]


def test_it_is_the_network_that_joins_each_point_with_its_views_maximum():
    net, (points,) = PointNet(16).eval(), views(50)
    own = net.near(points)
    joined = torch.cat([own, net.far(own).amax(0).expand(50, -1)], 1)
    whole = nn.Linear(1088, 512, bias=False)
    whole.weight.data = torch.cat([net.of_point.weight, net.of_view.weight], 1)
    torch.testing.assert_close(net([points])[0], net.last(net.mixed(whole(joined))))


def test_order_of_points_and_other_views_change_nothing():
    net, (one, other), order = PointNet(8).eval(), views(40, 25), torch.randperm(40)
    alone = net([one])[0]
    torch.testing.assert_close(net([one[order], other])[0], alone[order])
    assert (net([one[:20]])[0] - alone[:20]).abs().max() > 1e-4  # the maximum sees the points that are gone


def test_a_view_without_points_is_named():
    with pytest.raises(ValueError, match="View 1 has no points"):
        PointNet()([torch.zeros(4, 3), torch.zeros(0, 3)])
