"""How the sky is seen: pixels, point-spread function, noise. One TOML file per instrument."""
