"""Long transfers, many connections and measured times: what is too long or too timed for the test suite."""
