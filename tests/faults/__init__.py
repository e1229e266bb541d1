"""What clients see while something goes wrong: load at a constant rate, one fault after the other, and a table."""
