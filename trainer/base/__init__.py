"""The generator's base: its training on rendered surfaces, and the weights that ship."""
