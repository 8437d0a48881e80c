"""inspectctl: the cell from the command line, over SSH. It imports `cell` and speaks ZeroMQ to daemon and trainer."""
