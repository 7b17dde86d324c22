"""Layouts in the wild, one file each: every one is read into a `Dataset`."""
