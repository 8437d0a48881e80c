"""Light controllers."""
