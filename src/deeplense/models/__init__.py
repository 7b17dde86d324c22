"""What learns: one family of architectures per file, each registered by name."""
