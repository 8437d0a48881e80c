"""Folders of labelled pictures that other programs wrote, one file a layout; :mod:`trainer.importing` takes them in."""
