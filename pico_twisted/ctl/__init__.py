"""picoctl, the operator's command: asks the admin port of a node, checks configuration files, measures a cluster.

It runs to its end. Of the layers below it knows `config` and the shapes of the admin port, so it starts quickly; each
subcommand brings its imports when it is called. Only `bench` has a reactor, and all of `net`, once it runs.
"""
