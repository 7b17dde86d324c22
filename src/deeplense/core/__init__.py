"""Machinery that knows nothing of lenses: errors, names, files, seeds, configs and run folders."""
