"""Depth losses and heads against slow plain versions written from the papers' formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler
from torch.testing import assert_close

from fit3d_lite.probing.depth import EPSILON, gradient_loss, sig_loss
from fit3d_lite.probing.dpt import DPTDepthHead, DPTSegmentationHead
from fit3d_lite.probing.heads import DepthHead, SegmentationHead, bin_probabilities, enlarge, expected_depth


def maps(seed=0, shape=(2, 17, 21)):
    g = torch.Generator().manual_seed(seed)
    truth = 0.5 + 4 * torch.rand(shape, generator=g).double()
    prediction = truth * torch.exp(0.2 * torch.randn(shape, generator=g)).double()
    return prediction, truth.where(torch.rand(shape, generator=g) < 0.8, 0.0)


def plain_sig_loss(prediction, truth, warm_up=False):
    logs = [
        math.log(p + EPSILON) - math.log(t + EPSILON)
        for p, t in zip(prediction.flatten().tolist(), truth.flatten().tolist(), strict=True)
        if t > 0
    ]
    mean = sum(logs) / len(logs)
    variance = sum((x - mean) ** 2 for x in logs) / (len(logs) - 1)
    return math.sqrt((0 if warm_up else variance) + 0.15 * mean**2)


def plain_gradient_loss(prediction, truth):
    total = 0.0
    for step in (1, 2, 4, 8):
        sums, count = 0.0, 0
        for p, t in zip(prediction[:, ::step, ::step], truth[:, ::step, ::step], strict=True):
            d = (torch.log(p + EPSILON) - torch.log(t + EPSILON)).tolist()
            known = (t > 0).tolist()
            for y in range(len(d)):
                for x in range(len(d[0])):
                    count += known[y][x]
                    for v, u in ((y + 1, x), (y, x + 1)):
                        if v < len(d) and u < len(d[0]) and known[y][x] and known[v][u]:
                            sums += abs(d[v][u] - d[y][x])
        total += sums / count
    return total


def test_losses_are_the_formulas():
    prediction, truth = maps()
    assert sig_loss(prediction, truth).item() == pytest.approx(plain_sig_loss(prediction, truth), rel=1e-10)
    warm = sig_loss(prediction, truth, warm_up=True).item()
    assert warm == pytest.approx(plain_sig_loss(prediction, truth, warm_up=True), rel=1e-10)
    assert gradient_loss(prediction, truth).item() == pytest.approx(plain_gradient_loss(prediction, truth), rel=1e-10)


def test_losses_have_right_gradients_and_none_where_depth_is_unknown():
    prediction, truth = maps(shape=(1, 6, 7))
    prediction.requires_grad_()
    for loss in (sig_loss, gradient_loss):
        assert torch.autograd.gradcheck(lambda p: loss(p, truth), prediction)
        (slope,) = torch.autograd.grad(loss(prediction, truth), prediction)
        assert (slope[truth == 0] == 0).all() and (slope[truth > 0] != 0).any()


def test_a_common_factor_costs_only_the_scale_term_and_no_gradient_loss():
    _, truth = maps()
    twice = 2 * (truth + EPSILON) - EPSILON
    assert sig_loss(twice, truth).item() == pytest.approx(math.sqrt(0.15) * math.log(2), rel=1e-6)
    assert gradient_loss(twice.clamp(min=1e-4), truth).item() == pytest.approx(0, abs=1e-6)
    assert sig_loss(truth, truth).item() < 1e-5  # and a perfect map has a finite slope
    perfect = truth.clone().requires_grad_()
    sig_loss(perfect, truth).backward()
    assert perfect.grad.isfinite().all()


def test_the_depth_head_is_the_papers_done_slowly():
    torch.manual_seed(0)
    head = DepthHead(channels=5, cls_channels=3, low=0.5, high=8.0, bins=16).double()
    feats, cls = torch.randn(2, 5, 4, 6).double(), torch.randn(2, 3).double()
    # As DINOv2 describes it: enlarge, put the CLS token beside every place, 1×1 convolution, normalise, expectation.
    fine = F.interpolate(feats, scale_factor=4, mode="bilinear", align_corners=False)
    both = torch.cat([fine, cls[:, :, None, None].expand(-1, -1, *fine.shape[2:])], 1)
    weight = torch.cat([head.patch_score.weight[:, :, 0, 0], head.cls_score.weight], 1)
    expected = torch.zeros(2, 16, 24)
    bins = np.linspace(0.5, 8.0, 16)
    for b in range(2):
        for y in range(16):
            for x in range(24):
                scores = (weight @ both[b, :, y, x] + head.patch_score.bias).tolist()
                positive = [max(s, 0) + 0.1 for s in scores]
                expected[b, y, x] = sum(p / sum(positive) * depth for p, depth in zip(positive, bins, strict=True))
    assert_close(head(feats, cls).float(), expected, atol=1e-5, rtol=1e-5)
    rows, columns = torch.tensor([0, 7, 15]), torch.tensor([3, 23])
    assert_close(head(feats, cls, (rows, columns)).float(), expected[:, rows][:, :, columns], atol=1e-5, rtol=1e-5)


def test_the_expectation_is_that_of_the_probabilities_and_stays_between_the_bins():
    scores, bins = 5 * torch.randn(2, 9, 3, 4), torch.linspace(1.0, 5.0, 9)
    probabilities = bin_probabilities(scores)
    assert_close(probabilities.sum(1), torch.ones(2, 3, 4))
    assert (probabilities > 0).all()
    assert_close(expected_depth(scores, bins), torch.einsum("bkhw,k->bhw", probabilities, bins))
    assert_close(expected_depth(torch.full((1, 9, 1, 1), -3.0), bins).item(), 3.0)  # nothing to go by: the middle


def test_enlarging_at_a_lattice_is_the_whole_map_read_there():
    feats = torch.randn(2, 3, 5, 7)
    whole = F.interpolate(feats, (31, 40), mode="bilinear", align_corners=False)
    rows, columns = torch.tensor([0, 2, 30]), torch.tensor([0, 1, 20, 39])
    assert_close(enlarge(feats, (31, 40)), whole)
    assert_close(enlarge(feats, (31, 40), (rows, columns)), whole[:, :, rows][:, :, :, columns])


def test_the_segmentation_head_standardises_channels_and_maps_them_linearly():
    torch.manual_seed(0)
    head = SegmentationHead(6, 3)
    feats = torch.randn(4, 6, 5, 5) * torch.arange(1, 7)[None, :, None, None] + 3
    rows = feats.movedim(1, -1).reshape(-1, 6).numpy()
    expected = StandardScaler().fit_transform(rows) @ head.score.weight[:, :, 0, 0].detach().numpy().T
    found = head(feats).movedim(1, -1).reshape(-1, 3).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_dpt_reads_all_four_blocks_on_a_grid_four_times_finer():
    torch.manual_seed(0)
    feats = [torch.randn(2, c, 3, 5, requires_grad=True) for c in (4, 4, 6, 6)]
    cls = torch.randn(2, 4, requires_grad=True)
    depth_head = DPTDepthHead((4, 4, 6, 6), 4, 0.1, 8.0, bins=8, width=8)
    depths = depth_head(feats, cls)
    labels = DPTSegmentationHead((4, 4, 6, 6), 7, width=8)(feats)
    assert depths.shape == (2, 12, 20) and labels.shape == (2, 7, 12, 20)
    assert 0.1 < depths.min() and depths.max() < 8.0
    for output, inputs in ((depths, [*feats, cls]), (labels, feats)):
        for slope in torch.autograd.grad(output.square().sum(), inputs):
            assert slope.abs().sum() > 0
    rows, columns = torch.tensor([1, 11]), torch.tensor([0, 19])
    depth_head.eval()
    assert_close(depth_head(feats, cls, (rows, columns)), depth_head(feats, cls)[:, rows][:, :, columns])
