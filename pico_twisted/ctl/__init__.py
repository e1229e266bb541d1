"""picoctl, the operator's command: asks the admin port of a node, and checks configuration files.

It runs to its end and holds no reactor. Of the layers below it knows `config` and the shapes of the admin port, so it
starts quickly; each subcommand brings its imports when it is called.
"""
