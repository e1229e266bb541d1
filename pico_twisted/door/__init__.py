"""Pico from within a Python program: endpoints of Twisted, tunnels of Twisted and asyncio, a fixture of pytest."""
