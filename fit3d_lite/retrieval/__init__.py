"""Reading as retrieval: a character is not classified but found, the nearest among one drawn example of each.

After EffOCR (arXiv 2304.02737). Read fonts.py (characters drawn in typefaces) and lines.py (what is to be read), then
contrast.py (the encoder and its loss), localize.py (where the characters of a line are) and reader.py (search, and words
before characters).

Letters: N pictures, C channels, H × W pixels; ink is 0 on paper and 1 in a stroke.
"""

from .contrast import Encoder, supervised_contrastive, train_encoder, vary
from .fonts import CHARACTERS, FACES, Face, draw, pictures
from .lines import SPOILED, WORDS, lines, page_lines, spoil
from .localize import Line, localize
from .reader import WORD_WIDTH, Index, Reader, cer, tesseract

__all__ = [
    "CHARACTERS", "Encoder", "FACES", "Face", "Index", "Line", "Reader", "SPOILED", "WORDS", "WORD_WIDTH", "cer", "draw",
    "lines", "localize", "page_lines", "pictures", "spoil", "supervised_contrastive", "tesseract", "train_encoder", "vary",
]  # fmt: skip
