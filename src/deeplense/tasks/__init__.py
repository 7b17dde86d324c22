"""What is asked of the images: one task per file; no training loop here."""
