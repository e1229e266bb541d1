"""What assembles the daemons: options, services, exit codes. The only package that names a reactor."""
