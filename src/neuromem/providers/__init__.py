"""Models and stores that are plugged in."""
