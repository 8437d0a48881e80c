"""The held-out products: each file is one product with its own defects."""
