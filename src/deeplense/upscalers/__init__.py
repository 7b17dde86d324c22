"""Coarse images to finer ones: one architecture per file."""
