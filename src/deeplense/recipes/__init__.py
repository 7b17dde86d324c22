"""A population of scenes × an instrument × counts: a reproducible dataset in one TOML file."""
