"""Fused kernels for recurrent layers and the loss."""
