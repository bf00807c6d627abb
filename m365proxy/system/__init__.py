"""The machine: files, log, threads, network."""
