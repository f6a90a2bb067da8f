"""Lesson 01, Gaussian splatting: what it asks."""

import torch

from .records import Exercise, Question


def _weights(alphas):
    before = torch.cat([torch.ones(1), torch.cumprod(1 - alphas, 0)])[: len(alphas)]
    return alphas * before


def _rays():
    return {
        "four blobs": (torch.tensor([0.3, 0.5, 0.2, 0.9]),),
        "a blob that lets nothing through": (torch.tensor([0.4, 1.0, 0.7]),),
        "one blob": (torch.tensor([0.6]),),
        "no blob": (torch.zeros(0),),
    }


def _matrix(centers, covariances, opacities, depths, width, height, pixel=0.5, order=True, tilt=1.0, least=1 / 255, back=True):
    """W [H*W, N] of N blobs in the picture; the options are the typical mistakes."""
    rows, columns = torch.meshgrid(torch.arange(height) + pixel, torch.arange(width) + pixel, indexing="ij")
    away = torch.stack([columns.flatten(), rows.flatten()], 1)[:, None] - centers  # [H*W, N, 2]
    conic = torch.linalg.inv(covariances * torch.tensor([[1.0, tilt], [tilt, 1.0]]))
    alphas = opacities * torch.exp(-0.5 * torch.einsum("pni,nij,pnj->pn", away, conic, away))
    alphas = torch.where(alphas < least, 0.0, alphas)
    nearest = depths.argsort() if order else torch.arange(len(depths))
    alphas = alphas[:, nearest]
    before = torch.cumprod(torch.cat([torch.ones(len(alphas), 1), 1 - alphas], 1), 1)[:, : len(depths)]
    weights = alphas * before
    return weights[:, nearest.argsort()] if back else weights


def _pictures():
    drawn = torch.Generator().manual_seed(1)

    def blobs(n, width, height):
        turn = torch.rand(n, generator=drawn) * torch.pi
        R = torch.stack([torch.stack([turn.cos(), -turn.sin()], -1), torch.stack([turn.sin(), turn.cos()], -1)], 1)
        sizes = 0.6 + 2.0 * torch.rand(n, 2, generator=drawn)
        centers = torch.rand(n, 2, generator=drawn) * torch.tensor([float(width), float(height)])
        opacities, depths = 0.3 + 0.6 * torch.rand(n, generator=drawn), 1 + 3 * torch.rand(n, generator=drawn)
        return centers, R @ torch.diag_embed(sizes**2) @ R.mT, opacities, depths, width, height

    centers, covariances, opacities, depths, *size = blobs(5, 9, 7)
    return {
        "14 blobs": blobs(14, 16, 12),
        "from far to near": (centers, covariances, opacities, depths.sort(descending=True).values, *size),
        "one blob": blobs(1, 6, 8),
        "no blob": blobs(0, 4, 3),
    }


EXERCISES = {
    1: Exercise(
        "the weight α·T of each blob on a ray", _weights,
        {
            "T of a blob is what reaches it: the blob itself must not dim it. Shift the product by one, starting with 1.":
                lambda a: a * torch.cumprod(1 - a, 0),
            "The opacity alone is not the weight: what lies in front takes light away.": lambda a: a.clone(),
        },
        "T of the first blob is 1, of the second 1 − α₁; it never grows along the ray.", _rays,
    ),
    2: Exercise(
        "W of a few blobs, entry by entry", _matrix,
        {
            "The blobs come in any order: sort them by depth before you multiply what they let through.":
                lambda *blobs: _matrix(*blobs, order=False),
            "You sorted by depth, and your columns are still sorted: column n must be blob n. order.argsort() puts them back.":
                lambda *blobs: _matrix(*blobs, back=False),
            "The middle of the first pixel lies at (0.5, 0.5), not at (0, 0).": lambda *blobs: _matrix(*blobs, pixel=0.0),
            "A blob may be tilted: the two off-diagonal numbers of its covariance count too.":
                lambda *blobs: _matrix(*blobs, tilt=0.0),
            "An α below 1/255 counts as 0, and yours are kept.": lambda *blobs: _matrix(*blobs, least=0.0),
            "That is α. Its weight is α·T, with T what the nearer blobs let through.":
                lambda c, s, o, d, *size: torch.cat(
                    [_matrix(c[n : n + 1], s[n : n + 1], o[n : n + 1], d[n : n + 1], *size) for n in range(len(d))]
                    or [torch.zeros(size[0] * size[1], 0)], 1),
        },
        "Three steps: α of every pixel and blob; T along each pixel's ray from near to far; columns back in their order.",
        _pictures, minutes=20, tol=1e-4,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "W is the matrix of one view. What are its rows and columns?",
        "A row is a pixel, a column is a Gaussian.",
        "So W @ colors is a list of pixels, and one column, folded to the picture's shape, is the image of one Gaussian.",
        {
            "A row is a Gaussian, a column is a pixel.":
                "That is the transpose. It carries numbers from pixels to Gaussians, which is the next lesson.",
            "A row is a pixel, a column is a color channel.":
                "That is the picture itself, W @ colors. W knows nothing of colors.",
            "A row is an image row, a column is an image column.":
                "A picture is unrolled here: pixel (r, c) is row r · width + c of W.",
        },
    ),
    Question(
        "Three blobs of opacity 0.5 lie one behind the other on a ray. What is the weight of the third?",
        "0.125", "Half the light passes the first, half of that the second, and the third stops half of what is left.",
        {
            "0.5": "That is its opacity, and would be its weight if nothing stood in front.",
            "0.25": "That is what reaches it, its transmittance. It stops half of it.",
            "0.875": "That is the sum of the three weights, the pixel's opacity.",
        },
    ),
    Question(
        "All Gaussians are painted in new colors. What must be computed again for the same camera?",
        "Only the product W @ colors.", "W depends on where the Gaussians are, on their shapes and opacities, and on the camera.",
        {
            "W and the product.": "No entry of W contains a color: α and T come from shape, place and opacity.",
            "Only the transmittances.": "How much light a Gaussian lets through does not depend on its color.",
            "The projection of every Gaussian.": "Means and covariances in the picture are as before.",
        },
    ),
    Question(
        "A row of W sums to 0.3. What does that say?",
        "The Gaussians stop 30 % of the light of this pixel; the rest comes from the background.",
        "The sum of the weights α·T is the pixel's opacity.",
        {
            "The pixel is dark.": "It may be bright: its colors are weighted by 0.3 altogether, the background by 0.7.",
            "Three tenths of the Gaussians touch the pixel.":
                "How many touch it is the number of entries in the row, not their sum.",
            "There is a mistake: rows must sum to 1.":
                "They sum to at most 1. Where no Gaussian lies, a row sums to 0.",
        },
    ),
    Question(
        "A fit's loss falls steadily, and views that were held out get worse. What do you suspect first?",
        "Photos and poses do not belong together.",
        "Each photo can be painted by Gaussians that only its own camera sees; nothing then agrees with another view.",
        {
            "Too few steps.": "With more steps the loss falls further, and held-out views go on getting worse.",
            "The loss is computed on the wrong photos.":
                "Then it could hardly fall: it is computed on the photos that the fit is shown.",
            "Nothing: held-out views always get worse.":
                "With right poses they improved here, although none of their pixels was used.",
        },
    ),
]  # fmt: skip
