"""HTTP towards providers and the pass-through's URL."""
