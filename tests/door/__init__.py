"""Pico from within a program."""
