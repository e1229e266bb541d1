"""picoctl doctor: one line for each thing that can be wrong around a node or an agent."""
