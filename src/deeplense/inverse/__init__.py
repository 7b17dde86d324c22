"""Lens modelling: the smooth lens behind an image, and what it leaves unexplained."""
