"""How a task is learnt: optimisers and schedules, the loop, checkpoints, trackers."""
