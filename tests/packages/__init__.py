"""The packages of packaging/: built, installed and used as their readers would, on this machine and on booted ones."""
