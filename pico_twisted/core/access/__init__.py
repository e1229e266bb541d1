"""Who may do what: subjects, their rules, and limits."""
