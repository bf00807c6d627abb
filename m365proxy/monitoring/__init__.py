"""What the running program knows of itself: counters, devices, findings and warnings."""
