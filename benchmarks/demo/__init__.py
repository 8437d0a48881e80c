"""``make demo``: the product's whole loop on an emulated cell, unattended or with a person at the review page."""
