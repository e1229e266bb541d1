"""What works on a clone and is in no wheel."""
