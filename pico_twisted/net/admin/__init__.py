"""The admin port: status and metrics as HTTP and JSON, for operators, Prometheus and `picoctl`.

`app` imports klein, which installs the global reactor; nothing outside this package does. `status` and `shapes` import
neither.
"""
