"""Tools for the authors of the course: notebook cells, notebook lint, the gallery, the owner's name."""
