"""Decoding: the engine's loop, its sequences, alignment between tokenizers, sampling, stopping, text release."""
