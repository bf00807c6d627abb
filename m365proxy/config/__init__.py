"""The configuration file: options, types, what must be consistent."""
