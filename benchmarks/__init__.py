"""Load runs against real processes, with nginx's own reverse proxy as the yardstick. See README.md."""
