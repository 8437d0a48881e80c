"""Storage: facts in SQLite, pixels in TIFF; a file is durable before its row."""
