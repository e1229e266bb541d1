"""What an agent decides by itself."""
