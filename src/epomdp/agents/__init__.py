"""What acts and learns: one readable file per algorithm, shared maths in `ops`."""
