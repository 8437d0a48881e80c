"""Domain gap, measured: can synthetic defects be told from real ones, and by what."""
