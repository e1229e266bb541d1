"""picoctl completion: what shells need to complete the commands of Pico."""
