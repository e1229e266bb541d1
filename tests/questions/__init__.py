"""The questions of docs/questions.md, asked of a cluster in which each has an answer that was planted."""
