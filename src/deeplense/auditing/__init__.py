"""What is wrong with a dataset, before anyone trains on it: pure findings over columns and pixels."""
