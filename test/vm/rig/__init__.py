"""Guests: Linux kernels of our own, for what the machine's kernel lacks (nbd, device mapper)."""
