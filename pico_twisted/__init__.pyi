from pico_twisted.door.tunnel import Tunnel as Tunnel

__all__ = ["Tunnel", "__version__"]

__version__: str
