"""Machines that boot systemd, on which the documentation is followed."""
