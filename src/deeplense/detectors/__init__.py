"""How strange an image is: anomaly scores, one detector per file, fitted on images without substructure alone."""
