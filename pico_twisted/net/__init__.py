"""The part that moves bytes: Twisted glue around `pico_twisted.core`, one file to each thing that listens, connects
or waits."""
