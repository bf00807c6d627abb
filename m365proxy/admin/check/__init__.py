"""`check`: a line for each thing that must be right, with what to do if it is not."""
