"""Requests that are odd but legal, and what nginx and HAProxy make of them."""
