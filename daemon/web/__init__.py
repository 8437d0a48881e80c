"""inspectd-web: the review, seed, job and live pages. A process of its own that imports `cell` and speaks ZeroMQ."""
