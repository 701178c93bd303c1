"""Tools for the development of this repository. No image and no wheel holds them."""
