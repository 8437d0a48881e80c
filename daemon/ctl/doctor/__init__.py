"""``inspectctl doctor``: what goes wrong in the field, found before it does. Reads /proc and /sys, changes nothing."""
