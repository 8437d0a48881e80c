"""Templates, scripts, styles and type of the pages, complete: a browser in the cell needs no other host."""
