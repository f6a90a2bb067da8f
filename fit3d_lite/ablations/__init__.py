"""When does fine-tuning help? A grid of trainings and controls, each kept as soon as it is measured; gains with intervals.

Read point first (the settings of one training and its reader), then measured (it is trained), judges (what is read from it),
sweep (a grid of them in a file, its points in a folder) and sweep_figures (differences within repetitions, charts); ablate
is their command line.
"""

from .measured import measure
from .point import Point, point_of
from .sweep import course_grid, course_table
from .sweep_figures import gain_chart, gains

__all__ = ["Point", "course_grid", "course_table", "gain_chart", "gains", "measure", "point_of"]
