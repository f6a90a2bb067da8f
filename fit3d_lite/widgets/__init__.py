"""What lives in a notebook's page: sliders, points to turn, photos to click on, plots that renew themselves.

A widget is markup and numbers made here, and page.js, which brings them to life in the browser without a kernel. Read page
first, then slider and points; click holds what the photos to click on share (viz and correspondence fill them); pictures
go in and out; notebook shows a line with its plain twin; alt says in words what a figure shows. Letters: V views, C
channels, h × w patches, H × W pixels, N points.
"""

from .live import LivePlot
from .pictures import load_image, tile, uploaded
from .points import point_view
from .slider import frames_slider

__all__ = ["LivePlot", "frames_slider", "load_image", "point_view", "tile", "uploaded"]
