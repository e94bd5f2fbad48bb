"""The front door."""

from omnimem.client.client import OmniMemClient

__all__ = ["OmniMemClient"]
