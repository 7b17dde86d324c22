"""What is wrong with a dataset, before anyone trains on it: pure findings over columns and pixels."""

from deeplense.auditing.before import before_training as before_training
