"""Trackers mirror a run folder; they are never the record. One file per tracker; adding a file adds a tracker."""

from deeplense.training.trackers.fetch import fetch_from_wandb
from deeplense.training.trackers.tracker import Tracker, log_evaluation, require_tracker, start_tracker

__all__ = ["Tracker", "fetch_from_wandb", "log_evaluation", "require_tracker", "start_tracker"]
