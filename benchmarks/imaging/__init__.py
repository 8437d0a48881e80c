"""What the cell's eyes can do: complete sets at the line's pace, faults found, cameras brought back, and the cost."""
