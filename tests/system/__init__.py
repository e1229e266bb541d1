"""End-to-end tests: both commands as real processes, real clients, real sockets, nothing imported from the product."""
