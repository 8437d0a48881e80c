"""The shared vocabulary of inspectd: what every room speaks.

No threads and no vendor SDKs here; the only sockets are in :mod:`cell.wire`, the only database in :mod:`cell.store`.
Imports run one way: ``cell`` <- ``drivers`` <- ``daemon``, ``trainer``.
"""
