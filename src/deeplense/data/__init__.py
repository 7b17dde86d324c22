"""What is stored and read: dataset folders, foreign layouts, splits, transforms, batches."""
