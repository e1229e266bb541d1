"""gRPC through Pico, with grpcio: a service and clients as processes of a virtual environment of their own."""
