"""What a benchmark is made of: a suite from TOML, its cells, their state on disk, and the table of them."""
