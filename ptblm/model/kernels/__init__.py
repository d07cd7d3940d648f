"""Fused kernels for recurrent layers."""
