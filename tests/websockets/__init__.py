"""What Autobahn's suite says of WebSockets through Pico, beside what it says without."""
