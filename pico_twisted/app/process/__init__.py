"""A daemon as a process: signals, systemd, the reactor, ports."""
