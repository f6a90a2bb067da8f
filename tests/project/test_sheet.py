"""Contact sheets keep every picture."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tools.sheet import contact_sheet


def test_a_contact_sheet_keeps_every_picture_whole_and_titled():
    red, wide = torch.tensor([1.0, 0, 0]).expand(200, 200, 3), torch.tensor([0, 0, 1.0]).expand(100, 200, 3)
    sheet = contact_sheet([red, wide, red], ["a", "b", "a very long title that does not fit"], columns=2, width=212)
    page = np.asarray(sheet.image).astype(int)
    assert page.shape[1] == 212 and "3 pictures" in repr(sheet)
    blue = (page[..., 2] > 200) & (page[..., 0] < 50)
    assert blue.sum() == 97 * 48  # half as high as wide, nothing cut
    assert ((page[..., 0] > 200) & (page[..., 1] < 50)).sum() == 2 * 97 * 97
    assert Image.open(io.BytesIO(sheet._repr_jpeg_())).format == "JPEG"
    both = contact_sheet(torch.rand(5, 3, 130, 130), beneath=torch.rand(5, 130, 130, 3), columns=3)
    assert both.image.height > both.image.width
    with pytest.raises(ValueError, match="5 pictures with 5 titles and 2 pictures beneath"):
        contact_sheet(torch.rand(5, 3, 8, 8), beneath=torch.rand(2, 8, 8, 3))
    with pytest.raises(ValueError, match="40 columns in 300 pixels"):
        contact_sheet(torch.rand(40, 3, 8, 8), columns=40, width=300)
